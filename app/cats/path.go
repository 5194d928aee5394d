package cats

import "math"

// path is a sequence of subpaths of lines and cubic Bézier curves.
type path struct {
	verbs  []byte // 'M' one point, 'L' one, 'C' three, 'Z' none
	points []point
}

func (p *path) verb(v byte, pts ...point) *path {
	p.verbs = append(p.verbs, v)
	p.points = append(p.points, pts...)
	return p
}

func (p *path) moveTo(x, y float64) *path { return p.verb('M', point{x, y}) }
func (p *path) lineTo(x, y float64) *path { return p.verb('L', point{x, y}) }
func (p *path) close() *path              { return p.verb('Z') }

func (p *path) cubicTo(x1, y1, x2, y2, x, y float64) *path {
	return p.verb('C', point{x1, y1}, point{x2, y2}, point{x, y})
}

// quadTo raises a quadratic curve to the cubic that is equal to it.
func (p *path) quadTo(x1, y1, x, y float64) *path {
	last, control, end := p.points[len(p.points)-1], point{x1, y1}, point{x, y}
	return p.verb('C', last.toward(control, 2./3), end.toward(control, 2./3), end)
}

func (p *path) append(q *path) *path {
	p.verbs = append(p.verbs, q.verbs...)
	p.points = append(p.points, q.points...)
	return p
}

// bounds is the box of all control points: it holds the path, if not tightly.
func (p *path) bounds() (lo, hi point) {
	lo, hi = point{math.Inf(1), math.Inf(1)}, point{math.Inf(-1), math.Inf(-1)}
	for _, q := range p.points {
		lo = point{min(lo.x, q.x), min(lo.y, q.y)}
		hi = point{max(hi.x, q.x), max(hi.y, q.y)}
	}
	return lo, hi
}

func polygon(pts ...point) *path {
	p := new(path).verb('M', pts[0])
	for _, q := range pts[1:] {
		p.verb('L', q)
	}
	return p.close()
}

// ellipse made of four cubics; kappa makes each the closest to a quarter circle.
func ellipse(cx, cy, rx, ry float64) *path {
	const kappa = 0.5522847498
	kx, ky := rx*kappa, ry*kappa
	return new(path).moveTo(cx+rx, cy).
		cubicTo(cx+rx, cy+ky, cx+kx, cy+ry, cx, cy+ry).
		cubicTo(cx-kx, cy+ry, cx-rx, cy+ky, cx-rx, cy).
		cubicTo(cx-rx, cy-ky, cx-kx, cy-ry, cx, cy-ry).
		cubicTo(cx+kx, cy-ry, cx+rx, cy-ky, cx+rx, cy).close()
}

func rect(x, y, w, h float64) *path {
	return polygon(point{x, y}, point{x + w, y}, point{x + w, y + h}, point{x, y + h})
}

func roundRect(x, y, w, h, r float64) *path {
	return new(path).moveTo(x+r, y).
		lineTo(x+w-r, y).quadTo(x+w, y, x+w, y+r).
		lineTo(x+w, y+h-r).quadTo(x+w, y+h, x+w-r, y+h).
		lineTo(x+r, y+h).quadTo(x, y+h, x, y+h-r).
		lineTo(x, y+r).quadTo(x, y, x+r, y).close()
}

// blob is a smooth closed curve through pts (a Catmull-Rom spline).
func blob(pts ...point) *path {
	n := len(pts)
	p := new(path).verb('M', pts[0])
	for i := range pts {
		catmullRom(p, pts[(i+n-1)%n], pts[i], pts[(i+1)%n], pts[(i+2)%n])
	}
	return p.close()
}

// mirrored is a blob symmetrical about x=0, given by its right half from top to
// bottom; points on the axis are not doubled.
func mirrored(pts ...point) *path {
	all := append([]point(nil), pts...)
	for i := len(pts) - 1; i >= 0; i-- {
		if pts[i].x != 0 {
			all = append(all, point{-pts[i].x, pts[i].y})
		}
	}
	return blob(all...)
}

// curve is a smooth open curve through pts.
func curve(pts ...point) *path {
	n := len(pts)
	p := new(path).verb('M', pts[0])
	for i := 0; i+1 < n; i++ {
		catmullRom(p, pts[max(i-1, 0)], pts[i], pts[i+1], pts[min(i+2, n-1)])
	}
	return p
}

// catmullRom appends the spline's piece from p1 to p2.
func catmullRom(p *path, p0, p1, p2, p3 point) {
	p.verb('C', p1.add(p2.sub(p0).scale(1./6)), p2.sub(p3.sub(p1).scale(1./6)), p2)
}

// lens is a stripe from a to b, pointed at both ends, as wide as width in the
// middle, bent sideways by bend.
func lens(a, b point, width, bend float64) *path {
	side := b.sub(a).unit().left()
	mid := a.toward(b, 0.5)
	c0, c1 := mid.add(side.scale(bend+width)), mid.add(side.scale(bend-width))
	return new(path).moveTo(a.x, a.y).quadTo(c0.x, c0.y, b.x, b.y).quadTo(c1.x, c1.y, a.x, a.y).close()
}

// tube is a thick curve with a width of its own at each place.
type tube struct {
	outline *path
	center  []point // densely along the middle
	normal  []point // unit normals there
	half    []float64
}

// newTube makes a tube along the smooth curve through pts; width gives its full
// width at t from 0 to 1. Both ends are round.
func newTube(width func(t float64) float64, pts ...point) tube {
	var tb tube
	tb.center = curve(pts...).flatten(identity, 6)[0]
	n := len(tb.center)
	var left, right []point
	for i, c := range tb.center {
		d := tb.center[min(i+1, n-1)].sub(tb.center[max(i-1, 0)]).unit()
		h := width(float64(i)/float64(n-1)) / 2
		tb.normal = append(tb.normal, d.left())
		tb.half = append(tb.half, h)
		// Every third is enough for a spline, and less text.
		if i%3 == 0 || i == n-1 {
			left = append(left, c.add(d.left().scale(h)))
			right = append(right, c.sub(d.left().scale(h)))
		}
	}
	p := new(path).verb('M', left[0])
	side := func(s []point) {
		for i := 0; i+1 < len(s); i++ {
			catmullRom(p, s[max(i-1, 0)], s[i], s[i+1], s[min(i+2, len(s)-1)])
		}
	}
	side(left)
	l, r := left[len(left)-1], right[len(right)-1]
	forward := tb.normal[n-1].left().scale(-tb.half[n-1] * 1.25)
	p.verb('C', l.add(forward), r.add(forward), r)
	for i, j := 0, len(right)-1; i < j; i, j = i+1, j-1 {
		right[i], right[j] = right[j], right[i]
	}
	side(right)
	l, r = left[0], right[len(right)-1]
	back := tb.normal[0].left().scale(tb.half[0] * 1.25)
	p.verb('C', r.add(back), l.add(back), l)
	tb.outline = p.close()
	return tb
}

// band is a strip across the tube from t0 to t1, slightly bulging.
func (tb tube) band(t0, t1 float64) *path {
	at := func(t float64) (c, n point) {
		i := min(int(t*float64(len(tb.center)-1)), len(tb.center)-1)
		return tb.center[i], tb.normal[i].scale(tb.half[i] * 1.3)
	}
	c0, n0 := at(t0)
	c1, n1 := at(t1)
	bulge := c1.sub(c0).scale(0.7)
	p := new(path).verb('M', c0.add(n0))
	p.verb('C', c0.add(n0.scale(.3)).add(bulge), c0.sub(n0.scale(.3)).add(bulge), c0.sub(n0))
	p.verb('L', c1.sub(n1))
	p.verb('C', c1.sub(n1.scale(.3)).add(bulge), c1.add(n1.scale(.3)).add(bulge), c1.add(n1))
	return p.close()
}

// flatten returns the path's subpaths as polylines after m, each curve in
// steps lines; steps of 0 chooses by the curve's length.
func (p *path) flatten(m matrix, steps int) [][]point {
	var lines [][]point
	var line []point
	flush := func() {
		if len(line) > 0 {
			lines = append(lines, line)
		}
		line = nil
	}
	i := 0
	for _, v := range p.verbs {
		switch v {
		case 'M':
			flush()
			line = append(line, m.apply(p.points[i]))
			i++
		case 'L':
			line = append(line, m.apply(p.points[i]))
			i++
		case 'C':
			a := line[len(line)-1]
			b, c, d := m.apply(p.points[i]), m.apply(p.points[i+1]), m.apply(p.points[i+2])
			i += 3
			n := steps
			if n == 0 {
				// A line for each 2.5 units of the control polygon: the
				// error stays far below a pixel.
				length := dist(a, b) + dist(b, c) + dist(c, d)
				n = min(max(int(length/2.5), 3), 48)
			}
			for k := 1; k <= n; k++ {
				t := float64(k) / float64(n)
				u := 1 - t
				line = append(line, a.scale(u*u*u).add(b.scale(3*u*u*t)).add(c.scale(3*u*t*t)).add(d.scale(t*t*t)))
			}
		case 'Z':
			if len(line) > 0 {
				line = append(line, line[0])
			}
			flush()
		}
	}
	flush()
	return lines
}

func dist(a, b point) float64 { return math.Hypot(a.x-b.x, a.y-b.y) }

// shifted returns the path moved by (x, y).
func (p *path) shifted(x, y float64) *path {
	q := &path{verbs: p.verbs}
	for _, r := range p.points {
		q.points = append(q.points, point{r.x + x, r.y + y})
	}
	return q
}

// oriented returns the path, which is one closed subpath, turning the way
// ellipses do, so that parts which overlap unite under the non-zero rule.
func oriented(p *path) *path {
	area := 0.0
	for _, l := range p.flatten(identity, 2) {
		for i, q := range l {
			r := l[(i+1)%len(l)]
			area += q.x*r.y - r.x*q.y
		}
	}
	if area >= 0 {
		return p
	}
	n := len(p.verbs) - 1
	rev := new(path)
	for i := len(p.points) - 1; i >= 0; i-- {
		rev.points = append(rev.points, p.points[i])
	}
	rev.verbs = append(rev.verbs, 'M')
	for i := n - 1; i > 0; i-- {
		rev.verbs = append(rev.verbs, p.verbs[i])
	}
	return rev.close()
}
