package cats

import (
	"encoding/xml"
	"strconv"
	"strings"
)

// svgWriter writes a scene as SVG 1.1: attributes only, no style, no script, no
// reference out of the document.
type svgWriter struct {
	defs, body []byte
	gradients  map[string]string // definition without id to id
	clips      int
}

// svg returns the scene as a document with a title and a description.
func (g *group) svg(title, description string) []byte {
	w := svgWriter{gradients: make(map[string]string)}
	w.group(g)
	size := strconv.Itoa(canvasSize)
	var b strings.Builder
	b.WriteString(`<svg xmlns="http://www.w3.org/2000/svg" width="` + size + `" height="` + size +
		`" viewBox="0 0 ` + size + ` ` + size + `" role="img" aria-labelledby="t d"><title id="t">`)
	_ = xml.EscapeText(&b, []byte(title)) // a Builder does not fail
	b.WriteString(`</title><desc id="d">`)
	_ = xml.EscapeText(&b, []byte(description))
	b.WriteString("</desc>\n<defs>\n")
	b.Write(w.defs)
	b.WriteString("</defs>\n")
	b.Write(w.body)
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

func (w *svgWriter) group(g *group) {
	open := "<g"
	if g.m != identity {
		open += ` transform="matrix(` + numbers(g.m.a, g.m.b, g.m.c, g.m.d, g.m.e, g.m.f) + `)"`
	}
	if g.clip != nil {
		w.clips++
		id := "c" + strconv.Itoa(w.clips)
		w.defs = append(w.defs, `<clipPath id="`+id+`"><path d="`...)
		w.defs = appendPath(w.defs, g.clip)
		w.defs = append(w.defs, "\"/></clipPath>\n"...)
		open += ` clip-path="url(#` + id + `)"`
	}
	w.body = append(w.body, open+">\n"...)
	for _, n := range g.nodes {
		switch n := n.(type) {
		case *group:
			w.group(n)
		case *shape:
			w.shape(n)
		}
	}
	w.body = append(w.body, "</g>\n"...)
}

func (w *svgWriter) shape(s *shape) {
	w.body = append(w.body, `<path d="`...)
	w.body = appendPath(w.body, s.path)
	value, alpha := w.paint(s.paint)
	kind := "fill"
	if s.width > 0 {
		kind = "stroke"
		w.body = append(w.body, `" fill="none" stroke-linecap="round" stroke-linejoin="round" stroke-width="`+numbers(s.width)...)
	}
	w.body = append(w.body, `" `+kind+`="`+value...)
	if alpha < 1 {
		w.body = append(w.body, `" `+kind+`-opacity="`+numbers(alpha)...)
	}
	w.body = append(w.body, "\"/>\n"...)
}

// paint returns the attribute's value and the opacity beside it.
func (w *svgWriter) paint(p paint) (value string, alpha float64) {
	if len(p.stops) == 1 {
		return p.stops[0].color.String(), p.stops[0].alpha
	}
	def, end := ` gradientUnits="userSpaceOnUse"`, "</linearGradient>\n"
	if p.radial {
		def = `<radialGradient id="%"` + def + attributes("cx", p.from.x, "cy", p.from.y, "r", p.radius)
		end = "</radialGradient>\n"
	} else {
		def = `<linearGradient id="%"` + def + attributes("x1", p.from.x, "y1", p.from.y, "x2", p.to.x, "y2", p.to.y)
	}
	def += ">"
	for _, s := range p.stops {
		def += "<stop" + attributes("offset", s.at) + ` stop-color="` + s.color.String() + `"`
		if s.alpha < 1 {
			def += attributes("stop-opacity", s.alpha)
		}
		def += "/>"
	}
	def += end
	id, ok := w.gradients[def]
	if !ok {
		id = "g" + strconv.Itoa(len(w.gradients)+1)
		w.gradients[def] = id
		w.defs = append(w.defs, strings.Replace(def, "%", id, 1)...)
	}
	return "url(#" + id + ")", 1
}

func appendPath(b []byte, p *path) []byte {
	i := 0
	for _, v := range p.verbs {
		b = append(b, v)
		n := map[byte]int{'M': 1, 'L': 1, 'C': 3}[v]
		for k := range n {
			if k > 0 {
				b = append(b, ' ')
			}
			b = appendNumber(b, p.points[i].x, 1)
			b = append(b, ' ')
			b = appendNumber(b, p.points[i].y, 1)
			i++
		}
	}
	return b
}

func attributes(namesAndValues ...any) string {
	var b []byte
	for i := 0; i < len(namesAndValues); i += 2 {
		b = append(b, ' ')
		b = append(b, namesAndValues[i].(string)...)
		b = append(b, `="`...)
		b = appendNumber(b, namesAndValues[i+1].(float64), 2)
		b = append(b, '"')
	}
	return string(b)
}

func numbers(vs ...float64) string {
	var b []byte
	for i, v := range vs {
		if i > 0 {
			b = append(b, ' ')
		}
		b = strconv.AppendFloat(b, v, 'g', 4, 64)
	}
	return string(b)
}

// appendNumber writes a number with at most so many decimals: one is a tenth of
// a pixel at the picture's own size.
func appendNumber(b []byte, v float64, decimals int) []byte {
	n := len(b)
	b = strconv.AppendFloat(b, v, 'f', decimals, 64)
	for b[len(b)-1] == '0' {
		b = b[:len(b)-1]
	}
	if b[len(b)-1] == '.' {
		b = b[:len(b)-1]
	}
	if string(b[n:]) == "-0" {
		b = append(b[:n], '0')
	}
	return b
}
