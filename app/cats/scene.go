package cats

import "math"

// A scene is a vector picture: groups of filled and stroked paths, in drawing
// order. It is written as SVG text (svg.go) or rasterised (raster.go); both show
// the same picture.

// canvasSize is the width and height of a scene in its own units.
const canvasSize = 512

type point struct{ x, y float64 }

func (p point) add(q point) point               { return point{p.x + q.x, p.y + q.y} }
func (p point) sub(q point) point               { return point{p.x - q.x, p.y - q.y} }
func (p point) scale(k float64) point           { return point{p.x * k, p.y * k} }
func (p point) toward(q point, t float64) point { return p.add(q.sub(p).scale(t)) }

// unit returns p at length 1; the zero vector stays as it is.
func (p point) unit() point {
	if l := math.Hypot(p.x, p.y); l > 0 {
		return p.scale(1 / l)
	}
	return p
}

// left returns p turned by a quarter.
func (p point) left() point { return point{-p.y, p.x} }

// matrix is an affine map: x' = a x + c y + e, y' = b x + d y + f.
type matrix struct{ a, b, c, d, e, f float64 }

var identity = matrix{a: 1, d: 1}

func (m matrix) apply(p point) point {
	return point{m.a*p.x + m.c*p.y + m.e, m.b*p.x + m.d*p.y + m.f}
}

// mul returns the map that applies n first, then m.
func (m matrix) mul(n matrix) matrix {
	return matrix{
		m.a*n.a + m.c*n.b, m.b*n.a + m.d*n.b,
		m.a*n.c + m.c*n.d, m.b*n.c + m.d*n.d,
		m.a*n.e + m.c*n.f + m.e, m.b*n.e + m.d*n.f + m.f,
	}
}

func (m matrix) det() float64 { return m.a*m.d - m.b*m.c }

// inverse of a map with det != 0.
func (m matrix) inverse() matrix {
	k := 1 / m.det()
	return matrix{m.d * k, -m.b * k, -m.c * k, m.a * k,
		(m.c*m.f - m.d*m.e) * k, (m.b*m.e - m.a*m.f) * k}
}

func translate(x, y float64) matrix { return matrix{1, 0, 0, 1, x, y} }
func scale(x, y float64) matrix     { return matrix{x, 0, 0, y, 0, 0} }

// rotate turns by degrees, clockwise as seen, y pointing down.
func rotate(degrees float64) matrix {
	sin, cos := math.Sincos(degrees * math.Pi / 180)
	return matrix{cos, sin, -sin, cos, 0, 0}
}

// place puts something drawn around the origin at (x, y).
func place(x, y, degrees, size float64) matrix {
	return translate(x, y).mul(rotate(degrees)).mul(scale(size, size))
}

// group is a sequence of nodes under one map and, if clip is not nil, cut to a
// path in the group's own coordinates.
type group struct {
	m     matrix
	clip  *path
	nodes []node
}

// node is a *group or a *shape.
type node interface{}

// shape is a path with a fill, or with a stroke of a width in its own units,
// with round caps and joins.
type shape struct {
	path  *path
	paint paint
	width float64 // 0: filled
}

func (g *group) fill(p *path, with paint) {
	g.nodes = append(g.nodes, &shape{path: p, paint: with})
}

func (g *group) stroke(p *path, with paint, width float64) {
	g.nodes = append(g.nodes, &shape{path: p, paint: with, width: width})
}

// within draws under a further map.
func (g *group) within(m matrix, draw func(*group)) {
	sub := &group{m: m}
	draw(sub)
	g.nodes = append(g.nodes, sub)
}

// clipped draws inside a path only.
func (g *group) clipped(p *path, draw func(*group)) {
	sub := &group{m: identity, clip: p}
	draw(sub)
	if len(sub.nodes) > 0 {
		g.nodes = append(g.nodes, sub)
	}
}
