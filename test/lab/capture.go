package lab

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	pcapng "github.com/catflap/catflap/tun/capture"
)

// capture keeps the newest packets at one end of a link, as many as maxCapture allows.
type capture struct {
	link, node string

	mu      sync.Mutex
	packets []captured // guarded by mu, as are the fields below
	bytes   int        // in packets
	dropped uint64
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
	c.packets = append(c.packets, captured{at: at, out: out, data: slices.Clone(data)})
	c.bytes += len(data)
	for c.bytes > maxCapture {
		c.bytes -= len(c.packets[0].data)
		c.packets[0] = captured{}
		c.packets = c.packets[1:]
		c.dropped++
	}
}

// maxBack is how far back the packet of a comment is looked for: it is the last one, but for what other senders have sent in
// the same moment.
const maxBack = 64

// comment says something of the packet that was sent last with these bytes.
func (c *capture) comment(data []byte, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := len(c.packets) - 1; i >= max(0, len(c.packets)-maxBack); i-- {
		if p := &c.packets[i]; p.out && bytes.Equal(p.data, data) {
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
	for i, p := range c.packets {
		if err != nil {
			return err
		}
		out := pcapng.Packet{Time: p.at, Interface: id, Direction: pcapng.In, Data: p.data, Comments: p.comments}
		if p.out {
			out.Direction = pcapng.Out
		}
		if i == 0 {
			out.Lost = c.dropped
		}
		err = ng.WritePacket(out)
	}
	if e := ng.Close(); err == nil {
		err = e
	}
	return err
}
