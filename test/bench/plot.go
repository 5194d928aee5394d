package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
)

// Colours of contestants in the plot, in the order of a run: those of Okabe and Ito,
// which colour-blind readers can tell apart.
var plotColours = []string{"#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999"}

// Sizes in the plot, in pixels.
const (
	plotWidth   = 860
	plotLeft    = 170 // of the bars: room for the measures' names
	plotRight   = 60  // room for a value beyond the last bar
	plotBar     = 13  // height of a bar
	plotGap     = 9   // between measures
	plotTitle   = 34
	plotLegend  = 22
	plotMargin  = 12
	plotMinAxis = 1.2 // the axis reaches at least so far
	plotMaxAxis = 3.0 // and no further; longer bars are cut, their value is written
)

// plotBarData is one bar.
type plotBarData struct {
	contestant int // index
	summary
}

// plotRow is the bars of one measure.
type plotRow struct {
	name string
	bars []plotBarData
}

// writePlot draws the main ratios as an SVG: one block of bars for each setting, one
// group for each measure. Times are turned upside down, so that more is better
// everywhere and 1 is base.
func writePlot(w io.Writer, r *report, names []string, base string) error {
	var b bytes.Buffer
	y := plotMargin
	for _, set := range settingsOf(r) {
		rows, most := plotRows(r, set, names, base)
		if len(rows) == 0 {
			continue
		}
		y = plotBlock(&b, y, set, rows, names, base, min(max(most, plotMinAxis), plotMaxAxis))
	}
	y += plotMargin
	fmt.Fprintf(&b, `<text x="%d" y="%d" fill="#555" font-size="11">%s</text>`+"\n", plotMargin, y, escape(r.Machine.String()))
	y += 15
	fmt.Fprintf(&b, `<text x="%d" y="%d" fill="#555" font-size="11">%s</text>`+"\n", plotMargin, y,
		escape(fmt.Sprintf("%s: medians of %d rounds' ratios, whiskers from the least to the greatest; times are inverted", r.Started.Format("2 January 2006"), r.Rounds)))
	y += plotMargin
	_, err := fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="12">
<rect width="100%%" height="100%%" fill="#fff"/>
%s</svg>
`, plotWidth, y, b.Bytes())
	return err
}

// plotRows returns the rows of a setting, and the greatest value of any.
func plotRows(r *report, set setting, names []string, base string) (rows []plotRow, most float64) {
	for _, res := range r.Results {
		for _, f := range res.Figures {
			if !f.Main || res.Setting != set {
				continue
			}
			row := plotRow{name: res.Measure}
			if f.Key != "rate" && f.Key != res.Measure {
				row.name += " " + f.Key
			}
			for i, name := range names {
				s := f.of(name)
				if name == base || s == nil || s.Ratio == nil {
					continue
				}
				q := *s.Ratio
				if f.Lower {
					q = summary{Median: 1 / q.Median, Min: 1 / q.Max, Max: 1 / q.Min}
				}
				most = max(most, q.Max)
				row.bars = append(row.bars, plotBarData{i, q})
			}
			if len(row.bars) > 0 {
				rows = append(rows, row)
			}
		}
	}
	return rows, most
}

// plotBlock draws a setting from y on, and returns where it ends.
func plotBlock(b *bytes.Buffer, y int, set setting, rows []plotRow, names []string, base string, axis float64) int {
	x := func(v float64) float64 {
		return plotLeft + min(v, axis)/axis*(plotWidth-plotLeft-plotRight)
	}
	text := func(x float64, y int, anchor, extra, s string) {
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="%s"%s>%s</text>`+"\n", x, y, anchor, extra, escape(s))
	}
	text(plotMargin, y+16, "start", ` font-size="15" font-weight="bold"`, fmt.Sprintf("Speed relative to the %s's: %s", base, set))
	y += plotTitle
	left := float64(plotLeft)
	used := map[int]bool{}
	for _, row := range rows {
		for _, bar := range row.bars {
			used[bar.contestant] = true
		}
	}
	for i, name := range names {
		if !used[i] {
			continue
		}
		fmt.Fprintf(b, `<rect x="%.1f" y="%d" width="11" height="11" fill="%s"/>`, left, y-9, colour(i))
		text(left+16, y+1, "start", "", name)
		left += 32 + 8*float64(len(name))
	}
	y += plotLegend
	bottom := y
	for _, row := range rows {
		bottom += len(row.bars)*plotBar + plotGap
	}
	for v := 0.0; v <= axis+1e-9; v += 0.2 {
		style := `stroke="#ddd"`
		if v > 0.99 && v < 1.01 {
			style = `stroke="#000" stroke-dasharray="4 3"`
		}
		fmt.Fprintf(b, `<path d="M%.1f %dV%d" %s fill="none"/>`, x(v), y-5, bottom, style)
		text(x(v), bottom+14, "middle", ` font-size="11"`, fmt.Sprintf("%.1f", v))
	}
	for _, row := range rows {
		text(plotLeft-8, y+len(row.bars)*plotBar/2+4, "end", "", row.name)
		for _, bar := range row.bars {
			middle := float64(y) + plotBar/2.0
			fmt.Fprintf(b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`, plotLeft, y, x(bar.Median)-plotLeft, plotBar-2, colour(bar.contestant))
			fmt.Fprintf(b, `<path d="M%.1f %.1fH%.1f" stroke="#333"/>`, x(bar.Min), middle-1, x(bar.Max))
			text(max(x(bar.Max), x(bar.Median))+5, y+plotBar-3, "start", ` font-size="11"`, digits(bar.Median))
			y += plotBar
		}
		y += plotGap
	}
	return bottom + 34
}

func colour(i int) string { return plotColours[(i+len(plotColours)-1)%len(plotColours)] }

func escape(s string) string {
	var b bytes.Buffer
	xml.EscapeText(&b, []byte(s)) // to memory: no error
	return b.String()
}
