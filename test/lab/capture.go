package lab

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/catflap/catflap/internal/ring"
	pcapng "github.com/catflap/catflap/tun/capture"
)

// capture keeps the newest packets at one end of a link, as many as maxCapture allows.
type capture struct {
	link, node string

	mu      sync.Mutex
	packets ring.Queue[*captured] // guarded by mu, as is bytes
	bytes   int                   // in packets
}

// captured is a packet as it passed.
type captured struct {
	at       time.Time
	out      bool // of the node
	data     []byte
	comments []string
}

func newCapture(link, node string) *capture { return &capture{link: link, node: node} }

func (c *capture) add(at time.Time, out bool, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.packets.Push(&captured{at: at, out: out, data: slices.Clone(data)})
	c.bytes += len(data)
	for c.bytes > maxCapture {
		c.bytes -= len(c.packets.Pop().data)
	}
}

// maxBack is how far back the packet of a comment is looked for: it is the last one, but for what other senders have sent in
// the same moment.
const maxBack = 64

// comment says something of the packet that was sent last with these bytes.
func (c *capture) comment(data []byte, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n, i := c.packets.Next(), 0; n > c.packets.First() && i < maxBack; n, i = n-1, i+1 {
		if p := c.packets.At(n - 1); p.out && bytes.Equal(p.data, data) {
			p.comments = append(p.comments, text)
			return
		}
	}
}

// write writes the packets as a pcapng file: what the node would see of the link, and in comments what the link did to a packet
// that it sent.
func (c *capture) write(w io.Writer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	ng := pcapng.NewWriter(w, pcapng.Config{Application: "catflap lab"})
	id, err := ng.AddInterface(pcapng.Interface{Name: c.link, Description: fmt.Sprintf("the link %s at %s", c.link, c.node)})
	lost := c.packets.First()
	for p := range c.packets.All() {
		if err != nil {
			return err
		}
		out := pcapng.Packet{Time: p.at, Interface: id, Direction: pcapng.In, Data: p.data, Comments: p.comments}
		if p.out {
			out.Direction = pcapng.Out
		}
		out.Lost, lost = lost, 0 // the first packet tells it
		err = ng.WritePacket(out)
	}
	if e := ng.Close(); err == nil {
		err = e
	}
	return err
}
