package tun

import "strings"

// Grant says whether the kernel does one thing in our place.
type Grant struct {
	Granted bool
	Reason  string // why not, if not granted
}

// Offloads are the offloads of a device. Rx is from the host to us.
type Offloads struct {
	VnetHdr    Grant // frames carry a virtio-net header; without it there is none of what follows
	RxChecksum Grant // the host leaves transport checksums of its own packets to us
	RxTSO4     Grant // the host hands over TCP over IPv4 in frames of up to 64 KiB
	RxTSO6     Grant // the same over IPv6
	TxChecksum Grant // we leave transport checksums to the host
	TxTSO4     Grant // we hand over TCP over IPv4 in frames of up to 64 KiB
	TxTSO6     Grant // the same over IPv6
}

// noOffloads is what a driver has that has none of them, for one reason.
func noOffloads(reason string) Offloads {
	no := Grant{Reason: reason}
	return Offloads{no, no, no, no, no, no, no}
}

// gso reports whether TCP may leave unsegmented. netstack knows one answer for both IP versions.
func (o Offloads) gso() bool {
	return o.TxChecksum.Granted && o.TxTSO4.Granted && o.TxTSO6.Granted
}

// String lists what was granted, then what was not and why:
//
//	vnet-hdr rx-checksum rx-tso4 rx-tso6 tx-checksum tx-tso4; no tx-tso6: probe refused: invalid argument
func (o Offloads) String() string {
	var granted, missing []string
	var reasons = map[string][]string{}
	for _, x := range []struct {
		name string
		Grant
	}{
		{"vnet-hdr", o.VnetHdr},
		{"rx-checksum", o.RxChecksum}, {"rx-tso4", o.RxTSO4}, {"rx-tso6", o.RxTSO6},
		{"tx-checksum", o.TxChecksum}, {"tx-tso4", o.TxTSO4}, {"tx-tso6", o.TxTSO6},
	} {
		if x.Granted {
			granted = append(granted, x.name)
			continue
		}
		if reasons[x.Reason] == nil {
			missing = append(missing, x.Reason)
		}
		reasons[x.Reason] = append(reasons[x.Reason], x.name)
	}
	parts := []string{"none"}
	if len(granted) > 0 {
		parts[0] = strings.Join(granted, " ")
	}
	for _, reason := range missing {
		parts = append(parts, "no "+strings.Join(reasons[reason], ", ")+": "+reason)
	}
	return strings.Join(parts, "; ")
}
