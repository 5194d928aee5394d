package drill

import (
	"strings"
	"testing"
	"time"
)

// TestDiffers holds that whatever differs between two runs of a script is found.
func TestDiffers(t *testing.T) {
	s, err := Parse("x.pkt", []byte("0 < . 1:1(0) ack 1 win 100\n+0 > R 1:1(0)\n"))
	if err != nil {
		t.Fatal(err)
	}
	run := func() Result { return Play(s, Stack) }
	if d := run().differs(run()); d != "" {
		t.Fatalf("two runs of one script: %s", d)
	}
	for want, change := range map[string]func(*Result){
		"passed, then failed": func(r *Result) { r.Status = Failed },
		"two messages":        func(r *Result) { r.Message = "other" },
		"it took 0s, then 1s": func(r *Result) { r.Elapsed = time.Second },
		"it printed":          func(r *Result) { r.Prints = []string{"x"} },
		"2 packets, then 1":   func(r *Result) { r.wire = r.wire[:1] },
		"packet 2\n":          func(r *Result) { r.wire[1].data[19]++ },
		"packet 1\n":          func(r *Result) { r.wire[0].at++ },
	} {
		other := run()
		change(&other)
		if got := run().differs(other); !strings.Contains(got, want) {
			t.Errorf("found %q, want %q", got, want)
		}
	}
}
