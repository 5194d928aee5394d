package cats

// The head is drawn around the origin, about 212 wide and 164 high without the
// ears, looking at the viewer.

// head draws what the cat wears around its neck and the head above it.
func (a *artist) head(g *group, m matrix) {
	g.within(m, func(g *group) {
		a.neckwear(g)
		for _, side := range []float64{-1, 1} {
			g.within(scale(side, 1), func(g *group) { a.ear(g, side) })
		}
		skull := mirrored(point{0, -80}, point{50, -74}, point{90, -40}, point{106, 10}, point{91, 53}, point{48, 77}, point{0, 83})
		parts := []*path{skull}
		if a.Fur == furLong {
			for _, s := range []float64{-1, 1} {
				parts = append(parts,
					oriented(polygon(point{s * 94, -6}, point{s * 128, 20}, point{s * 98, 30})),
					oriented(polygon(point{s * 100, 18}, point{s * 124, 48}, point{s * 84, 50})),
					oriented(polygon(point{s * 92, 38}, point{s * 104, 72}, point{s * 60, 66})))
			}
		}
		a.fur(g, a.coat.base, a.faceMarks, parts...)
		a.muzzle(g)
		for _, side := range []float64{-1, 1} {
			g.fill(ellipse(side*68, 38, 24, 24), glow(point{side * 68, 38}, 24, 0xff8f8f, .38))
		}
		a.eyes(g)
		a.noseAndMouth(g)
		a.whiskers(g)
		if a.Fur == furLong {
			a.forelock(g)
		}
		if a.Wears == wearsFlower {
			a.flower(g)
		}
	})
}

// ear draws the right ear; the group mirrors it for the left one.
func (a *artist) ear(g *group, side float64) {
	base := a.coat.base
	patched := a.Pattern == patternPatches && a.Coat != "tortoiseshell"
	switch {
	case a.Pattern == patternMask:
		base = a.coat.mark
	case patched && (side < 0) == a.flip:
		base = a.coat.accents[0]
	case patched:
		base = a.coat.accents[len(a.coat.accents)-1]
	case a.Coat == "tortoiseshell" && (side < 0) == a.flip:
		base = a.coat.accents[0]
	}
	inner := rgb(0xf4b3ae)
	if base.luma() < .42 {
		inner = 0xb98088
	}
	if a.Ears == earsFolded {
		p := new(path).moveTo(24, -70).quadTo(48, -108, 84, -98).quadTo(106, -78, 102, -20).close()
		a.fur(g, base, nil, p)
		flap := new(path).moveTo(34, -84).quadTo(66, -112, 96, -82).quadTo(94, -58, 74, -42).quadTo(50, -54, 34, -84).close()
		g.stroke(flap, plain(a.line), lineWidth*.7)
		g.fill(flap, vertical(-104, -42, base.lighten(.06), base.darken(.12)))
		return
	}
	p := new(path).moveTo(20, -72).cubicTo(34, -104, 60, -132, 82, -140).cubicTo(98, -112, 106, -70, 103, -12).close()
	a.fur(g, base, nil, p)
	in := new(path).moveTo(42, -76).cubicTo(52, -98, 66, -114, 79, -120).cubicTo(88, -100, 94, -76, 93, -46).close()
	g.fill(in, vertical(-120, -46, inner.darken(.12), inner.lighten(.22)))
	for i := range 3 {
		x := 46 + 14*float64(i)
		g.fill(lens(point{x, -62}, point{x + 12, -98 + 3*float64(i)}, 5, 2), tint(a.coat.light, .85))
	}
	if a.Ears == earsTufted {
		for i, end := range []point{{84, -178}, {98, -172}, {76, -168}} {
			g.fill(lens(point{81, -128}, end, 9-float64(i), -2), plain(base.darken(.3)))
		}
	}
}

// faceMarks draws the coat's pattern inside the skull.
func (a *artist) faceMarks(g *group) {
	mark := plain(a.coat.mark)
	switch a.Pattern {
	case patternTabby, patternSpotted:
		for _, s := range []float64{-1, 1} {
			// Half of the M, a crown stripe and the cheek stripes.
			g.fill(lens(point{s * 46, -30}, point{s * 30, -84}, 9, 0), mark)
			g.fill(lens(point{s * 31, -80}, point{s * 3, -38}, 9, s*3), mark)
			if a.Pattern == patternTabby {
				g.fill(lens(point{s * 58, -84}, point{s * 64, -44}, 8, 0), mark)
				g.fill(lens(point{s * 116, -4}, point{s * 76, 8}, 8, s*4), mark)
				g.fill(lens(point{s * 118, 22}, point{s * 80, 26}, 8, s*3), mark)
				g.fill(lens(point{s * 108, 52}, point{s * 76, 46}, 7, s*2), mark)
			}
		}
		g.fill(lens(point{0, -94}, point{0, -52}, 9, 0), mark)
	case patternBicolour:
		white := mirrored(point{0, -66}, point{7, -50}, point{13, -20}, point{22, 14}, point{50, 28}, point{74, 46}, point{72, 92}, point{0, 104})
		g.fill(white, plain(a.coat.accents[0]))
	case patternSocks:
		g.fill(mirrored(point{0, 18}, point{24, 30}, point{48, 46}, point{40, 90}, point{0, 104}), plain(a.coat.accents[0]))
	case patternMask:
		g.fill(ellipse(0, 22, 92, 92), radial(point{0, 26}, 92, stop{0, a.coat.mark, 1}, stop{.45, a.coat.mark, .94}, stop{.72, a.coat.mark, .5}, stop{1, a.coat.mark, 0}))
	case patternPatches:
		s := 1.0
		if a.flip {
			s = -1
		}
		first, last := a.coat.accents[0], a.coat.accents[len(a.coat.accents)-1]
		if a.Coat == "tortoiseshell" {
			// One half of the face is red: the line runs down the nose.
			g.fill(blob(point{s * 2, -96}, point{s * -60, -96}, point{s * -124, -10}, point{s * -90, 40}, point{s * -40, 50}, point{s * -4, 30}, point{s * -14, -20}), plain(first))
			g.fill(lens(point{s * 2, -90}, point{s * 14, -34}, 14, 0), plain(last))
			return
		}
		g.fill(blob(point{s * -8, -100}, point{s * -16, -56}, point{s * -22, -14}, point{s * -52, 26}, point{s * -92, 28}, point{s * -130, -20}, point{s * -80, -100}), plain(last))
		g.fill(blob(point{s * 14, -100}, point{s * 30, -52}, point{s * 70, -36}, point{s * 120, -22}, point{s * 110, -90}, point{s * 60, -110}), plain(first))
	}
}

// muzzle is the soft light field around nose and mouth.
func (a *artist) muzzle(g *group) {
	c, alpha := a.coat.light, .8
	switch {
	case a.Pattern == patternMask:
		return
	case a.hasSocks || a.Pattern == patternPatches && !a.coat.dark():
		c, alpha = 0xffffff, .9
	case a.coat.dark():
		alpha = .75
	}
	for _, s := range []float64{-1, 1} {
		g.fill(ellipse(s*19, 49, 27, 20), radial(point{s * 17, 46}, 28, stop{0, c, alpha}, stop{.7, c, alpha * .8}, stop{1, c, alpha * .2}))
	}
	g.fill(ellipse(0, 66, 17, 12), tint(c, alpha*.8))
}

// faceInk is the colour of lines on the middle of the face.
func (a *artist) faceInk() rgb {
	switch {
	case a.Pattern == patternMask:
		return a.coat.mark.darken(.55)
	case a.hasSocks:
		return 0x5a4448
	}
	return a.ink
}

func (a *artist) noseAndMouth(g *group) {
	ink := a.faceInk()
	mouth := new(path).moveTo(0, 40).lineTo(0, 47)
	mouth.append(curve(point{0, 47}, point{-9, 54}, point{-20, 50})).append(curve(point{0, 47}, point{9, 54}, point{20, 50}))
	if a.Pose != poseCurled && a.dice.chance(.22) {
		tongue := new(path).moveTo(-8, 52).cubicTo(-9, 70, 9, 70, 8, 52).close()
		g.fill(tongue, vertical(50, 68, 0xd9606c, 0xf4929a))
	}
	g.stroke(mouth, plain(ink), 3.6)
	nose := new(path).moveTo(-12, 29).quadTo(0, 24, 12, 29).quadTo(12, 36, 0, 42).quadTo(-12, 36, -12, 29).close()
	g.fill(nose, vertical(26, 42, a.coat.nose.lighten(.18), a.coat.nose.darken(.1)))
	g.fill(ellipse(-3, 30, 4, 1.8), tint(0xffffff, .6))
}

func (a *artist) whiskers(g *group) {
	c := tint(a.line, .75)
	if a.coat.dark() || a.Pattern == patternMask {
		c = tint(0xffffff, .85)
	}
	for _, s := range []float64{-1, 1} {
		for i, end := range []point{{132, 26}, {138, 48}, {126, 70}} {
			from := point{s * (42 - 2*float64(i)), 42 + 6*float64(i)}
			g.fill(lens(from, point{s * end.x, end.y}, 2.6, s*-5), c)
		}
	}
}

// forelock is the tuft between a long-haired cat's ears.
func (a *artist) forelock(g *group) {
	p := new(path).moveTo(-24, -78).quadTo(-20, -98, -8, -104).quadTo(-8, -92, -2, -88).
		quadTo(4, -104, 20, -104).quadTo(14, -92, 26, -78).quadTo(0, -66, -24, -78).close()
	top := a.coat.base.lighten(.13)
	if a.Pattern == patternPatches && a.Coat != "tortoiseshell" {
		top = a.coat.light
	}
	g.stroke(new(path).moveTo(-24, -80).quadTo(-20, -98, -8, -104).quadTo(-8, -92, -2, -88).quadTo(4, -104, 20, -104).quadTo(14, -92, 26, -80), plain(a.line), lineWidth*.55)
	g.fill(p, plain(top))
}

// eyes draws both eyes, open or not.
func (a *artist) eyes(g *group) {
	for _, s := range []float64{-1, 1} {
		colour := a.RightEye
		if s < 0 {
			colour = a.LeftEye
		}
		g.within(translate(s*45, 4).mul(scale(s, 1)), func(g *group) {
			switch {
			case a.Pose == poseCurled:
				a.closedEye(g, 9)
			case a.EyeShape == eyesWinking && (s > 0) != a.flip:
				a.closedEye(g, -13)
			default:
				a.openEye(g, eyeColours[colour], s)
			}
		})
	}
}

// closedEye is an arc that sags by depth (asleep) or arches (a wink).
func (a *artist) closedEye(g *group, depth float64) {
	ink := a.ink
	if a.Pattern == patternMask || a.Pattern == patternPatches && a.Coat != "tortoiseshell" {
		// The arc lies half on a dark field: outlined in light.
		g.stroke(curve(point{-22, 2}, point{0, 2 + depth}, point{22, 2}), tint(a.coat.light, .85), 9)
		ink = a.coat.mark.darken(.5)
	}
	g.stroke(curve(point{-22, 2}, point{0, 2 + depth}, point{22, 2}), plain(ink), 5.5)
	if depth > 0 {
		g.stroke(new(path).moveTo(19, 5).lineTo(25, 10), plain(ink), 3.5)
		g.stroke(new(path).moveTo(10, 9).lineTo(14, 16), plain(ink), 3.5)
	}
}

// openEye draws an eye around the origin, its outer corner to the right; side
// is -1 where the group is mirrored, so that both eyes catch the same light.
func (a *artist) openEye(g *group, c rgb, side float64) {
	rim := rgb(0x2b2129)
	lens := ellipse(0, 0, 25, 27)
	pupilX, pupilY := 13.0, 19.0
	if a.EyeShape == eyesAlmond {
		lens = new(path).moveTo(-27, 9).cubicTo(-20, -20, 10, -30, 31, -13).cubicTo(30, 10, 4, 30, -27, 9).close()
		pupilX, pupilY = 8, 19
	}
	g.stroke(lens, plain(rim), 6)
	g.fill(lens, radial(point{0, 12}, 36, stop{0, c.lighten(.42), 1}, stop{.5, c, 1}, stop{1, c.darken(.38), 1}))
	g.clipped(lens, func(g *group) {
		g.fill(ellipse(0, 0, pupilX, pupilY), plain(0x1d1720))
		if a.EyeShape == eyesSleepy {
			lid := a.coat.base.darken(.08)
			if a.Pattern == patternMask {
				lid = a.coat.mark.lighten(.12)
			}
			g.fill(new(path).moveTo(-32, -34).lineTo(32, -34).lineTo(32, 1).quadTo(0, -9, -32, 1).close(), plain(lid))
			g.stroke(new(path).moveTo(-32, 1).quadTo(0, -9, 32, 1), plain(rim), 5)
			return
		}
		g.fill(rect(-32, -34, 64, 22), vertical(-30, -12, rim, rim).fade(.4))
	})
	if a.EyeShape == eyesSleepy {
		g.fill(ellipse(-side*6, 6, 4.5, 4.5), tint(0xffffff, .95))
		return
	}
	g.fill(ellipse(-side*8, -9, 7, 7.5), tint(0xffffff, .97))
	g.fill(ellipse(side*8, 10, 3.2, 3.2), tint(0xffffff, .8))
	if a.EyeShape == eyesRound {
		g.stroke(new(path).moveTo(20, -20).lineTo(28, -26), plain(rim), 4)
	}
}

// neckwear is drawn before the head, which covers its upper edge.
func (a *artist) neckwear(g *group) {
	f := a.back.fabric
	if a.Wears == wearsNothing || a.Wears == wearsFlower {
		return
	}
	if a.Wears == wearsScarf {
		p := new(path).moveTo(-78, 50).quadTo(0, 112, 78, 50).quadTo(60, 100, 6, 148).quadTo(0, 152, -6, 148).quadTo(-60, 100, -78, 50).close()
		g.stroke(p, plain(f.darken(.4)), 5)
		g.fill(p, vertical(60, 150, f.lighten(.1), f.darken(.12)))
		g.clipped(p, func(g *group) {
			for _, q := range []point{{-40, 88}, {-14, 100}, {14, 100}, {40, 88}, {-24, 116}, {0, 124}, {24, 116}} {
				g.fill(ellipse(q.x, q.y, 4, 4), tint(0xffffff, .8))
			}
		})
		return
	}
	band := new(path).moveTo(-74, 56).quadTo(0, 122, 74, 56)
	g.stroke(band, plain(f.darken(.4)), 21)
	g.stroke(band, plain(f), 15)
	switch a.Wears {
	case wearsBell:
		g.fill(ellipse(0, 104, 16.5, 16.5), plain(0x8a5f1c))
		g.fill(ellipse(0, 104, 14, 14), radial(point{-4, 99}, 20, stop{0, 0xfff0b0, 1}, stop{.5, 0xf4c34a, 1}, stop{1, 0xc98a22, 1}))
		g.stroke(new(path).moveTo(-13, 103).lineTo(13, 103), plain(0x8a5f1c), 2.4)
		g.fill(ellipse(0, 110, 3.2, 3.2), plain(0x6b4614))
	case wearsTag:
		g.fill(ellipse(0, 108, 15, 15), plain(0x6f7b8c))
		g.fill(ellipse(0, 108, 12.5, 12.5), radial(point{-4, 103}, 20, stop{0, 0xffffff, 1}, stop{1, 0xb9c4d2, 1}))
		g.fill(heart(0, 108, 7), plain(f))
	case wearsBow:
		for _, s := range []float64{-1, 1} {
			wing := new(path).moveTo(0, 96).cubicTo(s*14, 78, s*40, 72, s*48, 78).quadTo(s*54, 98, s*48, 118).cubicTo(s*40, 122, s*14, 116, 0, 100).close()
			g.stroke(wing, plain(f.darken(.4)), 5)
			g.fill(wing, vertical(76, 120, f.lighten(.2), f.darken(.1)))
			g.fill(lens(point{s * 8, 98}, point{s * 36, 92}, 4, 0), tint(f.darken(.4), .5))
		}
		g.fill(roundRect(-12, 85, 24, 26, 9), plain(f.darken(.4)))
		g.fill(roundRect(-9.5, 87.5, 19, 21, 7), vertical(86, 108, f.lighten(.3), f))
	}
}

func (a *artist) flower(g *group) {
	s := 1.0
	if a.flip {
		s = -1
	}
	f := a.back.fabric
	g.within(place(s*66, -74, -12*s, 1), func(g *group) {
		g.fill(lens(point{10 * s, 6}, point{44 * s, 18}, 12, 0), plain(0x6fa65a))
		for i := range 5 {
			g.within(rotate(float64(i)*72), func(g *group) {
				petal := ellipse(0, -17, 12, 14)
				g.stroke(petal, plain(f.darken(.3)), 3.5)
				g.fill(petal, vertical(-31, 0, f.lighten(.5), f.lighten(.12)))
			})
		}
		g.fill(ellipse(0, 0, 9, 9), plain(0xf9d35b))
	})
}

// heart is r wide to each side of its middle.
func heart(x, y, r float64) *path {
	return new(path).moveTo(x, y+r).
		cubicTo(x-r*1.9, y-r*.2, x-r*.9, y-r*1.4, x, y-r*.4).
		cubicTo(x+r*.9, y-r*1.4, x+r*1.9, y-r*.2, x, y+r).close()
}
