package sockets

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/catflap/catflap/cmd/catflap/internal/clitest"
	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
)

func TestFilter(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "7 8 3 5 6 -1 -1 4 9 10",
		"state listening":                   "3 4 9",
		"state established":                 "8 5",
		"exclude listening":                 "7 8 5 6 -1 -1 10",
		"state close-wait state fin-wait-2": "6 10",
		"dst 10.9.0.1":                      "8 5 6 -1 -1",
		"dst = 10.9.0.0/24":                 "8 5 6 -1 -1",
		"dst != 10.9.0.1 and sport = :80":   "3 4 10",
		"src 10.9.0.2:53":                   "8",
		"src [fd00:1234:5678:9abc:def0:1234:5678:9abc]:80": "10",
		"src [fd00::]/8":              "10",
		"src fd00::/8":                "10",
		"dst *:9":                     "10",
		"dport = :9":                  "10",
		"sport gt 80":                 "9",
		"sport = :http and not state": "",
		"( sport = :8080 or sport = 53 ) and not dst 10.9.0.1": "7 9",
		"(sport=:8080||sport=:53)&&!dst 10.9.0.1":              "7 9",
		"sport = :80 dst 10.9.0.1":                             "5 6 -1 -1",
		"dev cat0":                                             "7",
	} {
		f, err := ParseFilter(strings.Fields(text))
		if text == "sport = :http and not state" {
			if err == nil {
				t.Errorf("%s: taken", text)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		o := SS{Options: Options{All: true}, Filter: f}
		var got []string
		for _, k := range o.Select(testSockets) {
			got = append(got, strconv.Itoa(k.FD))
		}
		if s := strings.Join(got, " "); !sameWords(s, want) {
			t.Errorf("%s: fds %s, want %s", text, s, want)
		}
	}
	for text, want := range map[string]string{
		"state": "at the end", "state nowhere": `at "nowhere"`, "sport 80": `at "80"`, "dst": "at the end", "dst nohost": `at "nohost"`, "( sport = :80": "at the end",
		"sport = :80 )": `at ")"`, "fwmark = 7": `at "fwmark"`, "dport = :nosuch": `at ":nosuch"`, "dst < 10.9.0.1": "at",
	} {
		_, err := ParseFilter([]string{text})
		var u *remedy.UsageError
		if !errors.As(err, &u) || !strings.Contains(u.Msg, want) || u.Remedy == "" {
			t.Errorf("%s: %v, want %q and a remedy", text, err, want)
		}
	}
}

// sameWords reports whether two lines have the same words, in whatever order.
func sameWords(a, b string) bool {
	x, y := strings.Fields(a), strings.Fields(b)
	count := map[string]int{}
	for _, w := range x {
		count[w]++
	}
	for _, w := range y {
		count[w]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

func TestSummary(t *testing.T) {
	var b bytes.Buffer
	if err := Summary(&b, testSockets); err != nil {
		t.Fatal(err)
	}
	clitest.Equal(t, "ss -s", b.String(), `Total: 9
TCP:   8 (estab 1, closed 1, orphaned 0, timewait 1)

Transport Total     IP        IPv6     
UDP	  2         2         0        
TCP	  7         4         3        
INET	  9         6         3        

`)
}

// FuzzFilter: any words are read or refused, and what was read can be asked.
func FuzzFilter(f *testing.F) {
	for _, s := range []string{"state established ( dport = :80 or src 10.9.0.0/24 )", "! dst [fd00::]/8:80 && dev cat0", "exclude bucket sport >= 1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if filter, err := ParseFilter([]string{text}); err == nil && filter != nil {
			for _, k := range testSockets {
				filter.selects(&k)
			}
		}
	})
}
