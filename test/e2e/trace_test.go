package e2e

import (
	"regexp"
	"strings"
	"testing"

	"github.com/catflap/catflap/internal/testenv"
)

// stories are what a trace must tell of one request, each in its order; SERVER stands for the server's address. A call is
// told when it ends, so that calls and packets that run at the same time may come in either order.
var stories = [][]string{
	{ // the packets, and who takes them
		`-> in +IP6? \S+ > SERVER\.80: Flags \[S\], .*mss `,
		`route +rule 0 .* table local .* local SERVER dev `,
		`socket +.*listener \*:80 ✓ fd [34] LISTEN`,
		`<- out +IP6? SERVER\.80 > \S+: Flags \[S\.\], `,
		`-> in +IP6? .* > SERVER\.80: Flags \[\.\], ack 1, `,
		`socket +exact 4-tuple ✓ `,
		`-> in +IP6? .* > SERVER\.80: Flags \[P\.\], seq 1:`,
		`<- out +IP6? SERVER\.80 > \S+: Flags \[P\.\], seq 1:`,
		`Flags \[F\.\]`,
		`Flags \[F\.\]`,
	},
	{ // the server's calls
		`call +socket\(AF_INET6?, SOCK_STREAM\S*, IPPROTO_IP\) += 3`,
		`call +listen\(3, `,
		`call +accept4\([34], \{sa_family=AF_INET6?, .* = 5`,
		`call +read\(5, "GET / HTTP/1\.1`,
		`call +write\(5, "HTTP/1\.1 200 OK`,
		`call +read\(5, "", \d+\) += 0`,
		`call +close\(5\) += 0`,
	},
	{ // what has to come before a call can end
		`call +listen\(3, `,
		`-> in +.*Flags \[S\], `,
		`<- out +.*Flags \[S\.\], `,
		`call +accept4\([34], \{`,
	},
	{
		`-> in +.*Flags \[P\.\], seq 1:`,
		`call +read\(5, "GET / `,
		`<- out +.*Flags \[P\.\], seq 1:`,
		`-> in +.*Flags \[F\.\]`,
		`state .*-> CLOSED`,
	},
}

// tells fails the test unless the lines of text match the patterns one after another.
func tells(t *testing.T, text string, patterns []string) {
	t.Helper()
	lines := strings.Split(text, "\n")
	at := 0
	for _, p := range patterns {
		re := regexp.MustCompile(p)
		begin := at
		for at < len(lines) && !re.MatchString(lines[at]) {
			at++
		}
		if at == len(lines) {
			t.Fatalf("no line after line %d matches %s in:\n%s", begin, p, text)
		}
		at++
	}
}

// tellsAll fails the test unless a trace tells all stories of a request to the server.
func tellsAll(t *testing.T, trace, server string) {
	t.Helper()
	for _, story := range stories {
		var patterns []string
		for _, p := range story {
			patterns = append(patterns, strings.ReplaceAll(p, "SERVER", regexp.QuoteMeta(server)))
		}
		tells(t, trace, patterns)
	}
}

// stamps: each entry has the time since the first, and none lies before it.
func stamps(t *testing.T, text string) {
	t.Helper()
	re := regexp.MustCompile(`^ *(-?\d+\.\d{6}) (-> in |<- out|call  |state )`)
	n := 0
	for line := range strings.Lines(text) {
		switch m := re.FindStringSubmatch(line); {
		case m == nil && !strings.HasPrefix(line, "          "):
			t.Errorf("neither an entry nor its detail: %q", line)
		case m != nil && strings.HasPrefix(m[1], "-"):
			t.Errorf("an entry before the beginning: %q", line)
		case m != nil:
			n++
		}
	}
	if n < 10 {
		t.Errorf("%d entries with a time", n)
	}
}

func TestGetTrace(t *testing.T) {
	t.Parallel()
	bin := catflap(t)
	for url, server := range map[string]string{"http://10.9.0.2/": "10.9.0.2", "http://[fd00:9::2]/": "fd00:9::2"} {
		t.Run(server, func(t *testing.T) {
			r := run(t, bin, "get", "--trace", url).want(t, 0)
			if r.stdout != "Hello kitty!" {
				t.Errorf("stdout %q: the trace belongs on stderr", r.stdout)
			}
			tellsAll(t, r.stderr, server)
			stamps(t, r.stderr)
			if strings.Contains(r.stderr, "\x1b") {
				t.Error("colours, and stderr is no terminal")
			}
		})
	}
}

func TestRunTrace(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, testenv.Tun, "curl")
	bin := catflap(t)
	for url, server := range map[string]string{"http://10.9.0.2/": "10.9.0.2", "http://[fd00:9::2]/": "fd00:9::2"} {
		t.Run(server, func(t *testing.T) {
			r := run(t, bin, "run", "--trace", "--", "curl", "-sg", url).want(t, 0)
			if r.stdout != "Hello kitty!" {
				t.Errorf("stdout %q: the trace belongs on stderr", r.stdout)
			}
			tellsAll(t, r.stderr, server)
			stamps(t, r.stderr)
		})
	}
}
