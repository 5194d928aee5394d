package cats

import "math/rand/v2"

// artist draws one cat. All the methods that draw take the group to draw into.
type artist struct {
	Traits
	dice dice
	coat coat
	back backdrop
	line rgb // outlines
	ink  rgb // mouth, closed eyes, toes: seen on the coat

	flip     bool // patches on the other side
	hasSocks bool
}

// lineWidth is the width of an outline, half of which the fill covers.
const lineWidth = 7

func (c Cat) scene() *group {
	a := &artist{
		Traits: c.Traits,
		dice:   dice{rand.NewPCG(c.jitter[0], c.jitter[1])},
		coat:   coatNamed(c.Coat),
		back:   backdropNamed(c.Backdrop),
	}
	a.line = a.coat.base.mix(a.coat.mark, .5).darken(.42)
	a.ink = a.coat.base.darken(.72)
	if a.coat.dark() {
		a.ink = a.coat.base.lighten(.5)
		a.line = a.coat.base.darken(.55)
	}
	a.flip = a.dice.chance(0.5)
	a.hasSocks = a.Pattern == patternSocks || a.Pattern == patternBicolour

	g := &group{m: identity}
	a.air(g)
	switch a.Pose {
	case poseSitting:
		a.sitting(g)
	case poseLoaf:
		a.loafing(g)
	case poseCurled:
		a.curled(g)
	case poseStanding:
		a.standing(g)
	case poseStretching:
		a.stretching(g)
	case poseBox:
		a.inBox(g)
	case poseFlap:
		a.throughFlap(g)
	}
	return g
}

// fur draws a part of the body: one outline around the paths, which make one
// shape together, the coat's colour with light from above, the pattern, which
// marks adds inside the shape if it is not nil, and a shade towards the ground.
func (a *artist) fur(g *group, base rgb, marks func(*group), parts ...*path) {
	whole := new(path)
	for _, p := range parts {
		whole.append(p)
	}
	lo, hi := whole.bounds()
	g.stroke(whole, plain(a.line), lineWidth)
	g.fill(whole, vertical(lo.y, hi.y, base.lighten(.13), base.darken(.05)))
	g.clipped(whole, func(g *group) {
		a.scatter(g, lo, hi)
		if marks != nil {
			marks(g)
		}
		r := max(hi.x-lo.x, hi.y-lo.y)
		g.fill(rect(lo.x, lo.y, hi.x-lo.x, hi.y-lo.y), radial(point{lo.x + (hi.x-lo.x)*.42, lo.y + (hi.y-lo.y)*.25}, r,
			stop{0, 0xffffff, .1}, stop{.45, 0x402a35, 0}, stop{1, 0x402a35, .3}))
	})
}

// scatter draws the patterns that need no anatomy: spots and patches.
func (a *artist) scatter(g *group, lo, hi point) {
	d := a.dice
	switch {
	case a.Pattern == patternSpotted:
		const step = 34
		for row, y := 0, lo.y+10; y < hi.y; row, y = row+1, y+step*.8 {
			for x := lo.x - step + float64(row%2)*step/2; x < hi.x+step; x += step {
				a.rosette(g, x+d.between(-6, 6), y+d.between(-5, 5), d.between(7, 11))
			}
		}
	case a.Coat == "tortoiseshell":
		for y := lo.y; y < hi.y+20; y += 44 {
			for x := lo.x; x < hi.x+20; x += 50 {
				if d.chance(.62) {
					a.splotch(g, x+d.between(-16, 16), y+d.between(-14, 14), d.between(14, 30), pick(d, a.coat.accents))
				}
			}
		}
	}
}

// rosette is a bengal's spot: a dark ring, open somewhere, with a warm middle.
func (a *artist) rosette(g *group, x, y, r float64) {
	d := a.dice
	turn := d.between(0, 360)
	g.within(place(x, y, turn, 1), func(g *group) {
		g.fill(blob(point{-r, 0}, point{-r * .5, -r * .75}, point{r * .6, -r * .65}, point{r, r * .1}, point{r * .3, r * .8}, point{-r * .6, r * .6}),
			tint(a.coat.mark, .92))
		if r > 8 {
			g.fill(ellipse(r*.08, r*.12, r*.42, r*.36), plain(a.coat.base.mix(a.coat.mark, .35)))
		}
	})
}

// splotch is an irregular patch about r in radius.
func (a *artist) splotch(g *group, x, y, r float64, c rgb) {
	d := a.dice
	w := func() float64 { return r * d.between(.75, 1.2) }
	g.fill(blob(point{x - w(), y}, point{x - w()*.7, y - w()*.6}, point{x + w()*.2, y - w()*.85}, point{x + w(), y - w()*.2},
		point{x + w()*.6, y + w()*.7}, point{x - w()*.3, y + w()*.8}), plain(c))
}

// bars draws n tabby stripes that start along the line from p to q and reach
// along dir, getting shorter to the end.
func (a *artist) bars(g *group, p, q point, n int, dir point) {
	if a.Pattern != patternTabby {
		return
	}
	for i := range n {
		t := (float64(i) + .5) / float64(n)
		from := p.toward(q, t)
		reach := dir.scale(a.dice.between(.8, 1.15))
		g.fill(lens(from.sub(dir.scale(.25)), from.add(reach), a.dice.between(8.5, 11.5), a.dice.between(-5, 5)), plain(a.coat.mark))
	}
}

// patches draws calico's large fields at the given places; tortoiseshell has
// its mottles everywhere already.
func (a *artist) patches(g *group, r float64, at ...point) {
	if a.Pattern != patternPatches || a.Coat == "tortoiseshell" {
		return
	}
	for i, p := range at {
		a.splotch(g, p.x, p.y, r*a.dice.between(.85, 1.15), a.coat.accents[i%len(a.coat.accents)])
	}
}

// bib is white on a bicolour's chest and belly.
func (a *artist) bib(g *group, p *path) {
	if a.Pattern == patternBicolour {
		g.fill(p, plain(a.coat.accents[0]))
	}
}

// soft is the lighter belly of a one-coloured or striped cat.
func (a *artist) soft(g *group, x, y, rx, ry float64) {
	if a.Pattern == patternBicolour || a.Pattern == patternPatches {
		return
	}
	g.within(translate(x, y).mul(scale(1, ry/rx)), func(g *group) {
		g.fill(ellipse(0, 0, rx, rx), radial(point{}, rx, stop{0, a.coat.light, .85}, stop{.6, a.coat.light, .5}, stop{1, a.coat.light, 0}))
	})
}

// pawColour differs from the body's in coats with socks or points.
func (a *artist) pawColour() rgb {
	switch {
	case a.hasSocks:
		return a.coat.accents[0]
	case a.Pattern == patternMask:
		return a.coat.mark
	case a.Coat == "tortoiseshell":
		return pick(a.dice, a.coat.accents)
	}
	return a.coat.base.lighten(.1)
}

// limb is a leg and what it needs to be marked and outlined.
type limb struct {
	tube
	w0, w1 float64 // width at the body and at the paw
	foot   point
	lean   float64 // how far to the side the toes point
}

// newLimb makes a leg along pts, from the body to the paw.
func newLimb(w0, w1, lean float64, pts ...point) limb {
	return limb{newTube(func(t float64) float64 { return w0 + (w1-w0)*t }, pts...), w0, w1, pts[len(pts)-1], lean}
}

// leg draws a leg of its own, darkened by shade.
func (a *artist) leg(g *group, l limb, shade float64) {
	a.fur(g, a.coat.base.darken(shade), func(g *group) { a.legMarks(g, l, shade) }, l.outline)
	a.paw(g, l.foot.x+l.lean, l.foot.y+3, l.w1*.72, shade)
}

// legMarks draws the coat's pattern on a leg, inside an outline that holds it.
func (a *artist) legMarks(g *group, l limb, shade float64) {
	top, n := l.center[0], len(l.center)
	switch {
	case a.Pattern == patternTabby:
		for _, t := range []float64{.36, .58} {
			g.fill(l.band(t, t+.09), tint(a.coat.mark.darken(shade), .9))
		}
	case a.Pattern == patternMask:
		g.clipped(l.outline, func(g *group) {
			c := a.coat.mark.darken(shade)
			g.fill(l.outline, linear(top, l.center[n-1], stop{.2, c, 0}, stop{1, c, .95}))
		})
	case a.hasSocks:
		g.fill(l.band(.62, 1), plain(a.coat.accents[0].darken(shade)))
		g.fill(ellipse(l.foot.x, l.foot.y, l.w1*.6, l.w1*.6), plain(a.coat.accents[0].darken(shade)))
	}
}

// bodyAndLegs draws near legs as one with the body, so that no edge runs
// across the flank: only the inner part of each leg's sides is drawn in.
func (a *artist) bodyAndLegs(g *group, marks func(*group), body *path, legs ...limb) {
	parts := []*path{oriented(body)}
	for _, l := range legs {
		parts = append(parts, oriented(l.outline))
	}
	a.fur(g, a.coat.base, func(g *group) {
		marks(g)
		for _, l := range legs {
			a.legMarks(g, l, 0)
			for _, side := range []float64{-1, 1} {
				n := len(l.center)
				var edge []point
				for i := n * 4 / 10; i < n; i += 2 {
					edge = append(edge, l.center[i].add(l.normal[i].scale(side*l.half[i])))
				}
				g.stroke(curve(edge...), tint(a.line, .55), 4)
			}
		}
	}, parts...)
	for _, l := range legs {
		a.paw(g, l.foot.x+l.lean, l.foot.y+3, l.w1*.72, 0)
	}
}

// paw draws a paw about r wide to each side, with its toes.
func (a *artist) paw(g *group, x, y, r, shade float64) {
	c := a.pawColour().darken(shade)
	p := ellipse(x, y, r, r*.66)
	g.stroke(p, plain(a.line), lineWidth)
	g.fill(p, vertical(y-r*.66, y+r*.66, c.lighten(.1), c.darken(.08)))
	toes := a.line
	if c.luma() < .42 {
		toes = c.lighten(.4)
	}
	for _, dx := range []float64{-.3, .3} {
		g.stroke(new(path).moveTo(x+dx*r, y+r*.12).quadTo(x+dx*r*.95, y+r*.35, x+dx*r, y+r*.5), tint(toes, .75), 3)
	}
}

// tail draws the cat's tail along pts, from its root to its tip. A bob is the
// first part of it only.
func (a *artist) tail(g *group, pts ...point) {
	width := func(t float64) float64 { return 32 - 9*t }
	switch a.Tail {
	case tailBushy:
		width = func(t float64) float64 { return 28 + 108*t*(1-t)*(0.45+0.75*t) + 6*t }
	case tailBob:
		root := pts[0]
		end := root.add(pts[1].sub(root).unit().scale(min(dist(root, pts[1]), 46)))
		pts = []point{root, root.toward(end, .5), end}
		width = func(t float64) float64 { return 34 + 10*t }
	}
	tb := newTube(width, pts...)
	base, tip := a.coat.base, rgb(0)
	switch {
	case a.Pattern == patternMask:
		base = a.coat.mark
	case a.Pattern == patternPatches && a.Coat != "tortoiseshell":
		base = a.coat.accents[len(a.coat.accents)-1]
	case a.hasSocks:
		tip = a.coat.accents[0]
	case a.Pattern == patternTabby || a.Pattern == patternSpotted:
		tip = a.coat.mark
	}
	a.fur(g, base, func(g *group) {
		if a.Pattern == patternTabby || a.Pattern == patternSpotted {
			for t := .12; t < .78; t += .16 {
				g.fill(tb.band(t, t+.075), tint(a.coat.mark, .95))
			}
		}
		if tip != 0 {
			g.fill(tb.band(.84, 1), plain(tip))
			end := tb.center[len(tb.center)-1]
			w := tb.half[len(tb.half)-1] * 1.25
			g.fill(ellipse(end.x, end.y, w, w), plain(tip))
		}
	}, tb.outline)
}
