package cats

import (
	"bytes"
	"image"
	"image/draw"
	"image/png"
	"math"

	"golang.org/x/image/vector"
)

// png returns the scene as a PNG of size by size pixels.
func (g *group) png(size int) ([]byte, error) {
	var b bytes.Buffer
	// The pictures are smooth gradients, which compress to about the same size
	// at any level; the fastest takes a fraction of the time.
	enc := png.Encoder{CompressionLevel: png.BestSpeed}
	if err := enc.Encode(&b, g.rasterise(size)); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// rasterise draws the scene with anti-aliasing. The scene's first shape is
// expected to cover the canvas; what nothing covers stays black.
func (g *group) rasterise(size int) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, size, size))
	for i := 3; i < len(img.Pix); i += 4 {
		img.Pix[i] = 0xff
	}
	r := raster{img: img, z: vector.NewRasterizer(size, size)}
	k := float64(size) / canvasSize
	r.group(g, scale(k, k), nil)
	return img
}

type raster struct {
	img  *image.RGBA // opaque throughout
	z    *vector.Rasterizer
	mask []byte // reused for each shape's coverage
}

func (r *raster) group(g *group, m matrix, clip *image.Alpha) {
	m = m.mul(g.m)
	if g.clip != nil {
		clip = r.clip(g.clip, m, clip)
		if clip.Rect.Empty() {
			return
		}
	}
	for _, n := range g.nodes {
		switch n := n.(type) {
		case *group:
			r.group(n, m, clip)
		case *shape:
			lines := n.path.flatten(m, 0)
			if n.width > 0 {
				lines = outlineStroke(lines, n.width*math.Sqrt(math.Abs(m.det())))
			}
			if cover := r.coverage(lines, clip, r.mask); cover != nil {
				r.mask = cover.Pix
				r.blend(cover, clip, n.paint, m)
			}
		}
	}
}

// clip returns the coverage of a path, times the clip around it.
func (r *raster) clip(p *path, m matrix, outer *image.Alpha) *image.Alpha {
	c := r.coverage(p.flatten(m, 0), outer, nil)
	if c == nil {
		return new(image.Alpha)
	}
	if outer != nil {
		for y := c.Rect.Min.Y; y < c.Rect.Max.Y; y++ {
			row := c.Pix[c.PixOffset(c.Rect.Min.X, y):][:c.Rect.Dx()]
			out := outer.Pix[outer.PixOffset(c.Rect.Min.X, y):][:c.Rect.Dx()]
			for i := range row {
				row[i] = uint8(uint32(row[i]) * uint32(out[i]) / 255)
			}
		}
	}
	return c
}

// coverage rasterises closed polylines by the non-zero rule, within the image
// and clip's bounds, into buf if it is large enough. It returns nil when
// nothing is covered.
func (r *raster) coverage(lines [][]point, clip *image.Alpha, buf []byte) *image.Alpha {
	lo, hi := point{math.Inf(1), math.Inf(1)}, point{math.Inf(-1), math.Inf(-1)}
	for _, l := range lines {
		for _, p := range l {
			lo = point{min(lo.x, p.x), min(lo.y, p.y)}
			hi = point{max(hi.x, p.x), max(hi.y, p.y)}
		}
	}
	within := r.img.Rect
	if clip != nil {
		within = clip.Rect
	}
	if !(lo.x < hi.x) || hi.x < 0 || hi.y < 0 || lo.x > float64(within.Max.X) || lo.y > float64(within.Max.Y) {
		return nil
	}
	box := image.Rect(int(math.Floor(lo.x)), int(math.Floor(lo.y)), int(math.Ceil(hi.x)), int(math.Ceil(hi.y))).Intersect(within)
	if box.Empty() {
		return nil
	}
	if n := box.Dx() * box.Dy(); cap(buf) >= n {
		buf = buf[:n]
	} else {
		buf = make([]byte, n)
	}
	a := &image.Alpha{Pix: buf, Stride: box.Dx(), Rect: box}
	r.z.Reset(box.Dx(), box.Dy())
	r.z.DrawOp = draw.Src
	x0, y0 := float64(box.Min.X), float64(box.Min.Y)
	for _, l := range lines {
		r.z.MoveTo(float32(l[0].x-x0), float32(l[0].y-y0))
		for _, p := range l[1:] {
			r.z.LineTo(float32(p.x-x0), float32(p.y-y0))
		}
		r.z.ClosePath()
	}
	r.z.Draw(a, box, image.Opaque, image.Point{})
	return a
}

// blend paints where cover and clip allow; m maps the paint's coordinates to
// pixels.
func (r *raster) blend(cover, clip *image.Alpha, p paint, m matrix) {
	ramp := p.ramp()
	inv := m.inverse()
	axis := p.to.sub(p.from)
	if !p.radial && len(ramp) > 1 {
		axis = axis.scale(1 / (axis.x*axis.x + axis.y*axis.y)) // t is a product with this
	}
	x0, width := cover.Rect.Min.X, cover.Rect.Dx()
	for y := cover.Rect.Min.Y; y < cover.Rect.Max.Y; y++ {
		row := cover.Pix[cover.PixOffset(x0, y):][:width]
		dst := r.img.Pix[r.img.PixOffset(x0, y):][:4*width]
		var cut []byte
		if clip != nil {
			cut = clip.Pix[clip.PixOffset(x0, y):][:width]
		}
		// Where the row's first pixel, sampled in its middle, lies in the
		// paint's coordinates, and how far it is from one to the next.
		q := inv.apply(point{float64(x0) + 0.5, float64(y) + 0.5}).sub(p.from)
		t0, dt := q.x*axis.x+q.y*axis.y, inv.a*axis.x+inv.b*axis.y
		for i, a := range row {
			alpha := uint32(a)
			if cut != nil {
				alpha = alpha * uint32(cut[i]) / 255
			}
			if alpha == 0 {
				continue
			}
			c := &ramp[0]
			if len(ramp) > 1 {
				t := t0 + float64(i)*dt
				if p.radial {
					x, y := q.x+float64(i)*inv.a, q.y+float64(i)*inv.b
					t = math.Sqrt(x*x+y*y) / p.radius
				}
				c = &ramp[int(min(max(t, 0), 1)*rampSize+0.5)]
			}
			px := dst[4*i : 4*i+3 : 4*i+3]
			const opaque = 255 * 256
			switch k := alpha * c[3]; k { // coverage times the paint's own alpha
			case 0:
			case opaque:
				px[0], px[1], px[2] = uint8(c[0]), uint8(c[1]), uint8(c[2])
			default:
				px[0] = uint8((uint32(px[0])*(opaque-k) + c[0]*k + opaque/2) / opaque)
				px[1] = uint8((uint32(px[1])*(opaque-k) + c[1]*k + opaque/2) / opaque)
				px[2] = uint8((uint32(px[2])*(opaque-k) + c[2]*k + opaque/2) / opaque)
			}
		}
	}
}

// rampSize is how many steps a gradient has: more than an 8-bit channel shows.
const rampSize = 512

// ramp tabulates the paint as red, green, blue (0 to 255) and alpha (0 to 256):
// one entry for a plain colour, rampSize+1 for a gradient.
func (p paint) ramp() [][4]uint32 {
	entry := func(s stop) [4]uint32 {
		r, g, b := s.color.channels()
		return [4]uint32{uint32(r), uint32(g), uint32(b), uint32(s.alpha*256 + 0.5)}
	}
	if len(p.stops) == 1 {
		return [][4]uint32{entry(p.stops[0])}
	}
	ramp := make([][4]uint32, rampSize+1)
	k := 0
	for i := range ramp {
		t := float64(i) / rampSize
		for k+2 < len(p.stops) && t > p.stops[k+1].at {
			k++
		}
		a, b := p.stops[k], p.stops[k+1]
		u := min(max((t-a.at)/(b.at-a.at), 0), 1)
		ramp[i] = entry(stop{t, a.color.mix(b.color, u), a.alpha + (b.alpha-a.alpha)*u})
	}
	return ramp
}

// outlineStroke returns polygons that together cover a stroke with round caps
// and joins: a disc at each vertex and a box along each line, all turning the
// same way, so that the non-zero rule unites them.
func outlineStroke(lines [][]point, width float64) [][]point {
	h := width / 2
	corners := min(max(int(h*2)+6, 8), 32)
	var out [][]point
	for _, l := range lines {
		for i, p := range l {
			disc := make([]point, corners)
			for k := range disc {
				sin, cos := math.Sincos(2 * math.Pi * float64(k) / float64(corners))
				disc[k] = point{p.x + h*cos, p.y + h*sin}
			}
			out = append(out, disc)
			if i == 0 || l[i-1] == p {
				continue
			}
			n := p.sub(l[i-1]).unit().left().scale(h)
			out = append(out, []point{l[i-1].sub(n), p.sub(n), p.add(n), l[i-1].add(n)})
		}
	}
	return out
}
