package cats

import "slices"

// backdrop is the scenery: two tones of air, one of the ground, one for shapes.
type backdrop struct {
	name             string
	top, bottom      rgb
	ground, ornament rgb
	fabric           rgb // collars, cushions, mats
}

var backdrops = []backdrop{
	{"mint", 0xd9f2e3, 0xb5e0cb, 0x93cbb2, 0xf4fff8, 0xe8736f},
	{"peach", 0xffe6d3, 0xffcdb0, 0xf3ae8c, 0xfff6ec, 0x4d8fa8},
	{"sky", 0xd9ecfb, 0xb4d8f5, 0x94c2e6, 0xffffff, 0xf0a13a},
	{"lavender", 0xece3f8, 0xd4c4ee, 0xb8a4dc, 0xfaf6ff, 0xe0709a},
	{"butter", 0xfff4cf, 0xffe39a, 0xf0c96c, 0xfffcee, 0x6a7fc4},
	{"rose", 0xfde1e4, 0xf8c1c9, 0xe8a0ac, 0xfff4f5, 0x4f9d8c},
	{"sage", 0xe3ebd6, 0xc6d6b0, 0xa6bc8b, 0xf8fbf1, 0xd8694f},
	{"teal", 0xa5d8d6, 0x6fb9ba, 0x4f9a9e, 0xd9f3f0, 0xf2b84b},
	{"dusk", 0xf7c9b6, 0xc99bb5, 0x8f76a4, 0xffe9c9, 0xf5d06f},
	{"night", 0x3c4a78, 0x5d6ba3, 0x323d66, 0xfff3c4, 0xe8876a},
}

func backdropNamed(name string) backdrop {
	return backdrops[slices.IndexFunc(backdrops, func(b backdrop) bool { return b.name == name })]
}

// suits reports whether a cat stands out from the backdrop: by its colour, and
// a dark cat not in the dark.
func (b backdrop) suits(c coat) bool {
	const apart = 60 // of 441, the distance from black to white; found by looking
	return b.bottom.distance(c.base) > apart && !(c.dark() && b.dark())
}

// dark reports whether it is night.
func (b backdrop) dark() bool { return b.top.luma() < 0.5 }

// air paints everything behind the cat.
func (a *artist) air(g *group) {
	b := a.back
	g.fill(rect(0, 0, canvasSize, canvasSize), vertical(0, 470, b.top, b.bottom))
	d := a.dice
	switch kind := d.intn(5); {
	case b.dark():
		g.fill(ellipse(400, 96, 46, 46), radial(point{388, 86}, 70, stop{0, 0xfffbe6, 1}, stop{1, 0xf3dd97, 1}))
		g.fill(ellipse(400, 96, 96, 96), glow(point{400, 96}, 96, 0xfff3c4, 0.35))
		for range 26 {
			x, y, r := d.between(12, 500), d.between(12, 330), d.between(1.2, 3.6)
			g.fill(sparkle(x, y, r*2.2), tint(b.ornament, d.between(0.45, 0.95)))
		}
	case kind == 0: // a sun disc with rings
		x := d.between(190, 322)
		for i, r := range []float64{226, 186, 146} {
			g.fill(ellipse(x, 226, r, r), tint(b.ornament, 0.22+0.08*float64(i)))
		}
	case kind == 1: // hills
		x := d.between(-40, 40)
		g.fill(ellipse(90+x, 430, 230, 170), tint(b.ground.mix(b.bottom, .55), 0.8))
		g.fill(ellipse(420+x, 440, 240, 210), tint(b.ground.mix(b.bottom, .35), 0.7))
		cloud(g, d.between(70, 150), d.between(70, 120), 1, b.ornament)
		cloud(g, d.between(350, 430), d.between(50, 100), 0.8, b.ornament)
	case kind == 2: // a window
		window := func(grow float64) *path { return archPath(256, 40-grow, 150+grow, 330+2*grow) }
		g.fill(window(12), plain(b.ornament))
		g.fill(window(0), vertical(40, 370, b.bottom.mix(0x9fd3f5, .6).lighten(.25), b.top.lighten(.3)))
		g.clipped(window(0), func(g *group) {
			cloud(g, d.between(150, 200), 150, 1, 0xffffff)
			cloud(g, d.between(300, 360), 110, 0.8, 0xffffff)
		})
		g.fill(rect(250, 40, 12, 330), plain(b.ornament))
		g.fill(rect(106, 196, 300, 10), plain(b.ornament))
	case kind == 3: // dots, larger towards the bottom
		for row := range 7 {
			for col := range 8 {
				x := float64(col)*74 + float64(row%2)*37 - 6
				y := float64(row)*62 + 20
				g.fill(ellipse(x, y, 5+float64(row), 5+float64(row)), tint(b.ornament, 0.6))
			}
		}
	default: // drifting shapes
		for range 9 {
			x, y, r := d.between(0, 512), d.between(0, 380), d.between(20, 74)
			g.fill(blob(
				point{x - r, y + d.between(-.2, .2)*r}, point{x - .5*r, y - r*d.between(.6, .9)},
				point{x + .6*r, y - r*d.between(.6, .9)}, point{x + r, y + d.between(-.2, .2)*r},
				point{x + .5*r, y + r*d.between(.6, .9)}, point{x - .6*r, y + r*d.between(.6, .9)},
			), tint(b.ornament, 0.38))
		}
	}
}

// floor paints the ground, with its top at y.
func (a *artist) floor(g *group, y float64) {
	b := a.back
	g.fill(new(path).moveTo(0, y+14).quadTo(256, y-16, 512, y+14).lineTo(512, 512).lineTo(0, 512).close(),
		vertical(y, 512, b.ground, b.ground.mix(b.bottom, .45)))
}

// shadow is the soft shadow of something r wide that stands at (x, y).
func shadow(g *group, x, y, r float64) {
	g.within(translate(x, y).mul(scale(1, 0.17)), func(g *group) {
		g.fill(ellipse(0, 0, r, r), glow(point{}, r, 0x33223a, 0.5))
	})
}

// rug is a round mat seen from the side.
func (a *artist) rug(g *group, x, y, r float64) {
	f := a.back.fabric
	g.fill(ellipse(x, y, r, r*0.19), plain(f.darken(.1)))
	g.fill(ellipse(x, y-3, r, r*0.18), plain(f.lighten(.18)))
	g.fill(ellipse(x, y-3, r*.86, r*0.145), plain(f.lighten(.36)))
	g.fill(ellipse(x, y-3, r*.8, r*0.13), plain(f.lighten(.24)))
}

func cloud(g *group, x, y, k float64, c rgb) {
	p := ellipse(x-34*k, y+8*k, 30*k, 18*k)
	p.append(ellipse(x, y-4*k, 34*k, 28*k)).append(ellipse(x+36*k, y+8*k, 30*k, 19*k))
	p.append(roundRect(x-60*k, y+6*k, 122*k, 22*k, 11*k))
	g.fill(p, tint(c, 0.75))
}

// sparkle is a star of four points.
func sparkle(x, y, r float64) *path {
	i := r * 0.22
	return polygon(point{x, y - r}, point{x + i, y - i}, point{x + r, y}, point{x + i, y + i},
		point{x, y + r}, point{x - i, y + i}, point{x - r, y}, point{x - i, y - i})
}

// archPath is a door or window with a round top: half as wide as halfWidth says,
// its top at y, h high.
func archPath(cx, y, halfWidth, h float64) *path {
	const k = 0.5522847498
	l, r, s := cx-halfWidth, cx+halfWidth, y+halfWidth
	return new(path).moveTo(l, y+h).lineTo(l, s).
		cubicTo(l, s-halfWidth*k, cx-halfWidth*k, y, cx, y).
		cubicTo(cx+halfWidth*k, y, r, s-halfWidth*k, r, s).
		lineTo(r, y+h).close()
}
