package cats

import (
	"math"
	"strconv"
)

// rgb is an opaque sRGB colour, 0xRRGGBB.
type rgb uint32

func (c rgb) channels() (r, g, b float64) {
	return float64(c >> 16 & 0xff), float64(c >> 8 & 0xff), float64(c & 0xff)
}

// mix goes from c (t=0) to d (t=1).
func (c rgb) mix(d rgb, t float64) rgb {
	r0, g0, b0 := c.channels()
	r1, g1, b1 := d.channels()
	lerp := func(a, b float64) rgb { return rgb(a + (b-a)*t + 0.5) }
	return lerp(r0, r1)<<16 | lerp(g0, g1)<<8 | lerp(b0, b1)
}

func (c rgb) lighten(t float64) rgb { return c.mix(0xffffff, t) }

// darken goes towards a deep warm brown: shadows that tend to black look dirty.
func (c rgb) darken(t float64) rgb { return c.mix(0x2a1a1f, t) }

// luma is the perceived lightness, 0 to 1 (ITU-R BT.601 weights).
func (c rgb) luma() float64 {
	r, g, b := c.channels()
	return (0.299*r + 0.587*g + 0.114*b) / 255
}

// distance is the length of the line from c to d in the cube of channels.
func (c rgb) distance(d rgb) float64 {
	r0, g0, b0 := c.channels()
	r1, g1, b1 := d.channels()
	return math.Sqrt((r1-r0)*(r1-r0) + (g1-g0)*(g1-g0) + (b1-b0)*(b1-b0))
}

func (c rgb) String() string {
	s := strconv.FormatUint(uint64(c|1<<24), 16)
	return "#" + s[1:]
}

// paint colours a fill or a stroke: one colour, or a gradient between stops in
// the coordinates of the shape.
type paint struct {
	stops  []stop // one stop: plain colour
	radial bool
	from   point   // start of a linear gradient, centre of a radial one
	to     point   // end of a linear gradient
	radius float64 // of a radial gradient
}

// stop is a colour at a place between 0 and 1 of a gradient.
type stop struct {
	at    float64
	color rgb
	alpha float64
}

func plain(c rgb) paint               { return tint(c, 1) }
func tint(c rgb, alpha float64) paint { return paint{stops: []stop{{0, c, alpha}}} }
func vertical(y0, y1 float64, c0, c1 rgb) paint {
	return linear(point{0, y0}, point{0, y1}, stop{0, c0, 1}, stop{1, c1, 1})
}

func linear(from, to point, stops ...stop) paint {
	return paint{stops: stops, from: from, to: to}
}

func radial(center point, radius float64, stops ...stop) paint {
	return paint{stops: stops, radial: true, from: center, radius: radius}
}

// glow fades c from alpha in the centre to nothing at radius.
func glow(center point, radius float64, c rgb, alpha float64) paint {
	return radial(center, radius, stop{0, c, alpha}, stop{0.55, c, alpha * 0.5}, stop{1, c, 0})
}

// fade returns a gradient whose alpha runs from alpha to nothing.
func (p paint) fade(alpha float64) paint {
	p.stops = append([]stop(nil), p.stops...)
	for i := range p.stops {
		p.stops[i].alpha = alpha * (1 - p.stops[i].at)
	}
	return p
}
