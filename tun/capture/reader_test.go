package capture

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// TestForeignFiles reads classic pcap files of other link types.
func TestForeignFiles(t *testing.T) {
	ip := tcpPacket(t, false, 1, 4)
	ip6 := tcpPacket(t, true, 1, 4)
	frame := func(header string, ip []byte) []byte { return append([]byte(header), ip...) }
	macs := strings.Repeat("\x02", 12)
	for _, tt := range []struct {
		name  string
		link  layers.LinkType
		frame []byte
		want  []byte // nil: it is no IP packet
		dir   Direction
	}{
		{"raw", layers.LinkTypeRaw, ip, ip, Unknown},
		{"DLT_RAW", layers.LinkType(linkRawBSD), ip6, ip6, Unknown},
		{"Ethernet", layers.LinkTypeEthernet, frame(macs+"\x08\x00", ip), ip, Unknown},
		{"Ethernet, VLAN", layers.LinkTypeEthernet, frame(macs+"\x81\x00\x00\x07\x86\xdd", ip6), ip6, Unknown},
		{"ARP", layers.LinkTypeEthernet, frame(macs+"\x08\x06", ip), nil, 0},
		{"cut VLAN", layers.LinkTypeEthernet, []byte(macs + "\x81\x00\x00"), nil, 0},
		{"cooked, to us", layers.LinkTypeLinuxSLL, frame("\x00\x00\xff\xfe\x00\x00aaaaaaaa\x08\x00", ip), ip, In},
		{"cooked, ours", layers.LinkTypeLinuxSLL, frame("\x00\x04\xff\xfe\x00\x00aaaaaaaa\x08\x00", ip), ip, Out},
		{"cooked 2, ours", layers.LinkTypeLinuxSLL2, frame("\x86\xdd\x00\x00\x00\x00\x00\x01\x00\x01\x04\x06aaaaaaaa", ip6), ip6, Out},
		{"loopback", layers.LinkTypeNull, frame("\x02\x00\x00\x00", ip), ip, Unknown},
		{"cut loopback", layers.LinkTypeNull, []byte{2}, nil, 0},
		{"radio", layers.LinkTypeIEEE802_11, ip, nil, 0},
		{"no IP", layers.LinkTypeRaw, []byte{0x10}, nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var buf bytes.Buffer
			w := pcapgo.NewWriterNanos(&buf)
			if err := w.WriteFileHeader(65535, tt.link); err != nil {
				t.Fatal(err)
			}
			if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: epoch, CaptureLength: len(tt.frame), Length: len(tt.frame) + 10}, tt.frame); err != nil {
				t.Fatal(err)
			}
			got, r := readAll(t, &buf)
			if tt.want == nil {
				if len(got) != 0 || r.NotIP() != 1 {
					t.Fatalf("%d packets, %d others; want 0 and 1", len(got), r.NotIP())
				}
				return
			}
			want := []Packet{{Time: epoch, Direction: tt.dir, Length: len(tt.want) + 10, Data: tt.want}}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestSections: a file of two sections has the interfaces of both.
func TestSections(t *testing.T) {
	var buf bytes.Buffer
	for _, name := range []string{"cat0", "cat1"} {
		w := NewWriter(&buf, Config{})
		if _, err := w.AddInterface(Interface{Name: name}); err != nil {
			t.Fatal(err)
		}
		if err := w.WritePacket(Packet{Time: epoch, Data: tcpPacket(t, false, 1, 4)}); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	got, r := readAll(t, &buf)
	if len(got) != 2 || got[0].Interface != 0 || got[1].Interface != 1 || len(r.Interfaces()) != 2 || r.Interfaces()[1].Name != "cat1" {
		t.Errorf("%+v of %+v", got, r.Interfaces())
	}
}

// TestBadFiles: what is no capture is refused with a reason, and one that is cut off says so.
func TestBadFiles(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	z.Write([]byte("capture"))
	z.Close()
	for _, tt := range []struct{ name, file, want string }{
		{"empty", "", "0 bytes are no capture file"},
		{"text", "GET / HTTP/1.1\r\n\r\n and so on, and so on", "no pcapng or pcap file"},
		{"compressed", zipped.String(), "gunzip it first"},
		{"cut header", "\x0a\x0d\x0d\x0a\x1c\x00", "no pcapng or pcap file"},
	} {
		if _, err := NewReader(strings.NewReader(tt.file)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.want)
		}
	}
	var buf bytes.Buffer
	w := NewWriter(&buf, Config{})
	if _, err := w.AddInterface(Interface{Name: "cat0"}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.WritePacket(Packet{Data: tcpPacket(t, false, 1, 100)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(bytes.NewReader(buf.Bytes()[:buf.Len()-20]))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(); err != nil {
		t.Errorf("the first packet is whole: %v", err)
	}
	for range 2 {
		if _, err := r.Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("the second is not: %v", err)
		}
	}
}

// FuzzReader: whatever a file says, it is read to an end, and its packets are IP.
func FuzzReader(f *testing.F) {
	var buf bytes.Buffer
	w := NewWriter(&buf, Config{})
	if _, err := w.AddInterface(Interface{"cat0", "MTU 1500"}); err != nil {
		f.Fatal(err)
	}
	p := Packet{Time: epoch, Direction: In, Data: tcpPacket(f, false, 1, 4), Comments: []string{"route"}, Lost: 1}
	if err := errors.Join(w.WritePacket(p), w.Comment(epoch, "comment"), w.Close()); err != nil {
		f.Fatal(err)
	}
	f.Add(buf.Bytes())
	var plain bytes.Buffer
	pw := pcapgo.NewWriter(&plain)
	if err := errors.Join(pw.WriteFileHeader(100, layers.LinkTypeEthernet), pw.WritePacket(gopacket.CaptureInfo{Timestamp: epoch, CaptureLength: 44, Length: 44}, p.Data)); err != nil {
		f.Fatal(err)
	}
	f.Add(plain.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := NewReader(bytes.NewReader(b))
		if err != nil {
			return
		}
		for {
			p, err := r.Next()
			if err != nil {
				return
			}
			if p.Interface >= len(r.Interfaces()) {
				t.Fatalf("interface %d of %d", p.Interface, len(r.Interfaces()))
			}
			if len(p.Data) > 0 && p.Data[0]>>4 != 4 && p.Data[0]>>4 != 6 || p.Length < len(p.Data) || len(p.Data)+len(p.Comments) == 0 {
				t.Fatalf("packet %+v", p)
			}
			p.MSS = 3
			_ = p.Wire()
		}
	})
}
