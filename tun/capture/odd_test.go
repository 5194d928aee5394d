package capture

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/catflap/catflap/internal/testenv"
)

// order is a byte order that reads and writes.
type order interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

// words appends 32-bit words.
func words(o order, values ...uint32) (b []byte) {
	for _, v := range values {
		b = o.AppendUint32(b, v)
	}
	return b
}

// opt builds an option, padded.
func opt(o order, code uint16, value ...byte) []byte {
	b := o.AppendUint16(o.AppendUint16(nil, code), uint16(len(value)))
	return append(append(b, value...), make([]byte, -len(value)&3)...)
}

// block builds a block with right lengths.
func block(o order, kind uint32, parts ...[]byte) []byte {
	body := bytes.Join(parts, nil)
	size := uint32(len(body) + 12)
	return bytes.Join([][]byte{words(o, kind, size), body, words(o, size)}, nil)
}

func sectionBlock(o order, major, minor uint16, length uint64, options ...[]byte) []byte {
	version := o.AppendUint16(o.AppendUint16(nil, major), minor)
	return block(o, blockSection, append([][]byte{words(o, byteOrderMagic), version, o.AppendUint64(nil, length)}, options...)...)
}

func ifaceBlock(o order, link uint16, snap uint32, options ...[]byte) []byte {
	return block(o, blockInterface, append([][]byte{o.AppendUint16(nil, link), {0, 0}, words(o, snap)}, options...)...)
}

// ping is an IPv4 packet of 29 bytes, which needs padding.
var ping = []byte{
	0x45, 0, 0, 29, 0, 0, 0, 0, 64, 1, 0x66, 0xcb, 10, 9, 0, 1, 10, 9, 0, 2,
	8, 0, 0x95, 0xfd, 0, 1, 0, 1, 'b',
}

// at is a time of 2026 in units of a second's part.
func at(perSecond uint64) uint64 { return 1782907200*perSecond + perSecond/4*3 }

// packetBlock is a packet at a time in the interface's units.
func packetBlock(o order, iface uint32, units uint64, options ...[]byte) []byte {
	return sizedBlock(o, iface, units, uint32(len(ping)), uint32(len(ping)), options...)
}

// sizedBlock is packetBlock with the lengths that it tells.
func sizedBlock(o order, iface uint32, units uint64, size, length uint32, options ...[]byte) []byte {
	head := words(o, iface, uint32(units>>32), uint32(units), size, length)
	return block(o, blockEnhanced, append([][]byte{head, ping, make([]byte, -len(ping)&3)}, options...)...)
}

// pcapRecord builds a record.
func pcapRecord(o order, sec, part, size, length uint32, data []byte) []byte {
	return append(words(o, sec, part, size, length), data...)
}

func pcapHead(o order, magic uint32, major, minor uint16, snap, link uint32) []byte {
	b := words(o, magic)
	b = o.AppendUint16(o.AppendUint16(b, major), minor)
	return append(b, words(o, 0, 0, snap, link)...)
}

// oddFile is a capture file, and why we read it otherwise than Wireshark where we do.
type oddFile struct {
	name    string
	bytes   []byte
	header  int // bytes before the IP header
	differs string
}

// oddFiles are files as the formats allow them, as programs write them though they should not, and broken ones.
func oddFiles() (files []oddFile) {
	le, be := order(binary.LittleEndian), order(binary.BigEndian)
	add := func(name string, parts ...[]byte) *oddFile {
		files = append(files, oddFile{name: name, bytes: bytes.Join(parts, nil)})
		return &files[len(files)-1]
	}
	const unknown = ^uint64(0)
	sec, raw := sectionBlock(le, 1, 0, unknown), ifaceBlock(le, 101, 0)
	p := packetBlock(le, 0, at(1e6))
	plain := bytes.Join([][]byte{sec, raw, p}, nil)

	add("plain", plain)
	add("big-endian", sectionBlock(be, 1, 0, unknown), ifaceBlock(be, 101, 0), packetBlock(be, 0, at(1e6)))
	add("big-endian with options", sectionBlock(be, 1, 0, unknown), ifaceBlock(be, 101, 0, opt(be, optionResolution, 9), opt(be, optionEnd)),
		packetBlock(be, 0, at(1e9), opt(be, optionFlags, 0, 0, 2, 1), opt(be, optionDropCount, 0, 0, 0, 0, 0, 0, 0, 7), opt(be, optionEnd)))
	add("version 1.2", sectionBlock(le, 1, 2, unknown), raw, p)
	add("version 1.1", sectionBlock(le, 1, 1, unknown), raw, p)
	add("version 2.0", sectionBlock(le, 2, 0, unknown), raw, p)
	add("section options", sectionBlock(le, 1, 0, unknown, opt(le, 2, []byte("x86")...), opt(le, 4, []byte("cat")...), opt(le, 0)), raw, p)
	add("section of a right length", sectionBlock(le, 1, 0, uint64(len(raw)+len(p))), raw, p)
	add("section of a wrong length", sectionBlock(le, 1, 0, 4), raw, p)
	add("two sections", plain, plain)
	add("two sections of two byte orders", plain, sectionBlock(be, 1, 0, unknown), ifaceBlock(be, 101, 0), packetBlock(be, 0, at(1e6)))
	add("interfaces end with their section", plain, sec, p)

	for _, r := range []struct {
		v     byte
		units uint64
	}{
		{0, 1}, {1, 10}, {3, 1e3}, {6, 1e6}, {7, 1e7}, {9, 1e9}, {10, 1e10},
		{0x80, 1}, {0x81, 2}, {0x8a, 1 << 10}, {0x94, 1 << 20}, {0x9e, 1 << 30}, {0xa0, 1 << 32},
	} {
		name := fmt.Sprintf("resolution 0x%02x", r.v)
		stamp := at(r.units)
		if r.units < 4 {
			stamp = 1782907200 * r.units
		}
		add(name, sec, ifaceBlock(le, 101, 0, opt(le, optionResolution, r.v), opt(le, optionEnd)), packetBlock(le, 0, stamp), packetBlock(le, 0, stamp+1))
	}
	add("the last 2^-32 of a second", sec, ifaceBlock(le, 101, 0, opt(le, optionResolution, 0xa0)), packetBlock(le, 0, 1782907200<<32|0xffffffff))
	const fraction = "a second has parts at every resolution"
	add("resolution 10^-19", sec, ifaceBlock(le, 101, 0, opt(le, optionResolution, 19)), packetBlock(le, 0, 12e18)).differs = fraction
	add("resolution 2^-63", sec, ifaceBlock(le, 101, 0, opt(le, optionResolution, 0xbf)), packetBlock(le, 0, 3<<62)).differs = fraction
	add("resolution 10^-20", sec, ifaceBlock(le, 101, 0, opt(le, optionResolution, 20)), packetBlock(le, 0, 12e18))
	add("resolution 2^-64", sec, ifaceBlock(le, 101, 0, opt(le, optionResolution, 0xc0)), packetBlock(le, 0, 3<<62))
	add("resolution of two bytes", sec, ifaceBlock(le, 101, 0, opt(le, optionResolution, 9, 0)), packetBlock(le, 0, at(1e6)))
	add("offset of an hour", sec, ifaceBlock(le, 101, 0, opt(le, optionOffset, 0x10, 0x0e, 0, 0, 0, 0, 0, 0)), p)
	add("offset back", sec, ifaceBlock(le, 101, 0, opt(le, optionOffset, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)), p)
	add("two resolutions", sec, raw, ifaceBlock(le, 101, 0, opt(le, optionResolution, 9)), p, packetBlock(le, 1, at(1e9)))

	add("simple packet", sec, raw, block(le, blockSimple, words(le, uint32(len(ping))), ping, make([]byte, 3)))
	add("simple packet, cut by the snap length", sec, ifaceBlock(le, 101, 24), block(le, blockSimple, words(le, uint32(len(ping))), ping[:24]))
	add("simple packet without interface", sec, block(le, blockSimple, words(le, uint32(len(ping))), ping, make([]byte, 3)))
	old := func(drops uint16, options ...[]byte) []byte {
		t := at(1e6)
		head := append(le.AppendUint16([]byte{0, 0}, drops), words(le, uint32(t>>32), uint32(t), uint32(len(ping)), uint32(len(ping)))...)
		return block(le, blockPacket, append([][]byte{head, ping, make([]byte, 3)}, options...)...)
	}
	add("obsolete packet", sec, raw, old(0))
	add("obsolete packet with drops and flags", sec, raw, old(3, opt(le, optionFlags, 1, 0, 0, 0), opt(le, optionEnd)))
	add("obsolete packet that counts no drops", sec, raw, old(0xffff))
	add("statistics", sec, raw, p, block(le, blockStatistics, words(le, 0, 0, 0), opt(le, optionDroppedHere, 1, 0, 0, 0, 0, 0, 0, 0), opt(le, 0)))
	add("statistics of no interface", sec, raw, p, block(le, blockStatistics, words(le, 4, 0, 0)), p).differs =
		"statistics of an interface that was never described are damage; Wireshark passes over them"
	add("names of hosts", sec, raw, block(le, 4, opt(le, 1, 10, 9, 0, 1, 'c', 'a', 't', 0), opt(le, 0)), p)
	add("secrets", sec, raw, block(le, 10, words(le, 0x544c534b, 4), []byte("miau")), p)
	add("custom block", sec, raw, block(le, 0xbad, words(le, 32473), []byte("miau")), p).differs =
		"a block of somebody's own is no packet; Wireshark counts it as one"
	add("custom option", sec, raw, packetBlock(le, 0, at(1e6), opt(le, 2988, 0xd9, 0x7e, 0, 0, 'm'), opt(le, 0)))
	add("block of a private kind", sec, raw, block(le, 0x80000001, []byte("miau")), p)

	add("no end of options", sec, raw, packetBlock(le, 0, at(1e6), opt(le, optionComment, 'm', 'e', 'w')))
	add("end of options with a length", sec, raw, packetBlock(le, 0, at(1e6), opt(le, optionEnd, 1, 2)), p)
	add("option beyond its block", sec, raw, packetBlock(le, 0, at(1e6), []byte{1, 0, 200, 0}), p)
	add("option of an interface beyond its block", sec, ifaceBlock(le, 101, 0, []byte{2, 0, 200, 0}), p)
	add("half an option", sec, raw, packetBlock(le, 0, at(1e6), opt(le, optionComment, 'm'), words(le, 5<<16|1)), p)
	add("empty and double comments", sec, raw, packetBlock(le, 0, at(1e6), opt(le, optionComment), opt(le, optionComment, 'a'), opt(le, optionComment, 'b'), opt(le, 0)))
	add("flags of a wrong size", sec, raw, packetBlock(le, 0, at(1e6), opt(le, optionFlags, 1, 0), opt(le, 0)))
	add("drop count of a wrong size", sec, raw, packetBlock(le, 0, at(1e6), opt(le, optionDropCount, 1, 0, 0, 0), opt(le, 0)))
	add("nothing after the interface's number", sec, raw, block(le, blockEnhanced, words(le, 0)))

	add("packet of no interface", sec, p)
	add("packet of an interface too many", sec, raw, packetBlock(le, 1, at(1e6)))
	add("interface after its packet", sec, p, raw)
	add("cut packet", sec, raw, sizedBlock(le, 0, at(1e6), uint32(len(ping)), 1500))
	add("longer than it was", sec, raw, sizedBlock(le, 0, at(1e6), uint32(len(ping)), 20)).differs =
		"a packet is as long as what there is of it"
	add("larger than its block", sec, raw, sizedBlock(le, 0, at(1e6), 400, 400), p)
	add("larger than anything", sec, raw, sizedBlock(le, 0, at(1e6), 0xfffffff0, 0xfffffff0), p)
	add("padding of another size", sec, raw, block(le, blockEnhanced, words(le, 0, 0, 0, 28, 28), ping[:28], opt(le, 0)), p)
	add("snap length below the packet's", sec, ifaceBlock(le, 101, 20), p)

	set := func(b []byte, at int, v uint32) []byte {
		b = bytes.Clone(b)
		le.PutUint32(b[at:], v)
		return b
	}
	for _, size := range []uint32{0, 8, 31, 66, 1 << 30, 0xffffffff} {
		add(fmt.Sprintf("block of %d bytes", size), sec, raw, p, set(p, 4, size))
	}
	add("two lengths", sec, raw, p, set(p, len(p)-4, 1), p)
	unpadded := append(words(le, blockEnhanced, 61, 0, 0, 0, 29, 29), ping...)
	add("length without padding", sec, raw, unpadded, make([]byte, 3), words(le, 61), p)
	add("section of 12 bytes", words(le, blockSection, 12, byteOrderMagic)).differs = "it is no capture file; Wireshark takes it for bytes of no kind"
	add("no byte order", set(plain, 8, 0x01020304))
	for _, n := range []int{4, 10, 27, 28, 30, 47, 48, 50, 70, 110, len(plain) - 4, len(plain) - 1} {
		f := add(fmt.Sprintf("cut after %d bytes", n), plain[:n])
		if n == 4 {
			f.differs = "it is no capture file; Wireshark takes it for bytes of no kind"
		}
	}
	add("zeros at the end", plain, make([]byte, 16))
	add("three bytes at the end", plain, make([]byte, 3))
	add("Ethernet", sec, ifaceBlock(le, 1, 0), ethernetBlock(le)).header = 14
	add("IPv4 alone", sec, ifaceBlock(le, 228, 0), p)

	for _, o := range []order{le, be} {
		for _, magic := range []uint32{magicMicro, magicNano} {
			add(fmt.Sprintf("pcap 0x%x, %v", magic, o), pcapHead(o, magic, 2, 4, 65535, 101), pcapRecord(o, 1782907200, 123456, 29, 29, ping))
		}
	}
	head := pcapHead(le, magicMicro, 2, 4, 65535, 101)
	record := pcapRecord(le, 1782907200, 5, 29, 29, ping)
	add("pcap 2.2", pcapHead(le, magicMicro, 2, 2, 65535, 101), pcapRecord(le, 1782907200, 5, 40, 29, ping))
	add("pcap 2.3 with lengths of 2.2", pcapHead(le, magicMicro, 2, 3, 65535, 101), pcapRecord(le, 1782907200, 5, 40, 29, ping))
	add("pcap 2.3 with lengths of 2.4", pcapHead(le, magicMicro, 2, 3, 65535, 101), pcapRecord(le, 1782907200, 5, 29, 40, ping))
	add("pcap 2.5", pcapHead(le, magicMicro, 2, 5, 65535, 101), record)
	add("pcap 3.0", pcapHead(le, magicMicro, 3, 0, 65535, 101), record).differs = "nobody knows version 3.0"
	add("pcap of a check sequence", pcapHead(le, magicMicro, 2, 4, 65535, 0x24000000|101), record)
	add("pcap, snap length below the packet's", pcapHead(le, magicMicro, 2, 4, 20, 101), record)
	add("pcap, snap length 0", pcapHead(le, magicMicro, 2, 4, 0, 101), record)
	add("pcap, cut packet", head, pcapRecord(le, 1782907200, 5, 29, 1500, ping))
	add("pcap, longer than it was", head, pcapRecord(le, 1782907200, 5, 29, 20, ping)).differs =
		"a packet is as long as what there is of it"
	add("pcap, packet too large", head, record, pcapRecord(le, 1782907200, 5, 300000, 300000, ping))
	add("pcap, time in 2100", head, pcapRecord(le, 0xf48656ff, 5, 29, 29, ping))
	add("pcap without packets", head)
	add("pcap, DLT_RAW", pcapHead(le, magicMicro, 2, 4, 65535, 12), record)
	for _, n := range []int{20, 24, 30, 40, 60} {
		add(fmt.Sprintf("pcap cut after %d bytes", n), append(bytes.Clone(head), record...)[:n])
	}
	return files
}

func ethernetBlock(o order) []byte {
	frame := append(append(bytes.Repeat([]byte{2}, 12), 8, 0), ping...)
	t := at(1e6)
	return block(o, blockEnhanced, words(o, 0, uint32(t>>32), uint32(t), uint32(len(frame)), uint32(len(frame))), frame, make([]byte, -len(frame)&3))
}

// reading is what a reader finds in a file.
type reading struct {
	End     string // "whole"; with packets "cut" or "damaged"; "refused" without
	Packets []string
}

// read is our reading of a file. What is broken before the first packet Wireshark may find when it opens the file.
func (f oddFile) read() reading {
	got := f.readAll()
	if len(got.Packets) == 0 && got.End != "whole" {
		got.End = "refused"
	}
	return got
}

func (f oddFile) readAll() (got reading) {
	r, err := NewReader(bytes.NewReader(f.bytes))
	if err != nil {
		return reading{End: "refused"}
	}
	for {
		p, err := r.Next()
		switch {
		case err == io.EOF:
			got.End = "whole"
			return got
		case errors.Is(err, io.ErrUnexpectedEOF):
			got.End = "cut"
			return got
		case err != nil:
			got.End = "damaged"
			return got
		case p.Data != nil:
			got.Packets = append(got.Packets, fmt.Sprintf("%d.%09d %d of %d", p.Time.Unix(), p.Time.Nanosecond(), len(p.Data)+f.header, p.Length+f.header))
		}
	}
}

// wireshark reads files as Wireshark does, all in one process.
func wireshark(t *testing.T, files []oddFile) (all []reading) {
	dir := t.TempDir()
	var ask bytes.Buffer
	request := json.NewEncoder(&ask)
	type call map[string]any
	for i, f := range files {
		name := filepath.Join(dir, fmt.Sprintf("%03d", i))
		if err := os.WriteFile(name, f.bytes, 0o644); err != nil {
			t.Fatal(err)
		}
		request.Encode(call{"jsonrpc": "2.0", "id": 2*i + 1, "method": "load", "params": call{"file": name}})
		request.Encode(call{"jsonrpc": "2.0", "id": 2*i + 2, "method": "frames",
			"params": call{"column0": "frame.time_epoch:1", "column1": "frame.cap_len:1", "column2": "frame.len:1"}})
	}
	cmd := exec.Command("sharkd", "-")
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir)
	cmd.Stdin = &ask
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("sharkd: %v: %s", err, said.String())
	}
	answers, refused := map[int]json.RawMessage{}, map[int]bool{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		var a struct {
			ID            int
			Result, Error json.RawMessage
		}
		if json.Unmarshal(lines.Bytes(), &a) == nil {
			answers[a.ID], refused[a.ID] = a.Result, a.Error != nil
		}
	}
	for i := range files {
		if refused[2*i+1] {
			all = append(all, reading{End: "refused"})
			continue
		}
		got := reading{End: "whole"}
		_, complaint, _ := strings.Cut(said.String(), fmt.Sprintf(`%03d" appears to have been `, i))
		if strings.HasPrefix(complaint, "cut short") {
			got.End = "cut"
		}
		if strings.Contains(said.String(), fmt.Sprintf(`%03d" appears to be damaged`, i)) {
			got.End = "damaged"
		}
		var frames []struct{ C []string }
		if err := json.Unmarshal(answers[2*i+2], &frames); err != nil {
			t.Fatalf("%s: %v: %s", files[i].name, err, answers[2*i+2])
		}
		for _, f := range frames {
			if f.C[0] == "" {
				f.C[0] = "0.000000000" // a packet without a time
			}
			got.Packets = append(got.Packets, fmt.Sprintf("%s %s of %s", f.C[0], f.C[1], f.C[2]))
		}
		if len(got.Packets) == 0 && got.End != "whole" {
			got.End = "refused"
		}
		all = append(all, got)
	}
	return all
}

// TestOddFiles reads files beside Wireshark.
func TestOddFiles(t *testing.T) {
	t.Parallel()
	testenv.Require(t, "sharkd")
	files := oddFiles()
	for i, want := range wireshark(t, files) {
		f := files[i]
		t.Run(f.name, func(t *testing.T) {
			switch d := cmp.Diff(want, f.read()); {
			case f.differs == "" && d != "":
				t.Errorf("Wireshark reads it otherwise (- Wireshark, + catflap):\n%s", d)
			case f.differs != "" && d == "":
				t.Errorf("Wireshark reads it as we do, and it is said that %s", f.differs)
			}
		})
	}
	if len(files) < 100 {
		t.Errorf("%d files", len(files))
	}
}
