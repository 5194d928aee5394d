package capture_test

import (
	"bytes"
	"fmt"
	"time"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/tun"
	"github.com/catflap/catflap/tun/capture"
)

// A packet is written with a comment, and read back.
func Example() {
	ping := []byte{
		0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0x66, 0xcc, 10, 9, 0, 1, 10, 9, 0, 2,
		8, 0, 0xf7, 0xfd, 0, 1, 0, 1,
	}
	var file bytes.Buffer
	w := capture.NewWriter(&file, capture.Config{})
	cat0, err := w.AddInterface(capture.Interface{Name: "cat0", Description: "MTU 1500"})
	if err != nil {
		panic(err)
	}
	p := capture.Packet{Time: time.Unix(0, 123456789), Interface: cat0, Direction: capture.In, Data: ping, Comments: []string{"the first of its kind"}}
	if err := w.WritePacket(p); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}

	r, err := capture.NewReader(&file)
	if err != nil {
		panic(err)
	}
	p, err = r.Next()
	if err != nil {
		panic(err)
	}
	text, _ := packet.Parse(p.Data)
	fmt.Println(p.Time.Nanosecond(), p.Direction, text)
	fmt.Println(p.Comments[0])
	// Output:
	// 123456789 in IP 10.9.0.1 > 10.9.0.2: ICMP echo request, id 1, seq 1, length 8
	// the first of its kind
}

// A link's packets are captured between the link and the stack that will own it.
func ExampleWrap() {
	link, far := tun.Pipe(1500)
	defer far.Close()
	var file bytes.Buffer
	w := capture.NewWriter(&file, capture.Config{Segments: true, MaxBytes: 10 << 20})
	e, err := capture.Wrap(link, w, capture.Interface{Name: "cat0"})
	if err != nil {
		panic(err)
	}
	// e goes where link would have gone: stack.Link{Name: "cat0", Endpoint: e, …}
	e.Close()
	fmt.Println(w.Close(), w.Stats().Packets)
	// Output: <nil> 0
}
