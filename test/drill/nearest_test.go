package drill

import "testing"

func TestDidYouMean(t *testing.T) {
	known := []string{"write", "writev", "read", "readv"}
	for word, want := range map[string]string{
		"wrte": "; did you mean write?", "wriet": "; did you mean write?", "raed": "", "reaad": "; did you mean read?",
		"splice": "", "": "", "x": "",
	} {
		if got := didYouMean(word, known); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}
