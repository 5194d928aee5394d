package netns

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"github.com/catflap/catflap/tun"
	"golang.org/x/sys/unix"
)

// message is what the maker of a namespace and its first process say to each other, over a stream socket:
// a 32-bit length, then JSON. File descriptors travel with the length.
type message struct {
	Setup  *setup       `json:",omitempty"` // maker's first
	Run    *run         `json:",omitempty"` // maker's; descriptors: stdin, stdout, stderr
	Signal *int         `json:",omitempty"` // maker's, for the command ID
	Ready  *tun.Handoff `json:",omitempty"` // answer to Setup; descriptors: the device's queues
	Exit   *int         `json:",omitempty"` // the command ID has ended: its exit status, or 128 + signal
	Err    *wireError   `json:",omitempty"` // instead of Ready or Exit
	ID     int          `json:",omitempty"` // which Run this is about
}

// setup is Config as it travels.
type setup struct {
	Name   string
	MTU    int
	Queues int
	Driver tun.Driver
	Path   string
	Host   tun.HostConfig

	Private bool // the namespaces are new: to be furnished
	Files   map[string]string
	Mask    []string
	User    *User
	Mapped  bool // the user has to be made by a user namespace below this one
}

// run is Command as it travels.
type run struct {
	Path       string
	Args, Env  []string
	Dir        string
	Foreground bool
}

// wireError keeps of an error what tun.Diagnose looks at.
type wireError struct {
	Op, Name, Text string
	Errno          syscall.Errno
}

func newWireError(err error) *wireError {
	w := &wireError{Text: err.Error()}
	if op := (*tun.OpError)(nil); errors.As(err, &op) {
		w.Op, w.Name, w.Text = op.Op, op.Name, op.Err.Error()
	}
	errors.As(err, &w.Errno)
	return w
}

func (w *wireError) error() error {
	err := error(&remoteError{text: w.Text, errno: w.Errno})
	if w.Op != "" {
		err = &tun.OpError{Op: w.Op, Name: w.Name, Err: err}
	}
	return err
}

// remoteError reads as the error did in the other process.
type remoteError struct {
	text  string
	errno syscall.Errno
}

func (e *remoteError) Error() string { return e.text }

func (e *remoteError) Unwrap() error {
	if e.errno == 0 {
		return nil
	}
	return e.errno
}

const (
	// maxMessage bounds a message in bytes: Linux lets a command have 2 MiB of arguments and environment
	// by default, which JSON makes longer.
	maxMessage = 16 << 20

	maxFDs = max(3, tun.MaxQueues)
)

func send(c *net.UnixConn, m message, fds ...int) error {
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	head := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	if _, _, err := c.WriteMsgUnix(head, rights, nil); err != nil {
		return err
	}
	_, err = c.Write(body)
	return err
}

// receive returns the next message and the descriptors that came with it, which are the caller's to close.
func receive(c *net.UnixConn) (m message, fds []int, err error) {
	head := make([]byte, 4)
	oob := make([]byte, unix.CmsgSpace(4*maxFDs))
	n, oobn, _, _, err := c.ReadMsgUnix(head, oob)
	if err != nil {
		return m, nil, err
	}
	if n == 0 {
		return m, nil, io.EOF
	}
	defer func() {
		if err != nil {
			closeAll(fds)
			fds = nil
		}
	}()
	controls, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return m, nil, err
	}
	for _, control := range controls {
		got, err := unix.ParseUnixRights(&control)
		if err != nil {
			return m, fds, err
		}
		for _, fd := range got {
			unix.CloseOnExec(fd)
		}
		fds = append(fds, got...)
	}
	if _, err := io.ReadFull(c, head[n:]); err != nil {
		return m, fds, err
	}
	size := binary.BigEndian.Uint32(head)
	if size > maxMessage {
		return m, fds, fmt.Errorf("netns: message of %d bytes, of which %d are allowed", size, maxMessage)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(c, body); err != nil {
		return m, fds, err
	}
	return m, fds, json.Unmarshal(body, &m)
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
