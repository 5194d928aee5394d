package tun

import "gvisor.dev/gvisor/pkg/buffer"

const (
	// maxFrame is the largest frame a TUN device hands over, in bytes: Linux's GSO_LEGACY_MAX_SIZE, which a
	// super-packet of either IP version stays below.
	maxFrame = 65536

	// copyBreak separates frames that are copied into memory of their own size from frames that keep the
	// memory they were read into. Copying 4 KiB costs less than clearing new pool memory for the next read.
	copyBreak = 4096
)

// rxSizes are the sizes of an rxBuffer's pieces: maxFrame in all. Each is a size that netstack pools, and they
// grow so that a frame wastes at most as much memory as it fills.
var rxSizes = [...]int{copyBreak, 4096, 8192, 16384, 32768}

// rxBuffer is where frames are read into, one after the other. It belongs to one goroutine.
type rxBuffer struct {
	views  [len(rxSizes)]*buffer.View
	pieces [len(rxSizes)][]byte // backs the frame returned by frame
}

// refill gives a view to each piece that take has handed away, and calls changed for it.
func (b *rxBuffer) refill(changed func(i int, memory []byte)) {
	for i, size := range rxSizes {
		if b.views[i] == nil {
			b.views[i] = buffer.NewViewSize(size)
			changed(i, b.views[i].AsSlice())
		}
	}
}

// frame is the first n bytes of the buffer, valid until take.
func (b *rxBuffer) frame(n int) frame {
	f := frame(b.pieces[:0])
	for _, v := range b.views {
		piece := v.AsSlice()
		piece = piece[:min(n, len(piece))]
		f = append(f, piece)
		if n -= len(piece); n == 0 {
			break
		}
	}
	return f
}

// take returns the first n bytes, to be owned by the caller.
func (b *rxBuffer) take(n int) buffer.Buffer {
	if n < copyBreak {
		return buffer.MakeWithView(buffer.NewViewWithData(b.views[0].AsSlice()[:n]))
	}
	var out buffer.Buffer
	for i, v := range b.views {
		if n == 0 {
			break
		}
		v.CapLength(n)
		n -= v.Size()
		out.Append(v)
		b.views[i] = nil
	}
	return out
}

func (b *rxBuffer) release() {
	for i, v := range b.views {
		if v != nil {
			v.Release()
			b.views[i] = nil
		}
	}
}
