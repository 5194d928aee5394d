package impair

import (
	"errors"
	"net/netip"
	"testing"
)

// TestRuleNames: a name stands for all of its addresses, and "to" for the destination alone.
func TestRuleNames(t *testing.T) {
	server := map[bool]netip.Addr{false: netip.MustParseAddr("10.9.0.2"), true: netip.AddrFrom16(serverAddr(true).As16())}
	cfg := Config{Names: func(name string) []netip.Addr {
		if name == "db" {
			return []netip.Addr{server[false], server[true]}
		}
		return nil
	}}
	const fromServer = "1 4 5 6 8 10 13"
	for _, v6 := range []bool{false, true} {
		for text, want := range map[string]string{
			"drop host db":                      "",
			"drop tcp to db":                    fromServer,
			"drop to " + server[v6].String():    fromServer,
			"drop host " + server[!v6].String(): untouched,
			"drop tcp fin to db":                "0 1 2 3 4 5 6 7 8 9 10 11 13",
			"drop udp to db":                    untouched,
		} {
			b := newBench(t, cfg)
			r, err := ParseRule(text)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := b.AddRule(r); err != nil {
				t.Fatal(err)
			}
			if got := talk(t, b, v6, 40000, conversation); got != want {
				t.Errorf("%s: %q, want %q", text, got, want)
			}
		}
	}
	r, err := ParseRule("drop to web")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []Config{cfg, {}} {
		if _, err := newBench(t, c).AddRule(r); !errors.As(err, new(*SpecError)) {
			t.Errorf("a name that nobody knows: %v, want a SpecError", err)
		}
	}
}
