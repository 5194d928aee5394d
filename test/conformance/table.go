package conformance

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/catflap/catflap/test/drill"
)

// header is what a script's first comment lines say.
type header struct {
	rfc     int
	section string // "" for an RFC without sections
	level   string // MUST, SHOULD …
	says    string
	reason  string // why it fails on netstack; "" if it does not
}

var (
	firstLine = regexp.MustCompile(`^// RFC (\d+)(?: (?:section|page) ([0-9.]+))?: ([A-Z ]+)$`)
	failLine  = regexp.MustCompile(`^// expected-fail: (.+)$`)
)

// parseHeader reads the comment lines at the start of a script.
func parseHeader(src string) (header, error) {
	lines := strings.Split(src, "\n")
	m := firstLine.FindStringSubmatch(lines[0])
	if m == nil || len(lines) < 2 || !strings.HasPrefix(lines[1], "// ") {
		return header{}, fmt.Errorf("the first lines must be \"// RFC NUMBER section SECTION: LEVEL\" and \"// RULE\", not %q", lines[0])
	}
	h := header{section: m[2], level: m[3], says: strings.TrimPrefix(lines[1], "// ")}
	var err error
	if h.rfc, err = strconv.Atoi(m[1]); err != nil {
		return header{}, err
	}
	for _, l := range lines[2:] {
		if m := failLine.FindStringSubmatch(l); m != nil {
			h.reason = m[1]
		}
	}
	return h, nil
}

// row is one case with its results.
type row struct {
	header
	name          string       // of the script's file, or of a case in Go
	link          string       // to the file of a case in Go
	stack, kernel drill.Status // kernel is "" where it was not measured
}

// rows reads the headers of all scripts in a directory.
func rows(fsys fs.FS) ([]row, error) {
	var out []row
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || path.Ext(name) != drill.Extension {
			return err
		}
		src, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		h, err := parseHeader(string(src))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, row{header: h, name: name})
		return nil
	})
	return out, err
}

// mark is a result in a cell.
func mark(s drill.Status) string {
	switch s {
	case drill.Passed, drill.UnexpectedPass:
		return "✓"
	case "":
		return "·"
	case drill.Failed, drill.ExpectedFailure:
		return "✗"
	}
	return "?"
}

// expected is the result on netstack that the script announces.
func (r row) expected() drill.Status {
	if r.reason != "" {
		return drill.ExpectedFailure
	}
	return drill.Passed
}

// line is the row of the table, up to the result on Linux.
func (r row) line(stack drill.Status) string {
	section := r.section
	if section == "" {
		section = "–"
	}
	says := r.says
	if r.reason != "" {
		says += " *netstack: " + r.reason + "*"
	}
	file, link := path.Base(r.name), r.name
	if r.link != "" {
		link = r.link
	}
	return fmt.Sprintf("| [%s](%s) | %s | %s | %s | %s |", strings.TrimSuffix(file, drill.Extension), link, section, r.level, says, mark(stack))
}

// table writes TABLE.md. linux is the kernel's release, "" if it was not measured.
func table(all []row, linux string) string {
	var s strings.Builder
	s.WriteString("# What netstack and Linux do, measured\n\n")
	s.WriteString("Written by `make conformance`; do not edit. ✓: does what the RFC says. ✗: does not. ·: not measured. ")
	s.WriteString("A level is the RFC's; CUSTOM is what no RFC asks for and Linux does. The scripts are beside this file; `catflap drill FILE` runs one, and `--target both` compares with Linux. ")
	s.WriteString("Cases that need two links, thousands of packets or arithmetic are in Go; `go test` runs them, on netstack only.\n\n")
	stackOK, kernelOK, inGo := 0, 0, 0
	for _, r := range all {
		if r.link != "" {
			inGo++
		}
		if mark(r.stack) == "✓" {
			stackOK++
		}
		if mark(r.kernel) == "✓" {
			kernelOK++
		}
	}
	fmt.Fprintf(&s, "Of %d cases, netstack passes %d", len(all), stackOK)
	if linux != "" {
		fmt.Fprintf(&s, "; of the %d that are scripts, Linux %s passes %d.\n", len(all)-inGo, linux, kernelOK)
		s.WriteString("Linux runs in real time beside other work, so a script counts as failed there only after five attempts.\n")
	} else {
		s.WriteString(". Linux was not measured: that needs root.\n")
	}
	s.WriteString(guards)

	byRFC := map[int][]row{}
	var cells []row
	for _, r := range all {
		if strings.HasPrefix(r.name, "matrix/") {
			cells = append(cells, r)
			continue
		}
		byRFC[r.rfc] = append(byRFC[r.rfc], r)
	}
	numbers := make([]int, 0, len(byRFC))
	for n := range byRFC {
		numbers = append(numbers, n)
	}
	sort.Ints(numbers)
	for _, n := range numbers {
		fmt.Fprintf(&s, "\n## RFC %d\n\n| case | section | level | rule | netstack | Linux |\n|---|---|---|---|---|---|\n", n)
		for _, r := range byRFC[n] {
			fmt.Fprintf(&s, "%s %s |\n", r.line(r.stack), mark(r.kernel))
		}
	}
	s.WriteString("\n## Every segment in every state\n\n")
	s.WriteString("RFC 9293 section 3.10.7 and RFC 5961. Each cell has IPv4 and IPv6; one mark when they agree. – : no rule of its own.\n")
	grid(&s, "netstack", cells, func(r row) string { return mark(r.stack) })
	grid(&s, "Linux", cells, func(r row) string { return mark(r.kernel) })
	s.WriteString("\nWhere netstack differs:\n\n")
	for _, r := range cells {
		if r.reason != "" && strings.HasPrefix(r.name, "matrix/ipv4/") {
			fmt.Fprintf(&s, "- [%s](%s): %s *%s*\n", strings.TrimSuffix(strings.TrimPrefix(r.name, "matrix/ipv4/"), drill.Extension), r.name, r.says, r.reason)
		}
	}
	return s.String()
}

// gridStates are the columns, in the order of a connection's life.
var gridStates = []string{"closed", "listen", "syn-sent", "syn-received", "established", "fin-wait-1", "fin-wait-2", "close-wait", "closing", "last-ack", "time-wait"}

// grid writes the matrix's cells as a table of events by states.
func grid(s *strings.Builder, who string, cells []row, of func(row) string) {
	byCell := map[string][]string{} // event/state: marks of IPv4 and IPv6
	var events []string
	for _, r := range cells {
		dir, file := path.Split(r.name)
		event, state := strings.TrimSuffix(file, drill.Extension), path.Base(dir)
		byCell[event+"/"+state] = append(byCell[event+"/"+state], of(r))
		if !slices.Contains(events, event) {
			events = append(events, event)
		}
	}
	sort.Strings(events)
	fmt.Fprintf(s, "\n### %s\n\n| segment | %s |\n|---|%s\n", who, strings.Join(gridStates, " | "), strings.Repeat("---|", len(gridStates)))
	for _, event := range events {
		fmt.Fprintf(s, "| %s |", event)
		for _, state := range gridStates {
			marks := byCell[event+"/"+state]
			switch {
			case len(marks) == 0:
				s.WriteString(" – |")
			case len(marks) == 2 && marks[0] != marks[1]:
				fmt.Fprintf(s, " %s/%s |", marks[0], marks[1])
			default:
				fmt.Fprintf(s, " %s |", marks[0])
			}
		}
		s.WriteString("\n")
	}
}

// guards says what stands in front of netstack, and what does not, and why.
const guards = `
## Guards

"netstack" here is netstack as catflap runs it: with guards in front of it, which drop, and count, what netstack should not
believe. They are on by default; stack.Config.NoGuards turns them off.

- An ICMP "too big" is dropped when it quotes a sequence number that is not in flight (RFC 5927), or an MTU that no link
  has. This costs other packets about 20 ns (BenchmarkGuard).
- A segment of a connection is dropped, and answered by an ACK, when it acknowledges what was never sent (RFC 9293 section
  3.10.7.4) or less than the largest window reaches back to (RFC 5961 section 5.2), or when its time stamp is older than
  the last (PAWS, RFC 7323 section 5). This costs a segment about 30 ns (BenchmarkGuardTCP). netstack does not keep
  the largest window that the peer has offered; the largest that it can express stands for it. While another thread
  works on the connection, an acknowledgment less than 64 KiB above SND.NXT passes, because it may be that of the
  segment which that thread is sending; stack/guard_tcp.go says why nothing else depends on timing.
- A SYN or reset loses its data before it is judged, so that netstack's limit on the rate of challenge ACKs (RFC 5961
  section 7) holds for it, too: one each half second for a connection. There is no limit for the whole host beside it; such
  a limit, shared by all connections, was the side channel of CVE-2016-5696.
`
