package impair

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
)

// recordHeader is the first line of a recording. Lines that start with # are comments.
const recordHeader = "# catflap netem record 1"

// Recording is all that was done to the packets of a run, fault by fault. Its text has one line for each:
//
//	TIME DIR FLOW SIDE INDEX[+COPY] ACTION [VALUE] by REASON
//	0.020113000 out tcp/10.9.0.2:80#1 server 2 drop by rule drop tcp data 2 from server
//	0.020113000 in tcp/10.9.0.2:80#1 client 3 delay 20ms by delay
//
// TIME is in seconds since the Link was made, and of no consequence. The packet is the INDEX-th that SIDE sent in
// FLOW, as PacketID has it. VALUE is a time for delay and hold; for corrupt the number of the bit, from the
// start of the IP header; for toobig the MTU; for window the window. REASON is the option that the settings have
// it from, or "rule" and a rule.
type Recording []Fault

func (f Fault) String() string {
	s := fmt.Sprintf("%s %s %s", formatSeconds(f.Time), f.Packet, f.Action)
	switch f.Action.value() {
	case timeValue:
		s += " " + formatTime(f.Delay)
	case numberValue:
		s += " " + strconv.Itoa(f.N)
	}
	if f.Rule != "" {
		return s + " by rule " + f.Rule
	}
	return s + " by " + f.Reason
}

func formatSeconds(d time.Duration) string {
	return fmt.Sprintf("%d.%09d", d/time.Second, d%time.Second)
}

// What follows an Action in a recording.
const (
	noValue = iota
	timeValue
	numberValue
)

func (a Action) value() int {
	switch a {
	case ActionDelay, ActionHold:
		return timeValue
	case ActionCorrupt, ActionTooBig, ActionWindow:
		return numberValue
	}
	return noValue
}

// WriteTo implements io.WriterTo: it writes the recording's text.
func (r Recording) WriteTo(w io.Writer) (int64, error) {
	n, err := fmt.Fprintln(w, recordHeader)
	total := int64(n)
	for _, f := range r {
		if err != nil {
			break
		}
		n, err = fmt.Fprintln(w, f)
		total += int64(n)
	}
	return total, err
}

// maxRecordLine is longer than the longest fault with the longest rule.
const maxRecordLine = 4096

// ReadRecording reads what WriteTo or Record wrote. An error names the line.
func ReadRecording(r io.Reader) (Recording, error) {
	rec := Recording{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxRecordLine)
	if lines.Scan(); lines.Text() != recordHeader && lines.Err() == nil {
		return nil, fmt.Errorf("recording, line 1: %q is not %q: not a recording, or one of another version", lines.Text(), recordHeader)
	}
	for n := 2; lines.Scan(); n++ {
		line := lines.Text()
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f, err := parseFault(line)
		if err != nil {
			return nil, fmt.Errorf("recording, line %d: %w", n, err)
		}
		rec = append(rec, f)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("recording, after %d faults: %w", len(rec), err)
	}
	return rec, nil
}

// parseFault reads what Fault.String writes.
func parseFault(line string) (f Fault, err error) {
	head, reason, ok := strings.Cut(line, " by ")
	words := strings.Fields(head)
	if !ok || len(words) < 6 || len(words) > 7 {
		return f, fmt.Errorf("%q: want TIME DIR FLOW SIDE INDEX ACTION [VALUE] by REASON", line)
	}
	if f.Time, err = parseSeconds(words[0]); err != nil {
		return f, err
	}
	if f.Packet, err = parsePacketID(words[1:5]); err != nil {
		return f, err
	}
	for a := ActionDrop; a <= ActionWindow; a++ {
		if a.String() == words[5] {
			f.Action = a
		}
	}
	if f.Action == 0 {
		return f, fmt.Errorf("no action %q", words[5])
	}
	if (len(words) == 7) != (f.Action.value() != noValue) {
		return f, fmt.Errorf("%q: a value is missing, or too much", head)
	}
	switch f.Action.value() {
	case timeValue:
		d, ok := scaled(words[6], timeUnits, 1e3)
		if !ok || d > maxRecorded {
			return f, fmt.Errorf("%s %q: want a time such as 20ms", f.Action, words[6])
		}
		f.Delay = time.Duration(d)
	case numberValue:
		n, err := strconv.ParseUint(words[6], 10, 20) // 8 bits for each of 65,535 bytes, and more than a window
		if err != nil {
			return f, fmt.Errorf("%s %q: want a number", f.Action, words[6])
		}
		f.N = int(n)
	}
	if rule, ok := strings.CutPrefix(reason, "rule "); ok {
		f.Rule = rule
	} else {
		f.Reason = reason
	}
	return f, nil
}

// maxRecorded is the longest time in nanoseconds, some hundred days, that is read exactly.
const maxRecorded = 1 << 53

func parseSeconds(s string) (time.Duration, error) {
	whole, fraction, ok := strings.Cut(s, ".")
	seconds, err1 := strconv.ParseUint(whole, 10, 32)
	nanos, err2 := strconv.ParseUint(fraction, 10, 32)
	if !ok || len(fraction) != 9 || err1 != nil || err2 != nil {
		return 0, fmt.Errorf("time %q: want seconds with nine decimals", s)
	}
	return time.Duration(seconds)*time.Second + time.Duration(nanos), nil
}

func parsePacketID(words []string) (id PacketID, err error) {
	switch words[0] {
	case "in":
		id.Dir = In
	case "out":
		id.Dir = Out
	default:
		return id, fmt.Errorf("direction %q: want in or out", words[0])
	}
	id.Flow = words[1]
	switch words[2] {
	case "client":
		id.From = Client
	case "server":
		id.From = Server
	case "any":
	default:
		return id, fmt.Errorf("side %q: want client, server or any", words[2])
	}
	index, copies, isCopy := strings.Cut(words[3], "+")
	if id.Index, err = strconv.ParseUint(index, 10, 64); err == nil && isCopy {
		id.Copy, err = strconv.ParseUint(copies, 10, 64)
	}
	if err != nil {
		return id, fmt.Errorf("packet %q: want a number, and +N for a copy", words[3])
	}
	return id, nil
}

// Recorder writes the faults of a Link as they happen.
type Recorder struct {
	stop func()
	once sync.Once
	w    *bufio.Writer // guarded by Link.mu until stop has returned
	err  error         // likewise
}

// Record starts writing all faults to w, in the form of a Recording, until Close.
func (l *Link) Record(w io.Writer) *Recorder {
	r := &Recorder{w: bufio.NewWriter(w)}
	_, r.err = fmt.Fprintln(r.w, recordHeader)
	r.stop = l.Observe(func(f Fault, _ []byte) {
		if r.err == nil {
			_, r.err = fmt.Fprintln(r.w, f)
		}
	})
	return r
}

// Close ends the recording and writes what is left of it. It returns the first error of the writer.
func (r *Recorder) Close() error {
	r.once.Do(func() {
		r.stop()
		r.err = errors.Join(r.err, r.w.Flush())
	})
	return r.err
}

// Replay has the Link do to each packet what a recording says, instead of what settings and rules say, but for slots,
// which are no property of a packet and go on being kept. A packet that the recording does not know passes. Replay
// starts anew with the count of each flow's packets, so it is to be set before the traffic. With a nil Recording
// the Link returns to its settings and rules.
func (l *Link) Replay(rec Recording) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errClosed
	}
	l.replay = nil
	if rec != nil {
		l.replay = make(map[PacketID][]Fault, len(rec))
		for _, f := range rec {
			l.replay[f.Packet] = append(l.replay[f.Packet], f)
		}
		l.flows = newFlows()
	}
	l.updateAll()
	return nil
}
