package stack

import "testing"

// A congestion control that there is not is named, with those that there are.
func TestCongestionControl(t *testing.T) {
	for name, want := range map[string]string{
		"": "", "cubic": "", "reno": "",
		"bbr":     `stack: TCP.CongestionControl is "bbr", which there is not: want cubic or reno`,
		"no such": `stack: TCP.CongestionControl is "no such", which there is not: want cubic or reno`,
	} {
		s, err := New(Config{TCP: TCPConfig{CongestionControl: name}})
		if err == nil {
			s.Close()
		}
		if got := errorText(err); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
