package impair

import "time"

// netem is a Spec at work on one direction. Its clock counts from when the Link was made.
type netem struct {
	spec Spec
	own  dice // of the packets that come
	copy dice // of the copies that duplication makes

	sinceReordered int           // packets that were delayed since one was sent ahead
	lastDue        time.Duration // when the last packet of a limited rate is out

	slot struct {
		numbers uniform
		start   time.Duration // of the slot that is open, or comes next
		packets int           // that it still lets pass
		bytes   int
	}
}

// dice are the sequences of all causes.
type dice struct {
	duplicate, corrupt, reorder chance
	loss                        lossProcess
	bit                         uniform
	delay                       correlated
}

// roll is what was drawn for one packet.
type roll struct {
	duplicate, lost, corrupt, reorder bool
	bit                               int
	delay                             time.Duration
}

func newNetem(spec Spec, dir Direction, now time.Duration) *netem {
	n := &netem{spec: spec, own: newDice(&spec, dir, false), copy: newDice(&spec, dir, true)}
	if spec.Slot != (Slot{}) {
		n.slot.numbers = uniform{newStream(spec.Seed, dir, false, causeSlot)}
		n.openSlot(now)
		n.slot.start = now
	}
	return n
}

func newDice(spec *Spec, dir Direction, copies bool) (d dice) {
	if spec.Loss != nil {
		d.loss = spec.Loss.process(newStream(spec.Seed, dir, copies, causeLoss))
	}
	d.duplicate = newChance(spec.Duplicate, newStream(spec.Seed, dir, copies, causeDuplicate))
	d.corrupt = newChance(spec.Corrupt, newStream(spec.Seed, dir, copies, causeCorrupt))
	d.reorder = newChance(spec.Reorder.Chance, newStream(spec.Seed, dir, copies, causeReorder))
	d.bit = uniform{newStream(spec.Seed, dir, copies, causeCorruptBit)}
	d.delay = newCorrelated(newStream(spec.Seed, dir, copies, causeDelay), spec.Delay.Correlation)
	return d
}

// roll draws one number of each cause, whether the packet will need it or not: so the n-th packet's fate by one
// cause does not hang on what the others do.
func (d *dice) roll(spec *Spec, size int) (r roll) {
	r.duplicate = d.duplicate.happens()
	r.lost = d.loss != nil && d.loss.lost()
	if d.corrupt.threshold != 0 {
		r.corrupt, r.bit = d.corrupt.happens(), d.bit.below(8*size)
	}
	r.reorder = d.reorder.happens()
	r.delay = spec.Delay.Time
	if j := spec.Delay.Jitter; j != 0 {
		r.delay += time.Duration(float64(j) * spec.Delay.Distribution.quantile(unit32(d.delay.next())))
	}
	return r
}

// judge appends to faults what becomes of a packet of that size, in netem's order: duplication, loss,
// corruption, limit, reordering, delay. If it is lost already,
// numbers are drawn and nothing else.
func (n *netem) judge(faults []Fault, id PacketID, size, queued int, now time.Duration, lost bool) []Fault {
	d := &n.own
	if id.Copy != 0 {
		d = &n.copy
	}
	r := d.roll(&n.spec, size)
	if id.Copy != 0 {
		r.duplicate = false
	}
	if lost {
		return faults
	}
	add := func(f Fault) { f.Time, f.Packet = now, id; faults = append(faults, f) }
	switch {
	case r.duplicate && r.lost: // one more and one less: it goes out once
	case r.duplicate:
		add(Fault{Action: ActionDuplicate, Reason: "duplicate"})
	case r.lost:
		add(Fault{Action: ActionDrop, Reason: "loss"})
		return faults
	}
	if r.corrupt {
		add(Fault{Action: ActionCorrupt, N: r.bit, Reason: "corrupt"})
	}
	if queued >= n.limit() {
		add(Fault{Action: ActionDrop, Reason: "limit"})
		return faults
	}
	if r.reorder && n.sinceReordered >= n.spec.Reorder.Gap-1 {
		n.sinceReordered = 0
		add(Fault{Action: ActionReorder, Reason: "reorder"})
		return faults
	}
	n.sinceReordered++
	reason := "delay"
	delay := max(r.delay, 0)
	if n.spec.Rate.Bits != 0 {
		reason = "rate"
		delay = n.behind(delay, size, now)
	}
	if delay > 0 {
		add(Fault{Action: ActionDelay, Delay: delay, Reason: reason})
	}
	return faults
}

func (n *netem) limit() int {
	if n.spec.Limit == 0 {
		return DefaultLimit
	}
	return n.spec.Limit
}

// behind is the delay of a packet on a link of limited rate. It follows the packet before it, and the time
// that it waits for that one counts as its delay.
func (n *netem) behind(delay time.Duration, size int, now time.Duration) time.Duration {
	due := max(now+delay, n.lastDue) + n.spec.Rate.time(size)
	n.lastDue = due
	return due - now
}

// time is how long a packet of so many bytes takes.
func (r Rate) time(size int) time.Duration {
	size += r.PacketOverhead
	if r.CellSize > 0 {
		cells := (max(size, 0) + r.CellSize - 1) / r.CellSize
		size = cells * (r.CellSize + r.CellOverhead)
	}
	seconds := float64(max(size, 0)) * 8 / float64(r.Bits)
	return min(time.Duration(min(seconds, maxTime.Seconds())*1e9), maxTime)
}

// openSlot starts the next slot.
func (n *netem) openSlot(now time.Duration) {
	s := &n.spec.Slot
	n.slot.start = now + s.Min
	if width := s.Max - s.Min; width > 0 {
		n.slot.start += time.Duration(float64(width) * unit32(n.slot.numbers.next()))
	}
	n.slot.packets, n.slot.bytes = maxCount, maxCount
	if s.Packets != 0 {
		n.slot.packets = s.Packets
	}
	if s.Bytes != 0 {
		n.slot.bytes = s.Bytes
	}
}

// release reports whether a packet that is due may go, and if not, when it is to be asked again.
func (n *netem) release(due time.Duration, size int, now time.Duration) (ok bool, again time.Duration) {
	if n.spec.Slot == (Slot{}) {
		return due <= now, due
	}
	if n.slot.start < due {
		n.openSlot(now)
	}
	if due > now || n.slot.start > now {
		return false, max(due, n.slot.start)
	}
	n.slot.packets--
	n.slot.bytes -= size
	if n.slot.packets <= 0 || n.slot.bytes <= 0 {
		n.openSlot(now)
	}
	return true, 0
}
