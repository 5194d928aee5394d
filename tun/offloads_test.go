package tun

import "testing"

func TestOffloadsString(t *testing.T) {
	yes := Grant{Granted: true}
	for _, tc := range []struct {
		o    Offloads
		want string
		gso  bool
	}{
		{Offloads{yes, yes, yes, yes, yes, yes, yes}, "vnet-hdr rx-checksum rx-tso4 rx-tso6 tx-checksum tx-tso4 tx-tso6", true},
		{Offloads{yes, yes, yes, yes, yes, yes, Grant{Reason: "probe refused: invalid argument"}},
			"vnet-hdr rx-checksum rx-tso4 rx-tso6 tx-checksum tx-tso4; no tx-tso6: probe refused: invalid argument", false},
		{Offloads{yes, Grant{Reason: "a"}, Grant{Reason: "b"}, Grant{Reason: "a"}, yes, yes, yes},
			"vnet-hdr tx-checksum tx-tso4 tx-tso6; no rx-checksum, rx-tso6: a; no rx-tso4: b", true},
		{noOffloads("none here"), "none; no vnet-hdr, rx-checksum, rx-tso4, rx-tso6, tx-checksum, tx-tso4, tx-tso6: none here", false},
	} {
		if got := tc.o.String(); got != tc.want || tc.o.gso() != tc.gso {
			t.Errorf("got %q, gso %v; want %q, %v", got, tc.o.gso(), tc.want, tc.gso)
		}
	}
}
