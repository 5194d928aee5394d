package bridge

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestParseEgress(t *testing.T) {
	for text, want := range map[string]string{
		"none":                         "",
		"all":                          "0.0.0.0/0 ::/0",
		"192.0.2.0/24":                 "192.0.2.0/24",
		"198.51.100.7:443":             "tcp 198.51.100.7 443 udp 198.51.100.7 443",
		"192.0.2.0/24:1-10,2001:db8::": "tcp 192.0.2.0/24 1-10 udp 192.0.2.0/24 1-10 2001:db8::",
		"[2001:db8::/32]:53":           "tcp 2001:db8::/32 53 udp 2001:db8::/32 53",
		"[2001:db8::1]":                "2001:db8::1",
	} {
		rules, err := ParseEgress(text)
		var got []string
		for _, r := range rules {
			got = append(got, r.String())
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", "everything", "192.0.2.1/24", "192.0.2.0/24:0", "192.0.2.0/24:9-1", "192.0.2.0/24:", "[2001:db8::/32", "[::1]53", "all,none", "::ffff:192.0.2.1", "192.0.2.0/24,", "fe80::1%eth0"} {
		wantSpecError(t, text, func() error { _, err := ParseEgress(text); return err }())
	}
}

func wantSpecError(t *testing.T, text string, err error) {
	t.Helper()
	var se *SpecError
	if !errors.As(err, &se) || se.Why == "" || se.Remedy == "" || se.Text == "" && text != "" && !strings.HasSuffix(text, ",") {
		t.Errorf("%q: %v; want an error with a remedy", text, err)
	}
}

func TestParsePublished(t *testing.T) {
	for text, want := range map[string]Published{
		"18080:8080":           {Network: "tcp", From: 18080, To: 8080},
		"127.0.0.1:1:2":        {Network: "tcp", Host: netip.MustParseAddr("127.0.0.1"), From: 1, To: 2},
		"[::1]:15353:5353/udp": {Network: "udp", Host: netip.IPv6Loopback(), From: 15353, To: 5353},
	} {
		p, err := ParsePublished(text)
		if err != nil || p != want || p.String() != text {
			t.Errorf("%s: %+v (%s), %v", text, p, p, err)
		}
	}
	for _, text := range []string{"", "80", "80:", ":80", "0:80", "80:65536", "cat:80:80", "80:80/sctp", "1:2:3:4"} {
		wantSpecError(t, text, func() error { _, err := ParsePublished(text); return err }())
	}
}

func TestParseForward(t *testing.T) {
	for _, text := range []string{"10.9.0.2:5432=127.0.0.1:5432", "[fd00:9::2]:53=localhost:53/udp"} {
		f, err := ParseForward(text)
		if err != nil || f.String() != text {
			t.Errorf("%s: %s, %v", text, f, err)
		}
	}
	for _, text := range []string{"", "10.9.0.2:5432", "10.9.0.2=127.0.0.1:1", "10.9.0.2:0=127.0.0.1:1", "10.9.0.2:1=127.0.0.1", "10.9.0.2:1=:1", "0.0.0.0:1=127.0.0.1:1", "10.9.0.2:1=127.0.0.1:1/icmp", "127.0.0.1:1=127.0.0.1:1"} {
		wantSpecError(t, text, func() error { _, err := ParseForward(text); return err }())
	}
}

func TestProcAddr(t *testing.T) {
	// As a little-endian machine writes them.
	for text, want := range map[string]string{"0100007F:1F90": "127.0.0.1:8080", "00000000000000000000000001000000:0050": "[::1]:80", "0000000000000000FFFF00000100007F:0050": "127.0.0.1:80"} {
		if got, ok := parseProcAddr(text); binary.NativeEndian.Uint16([]byte{1, 0}) == 1 && (!ok || got.String() != want) {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	for _, text := range []string{"", "0100007F", "0100007:1F90", "zz00007F:1F90", "0100007F:x"} {
		if _, ok := parseProcAddr(text); ok {
			t.Errorf("%q is an address", text)
		}
	}
}
