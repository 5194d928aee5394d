package cats

// Each pose is drawn from back to front on the canvas of 512 by 512.

// groundLine is where paws stand.
const groundLine = 448

func (a *artist) sitting(g *group) {
	a.floor(g, 392)
	shadow(g, 262, groundLine+2, 190)
	if a.Tail == tailBob {
		a.tail(g, point{330, 420}, point{392, 400}, point{410, 380})
	} else {
		a.tail(g, point{320, 424}, point{384, 424}, point{432, 376}, point{420, 310}, point{446, 262})
	}
	g.within(translate(256, 0), func(g *group) {
		body := mirrored(point{0, 196}, point{54, 220}, point{82, 290}, point{112, 372}, point{108, 428}, point{54, 450}, point{0, 450})
		a.fur(g, a.coat.base, func(g *group) {
			a.soft(g, 0, 330, 58, 96)
			a.bars(g, point{-84, 270}, point{-122, 400}, 5, point{46, 12})
			a.bars(g, point{84, 270}, point{122, 400}, 5, point{-46, 12})
			a.patches(g, 46, point{-84, 350}, point{80, 300}, point{96, 420})
			a.bib(g, mirrored(point{0, 220}, point{50, 250}, point{58, 330}, point{40, 400}, point{50, 460}, point{0, 470}))
		}, body)
		for _, s := range []float64{-1, 1} {
			a.paw(g, s*76, 440, 34, .04)
			haunch := curve(point{s * 52, 430}, point{s * 50, 390}, point{s * 76, 362}, point{s * 104, 372})
			g.stroke(haunch, tint(a.line, .55), 4.5)
		}
		for _, s := range []float64{-1, 1} {
			a.leg(g, newLimb(46, 40, 0, point{s * 27, 322}, point{s * 27, 380}, point{s * 27, 436}), 0)
		}
		a.chest(g, 262)
	})
	a.head(g, place(256, 176, a.dice.between(-6, 6), 1))
}

// chest covers where the front legs begin with fur, in tufts for long hair.
func (a *artist) chest(g *group, y float64) {
	c := a.coat.base.lighten(.06)
	switch {
	case a.Pattern == patternBicolour:
		c = a.coat.accents[0]
	case a.Pattern == patternPatches && a.Coat != "tortoiseshell":
		c = a.coat.light
	case !a.coat.dark():
		c = a.coat.base.mix(a.coat.light, .6)
	}
	if a.Fur == furLong {
		p := new(path).moveTo(-60, y-20).quadTo(-66, y+30, -46, y+58).lineTo(-36, y+50).quadTo(-32, y+74, -20, y+86).
			lineTo(-12, y+76).lineTo(0, y+98).lineTo(12, y+76).lineTo(20, y+86).quadTo(32, y+74, 36, y+50).
			lineTo(46, y+58).quadTo(66, y+30, 60, y-20).close()
		g.stroke(p, tint(a.line, .6), 4)
		g.fill(p, vertical(y, y+98, c.darken(.1), c.lighten(.1)))
		return
	}
	g.fill(blob(point{-46, y}, point{46, y}, point{44, y + 54}, point{0, y + 96}, point{-44, y + 54}),
		radial(point{0, y + 20}, 84, stop{0, c, 1}, stop{.7, c, .9}, stop{1, c, 0}))
}

func (a *artist) loafing(g *group) {
	a.floor(g, 376)
	x := 256 + a.dice.between(-26, 26)
	a.rug(g, 256, 450, 224)
	shadow(g, 256, 446, 196)
	if a.Tail == tailBob {
		a.tail(g, point{410, 400}, point{466, 392}, point{470, 380})
	}
	a.fur(g, a.coat.base, func(g *group) {
		a.soft(g, x, 400, 90, 70)
		a.bars(g, point{350, 252}, point{432, 390}, 5, point{-50, 26})
		a.bars(g, point{162, 252}, point{80, 390}, 5, point{50, 26})
		a.patches(g, 58, point{130, 330}, point{380, 310}, point{410, 420})
		a.bib(g, blob(point{x - 70, 300}, point{x + 70, 300}, point{x + 80, 400}, point{x + 64, 480}, point{x - 64, 480}, point{x - 80, 400}))
	}, blob(point{256, 244}, point{352, 250}, point{416, 310}, point{434, 390}, point{404, 440}, point{256, 450}, point{108, 440}, point{78, 390}, point{96, 310}, point{160, 250}))
	if a.Tail != tailBob {
		a.tail(g, point{428, 384}, point{424, 436}, point{360, 452}, point{296, 450})
	}
	for _, s := range []float64{-1, 1} {
		a.paw(g, x+s*36, 440, 34, 0)
	}
	g.within(translate(x, 0), func(g *group) { a.chest(g, 316) })
	a.head(g, place(x, 246, a.dice.between(-5, 5), 1.02))
}

func (a *artist) curled(g *group) {
	a.floor(g, 350)
	f := a.back.fabric
	shadow(g, 256, 462, 240)
	// A round basket cushion: its back rim, then the cat, then the front rim.
	g.fill(ellipse(256, 410, 226, 66), plain(f.darken(.25)))
	g.fill(ellipse(256, 402, 212, 56), vertical(346, 460, f.darken(.1), f.lighten(.25)))
	if a.Tail == tailBob {
		a.tail(g, point{410, 380}, point{466, 366}, point{470, 350})
	}
	a.fur(g, a.coat.base, func(g *group) {
		a.soft(g, 220, 420, 110, 50)
		a.bars(g, point{196, 246}, point{420, 300}, 6, point{-14, 62})
		a.bars(g, point{430, 310}, point{440, 390}, 2, point{-62, 26})
		a.patches(g, 62, point{240, 270}, point{390, 330}, point{300, 400})
		a.bib(g, blob(point{110, 380}, point{200, 330}, point{300, 370}, point{330, 440}, point{200, 470}))
	}, blob(point{262, 238}, point{350, 250}, point{420, 304}, point{436, 376}, point{392, 430}, point{256, 446}, point{120, 430}, point{84, 370}, point{112, 296}, point{180, 250}))
	g.stroke(curve(point{318, 424}, point{300, 366}, point{340, 320}, point{398, 326}), tint(a.line, .5), 4.5)
	if a.Tail != tailBob {
		a.tail(g, point{428, 364}, point{420, 424}, point{350, 446}, point{262, 440})
	}
	a.paw(g, 240, 432, 30, 0)
	a.head(g, place(166, 352, -9, .84))
	rim := new(path).moveTo(30, 414).cubicTo(50, 486, 462, 486, 482, 414).cubicTo(500, 444, 470, 492, 256, 494).cubicTo(42, 492, 12, 444, 30, 414).close()
	g.stroke(rim, plain(f.darken(.42)), 5)
	g.fill(rim, vertical(420, 494, f.lighten(.22), f.darken(.08)))
	for i := range 11 {
		x := 76 + 36*float64(i)
		dx := (x - 256) / 226
		y := 480 - 24*dx*dx
		g.stroke(new(path).moveTo(x, y-8).lineTo(x+dx*6, y+4), tint(f.darken(.35), .5), 3)
	}
	// Zzz
	for i, z := range []point{{92, 214}, {70, 166}, {96, 114}} {
		k := 9 + 4*float64(i)
		p := new(path).moveTo(z.x-k, z.y-k).lineTo(z.x+k, z.y-k).lineTo(z.x-k, z.y+k).lineTo(z.x+k, z.y+k)
		g.stroke(p, tint(a.sky(), .9), 4+float64(i))
	}
}

// sky is a colour seen on the air.
func (a *artist) sky() rgb {
	if a.back.dark() {
		return a.back.ornament
	}
	return a.back.ground.darken(.4)
}

func (a *artist) standing(g *group) {
	a.floor(g, 384)
	shadow(g, 268, groundLine+4, 200)
	a.tail(g, point{398, 290}, point{446, 252}, point{448, 190}, point{424, 140}, point{450, 98})
	// The far legs first, in shade.
	a.leg(g, newLimb(52, 36, -6, point{222, 330}, point{224, 380}, point{222, 432}), .16)
	a.leg(g, newLimb(56, 36, -6, point{352, 330}, point{362, 384}, point{348, 432}), .16)
	a.bodyAndLegs(g, func(g *group) {
		a.soft(g, 270, 372, 120, 36)
		a.bars(g, point{210, 232}, point{412, 256}, 7, point{-4, 60})
		a.patches(g, 52, point{270, 260}, point{380, 320}, point{170, 350})
		a.bib(g, blob(point{120, 270}, point{170, 290}, point{190, 340}, point{280, 362}, point{380, 372}, point{340, 400}, point{150, 400}))
	}, blob(point{150, 250}, point{220, 238}, point{300, 244}, point{370, 236}, point{416, 270}, point{418, 330}, point{380, 364}, point{290, 362}, point{200, 372}, point{146, 346}, point{132, 296}),
		newLimb(56, 40, -7, point{176, 320}, point{176, 380}, point{170, 436}),
		newLimb(76, 40, -7, point{382, 306}, point{396, 376}, point{384, 436}))
	a.head(g, place(160, 200, a.dice.between(-8, 4), .88))
}

func (a *artist) stretching(g *group) {
	a.floor(g, 384)
	shadow(g, 250, groundLine+4, 216)
	a.tail(g, point{396, 226}, point{446, 180}, point{452, 112}, point{420, 66})
	a.leg(g, newLimb(62, 36, -6, point{362, 280}, point{366, 360}, point{350, 432}), .16)
	a.leg(g, newLimb(40, 34, -8, point{230, 396}, point{150, 420}, point{106, 434}), .16)
	a.bodyAndLegs(g, func(g *group) {
		a.soft(g, 250, 420, 90, 40)
		a.bars(g, point{232, 310}, point{404, 206}, 7, point{24, 56})
		a.patches(g, 52, point{300, 290}, point{400, 270}, point{220, 390})
		a.bib(g, blob(point{150, 390}, point{220, 380}, point{290, 380}, point{330, 350}, point{300, 450}, point{160, 460}))
	}, blob(point{176, 340}, point{240, 306}, point{310, 248}, point{364, 198}, point{412, 210}, point{430, 262}, point{412, 316}, point{350, 352}, point{300, 400}, point{240, 432}, point{180, 428}, point{152, 388}),
		newLimb(84, 40, -7, point{388, 262}, point{402, 362}, point{392, 436}),
		newLimb(50, 40, -8, point{226, 396}, point{140, 426}, point{82, 438}))
	a.head(g, place(168, 304, a.dice.between(-10, -2), .84))
}

func (a *artist) inBox(g *group) {
	a.floor(g, 384)
	shadow(g, 256, 462, 226)
	const card, edge = rgb(0xd9a871), rgb(0x8a5f38)
	// Inside of the box, then the cat, then its front.
	g.fill(polygon(point{120, 318}, point{392, 318}, point{404, 346}, point{108, 346}), plain(card.darken(.5)))
	if a.Tail != tailBob {
		a.tail(g, point{372, 352}, point{396, 300}, point{380, 240}, point{408, 190})
	}
	a.fur(g, a.coat.base, func(g *group) {
		a.patches(g, 40, point{190, 320}, point{320, 300})
		a.bib(g, blob(point{216, 270}, point{296, 270}, point{306, 380}, point{206, 380}))
	}, roundRect(166, 240, 180, 150, 60))
	front := polygon(point{106, 342}, point{406, 342}, point{390, 462}, point{122, 462})
	for _, s := range []float64{-1, 1} {
		flap := polygon(point{256 + s*150, 342}, point{256 + s*206, 384}, point{256 + s*192, 412}, point{256 + s*142, 366})
		g.stroke(flap, plain(edge), 5)
		g.fill(flap, vertical(342, 412, card.lighten(.12), card.darken(.12)))
	}
	g.stroke(front, plain(edge), 6)
	g.fill(front, vertical(342, 462, card.lighten(.1), card.darken(.14)))
	g.fill(polygon(point{238, 342}, point{274, 342}, point{273, 386}, point{256, 378}, point{239, 386}), tint(0xf2dcae, .9))
	g.within(place(256, 424, a.dice.between(-8, 8), 1), func(g *group) {
		if a.dice.chance(.5) {
			g.fill(heart(0, 0, 17), plain(a.back.fabric))
		} else {
			pawPrint(g, 0, 4, 1, edge)
		}
	})
	a.head(g, place(256, 232, a.dice.between(-7, 7), 1.04))
	for _, s := range []float64{-1, 1} {
		a.paw(g, 256+s*92, 342, 32, 0)
	}
}

func pawPrint(g *group, x, y, k float64, c rgb) {
	g.fill(blob(point{x - 13*k, y + 8*k}, point{x - 7*k, y - 3*k}, point{x, y - 6*k}, point{x + 7*k, y - 3*k}, point{x + 13*k, y + 8*k}, point{x, y + 11*k}), plain(c))
	for _, t := range []point{{-16, -6}, {-6, -16}, {6, -16}, {16, -6}} {
		g.fill(ellipse(x+t.x*k, y+t.y*k, 4.6*k, 6*k), plain(c))
	}
}

func (a *artist) throughFlap(g *group) {
	a.floor(g, 420)
	f := a.back.fabric
	wood := f.mix(a.back.bottom, .35)
	if d := wood.luma() - a.coat.base.luma(); d < .12 && d > -.12 {
		wood = wood.darken(.35)
	}
	// The door, nearly as wide as the picture.
	g.fill(rect(30, -10, 452, 482), plain(wood.darken(.45)))
	g.fill(rect(38, -10, 436, 478), vertical(0, 470, wood.lighten(.14), wood.darken(.06)))
	for _, x := range []float64{72, 276} {
		g.fill(roundRect(x, -30, 164, 104, 10), plain(wood.darken(.2)))
		g.fill(roundRect(x+7, -30, 150, 97, 8), vertical(0, 70, wood.lighten(.08), wood.lighten(.2)))
	}
	g.fill(ellipse(446, 250, 15, 15), plain(0x8a5f1c))
	g.fill(ellipse(445, 248, 12.5, 12.5), radial(point{441, 243}, 18, stop{0, 0xfff0b0, 1}, stop{1, 0xd09a34, 1}))

	// The flap's frame and the dark behind it.
	frame := archPath(256, 96, 166, 366)
	g.stroke(frame, plain(wood.darken(.5)), 8)
	g.fill(frame, vertical(96, 462, 0xfbfbf8, 0xd8dbe0))
	hole := archPath(256, 116, 144, 328)
	g.fill(hole, vertical(116, 444, 0x2b2738, 0x4a4459))
	g.clipped(hole, func(g *group) {
		a.fur(g, a.coat.base, func(g *group) {
			a.soft(g, 256, 400, 70, 80)
			a.bars(g, point{330, 330}, point{356, 440}, 3, point{-40, 8})
			a.bars(g, point{182, 330}, point{156, 440}, 3, point{40, 8})
			a.patches(g, 44, point{176, 420}, point{340, 400})
			a.bib(g, blob(point{206, 330}, point{306, 330}, point{316, 470}, point{196, 470}))
		}, mirrored(point{0, 300}, point{66, 320}, point{100, 400}, point{104, 480}, point{0, 500}).shifted(256, 0))
	})
	// The flap itself, pushed up and towards us: it leans on the ears.
	flap := new(path).moveTo(136, 214).cubicTo(120, 120, 170, 66, 256, 66).cubicTo(342, 66, 392, 120, 376, 214).quadTo(256, 176, 136, 214).close()
	g.fill(rect(104, 446, 304, 16), plain(0xc3c8d0))
	a.head(g, place(256, 296, a.dice.between(-6, 6), 1.02))
	g.fill(flap, linear(point{150, 80}, point{360, 210}, stop{0, 0xffffff, .62}, stop{.45, 0xdff1fb, .3}, stop{.55, 0xffffff, .5}, stop{1, 0xbfe0f2, .34}))
	g.stroke(flap, tint(0xffffff, .85), 5)
	g.fill(roundRect(236, 182, 40, 10, 5), tint(0xffffff, .8))
	for _, s := range []float64{-1, 1} {
		a.paw(g, 256+s*64, 448, 34, 0)
	}
}
