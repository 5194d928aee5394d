package tun

import "sync/atomic"

// Stats are a link's counters since it was opened. Rx is from the wire to the stack, Tx the other way.
// A packet is one IP packet, or one TCP super-packet that the kernel segments or has merged; bytes are
// IP bytes, without virtio-net headers. A frame that is dropped is counted once, under its reason, and
// nowhere else.
type Stats struct {
	RxPackets, RxBytes uint64
	RxGSOPackets       uint64 // of RxPackets, those that stand for several segments

	RxDroppedTruncated   uint64 // shorter than its headers say, or than headers must be
	RxDroppedNotIP       uint64 // neither IPv4 nor IPv6
	RxDroppedBadVnetHdr  uint64 // a virtio-net header that contradicts the packet
	RxDroppedBadChecksum uint64 // IPv4 header, TCP or UDP
	RxDroppedUnattached  uint64 // no stack attached

	TxPackets, TxBytes uint64
	TxGSOPackets       uint64 // of TxPackets, those that stand for several segments

	TxDroppedTooBig   uint64 // larger than the MTU, and not to be segmented by the kernel
	TxDroppedNoBuffer uint64 // EAGAIN, ENOBUFS or ENOMEM; on a pipe, its queue was full
	TxDroppedDown     uint64 // the interface was down
	TxDroppedError    uint64 // any other refusal, or the link was closed
}

// counters is Stats as it is counted.
type counters struct {
	rxPackets, rxBytes, rxGSO                                          atomic.Uint64
	rxTruncated, rxNotIP, rxBadVnetHdr, rxBadChecksum, rxUnattached    atomic.Uint64
	txPackets, txBytes, txGSO, txTooBig, txNoBuffer, txDown, txErrored atomic.Uint64
}

func (c *counters) snapshot() Stats {
	return Stats{
		RxPackets: c.rxPackets.Load(), RxBytes: c.rxBytes.Load(), RxGSOPackets: c.rxGSO.Load(),
		RxDroppedTruncated:   c.rxTruncated.Load(),
		RxDroppedNotIP:       c.rxNotIP.Load(),
		RxDroppedBadVnetHdr:  c.rxBadVnetHdr.Load(),
		RxDroppedBadChecksum: c.rxBadChecksum.Load(),
		RxDroppedUnattached:  c.rxUnattached.Load(),
		TxPackets:            c.txPackets.Load(), TxBytes: c.txBytes.Load(), TxGSOPackets: c.txGSO.Load(),
		TxDroppedTooBig:   c.txTooBig.Load(),
		TxDroppedNoBuffer: c.txNoBuffer.Load(),
		TxDroppedDown:     c.txDown.Load(),
		TxDroppedError:    c.txErrored.Load(),
	}
}

func (c *counters) drop(v verdict) {
	switch v {
	case dropNotIP:
		c.rxNotIP.Add(1)
	case dropTruncated:
		c.rxTruncated.Add(1)
	case dropBadVnetHdr:
		c.rxBadVnetHdr.Add(1)
	case dropBadChecksum:
		c.rxBadChecksum.Add(1)
	}
}

func (c *counters) received(bytes int, gso bool) {
	c.rxPackets.Add(1)
	c.rxBytes.Add(uint64(bytes))
	if gso {
		c.rxGSO.Add(1)
	}
}

func (c *counters) sent(bytes int, gso bool) {
	c.txPackets.Add(1)
	c.txBytes.Add(uint64(bytes))
	if gso {
		c.txGSO.Add(1)
	}
}
