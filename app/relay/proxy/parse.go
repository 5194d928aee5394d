package proxy

import "strings"

// Parse reads NAME=LISTEN=TARGET[/tcp|/udp]. The error is a *SpecError.
func Parse(text string) (Spec, error) {
	s := Spec{Network: "tcp"}
	words := strings.Split(text, "=")
	if len(words) != 3 {
		return s, &SpecError{text, "want NAME=LISTEN=TARGET", "for example pg=127.0.0.1:15432=127.0.0.1:5432, or dns=127.0.0.1:5353=192.0.2.1:53/udp"}
	}
	s.Name, s.Listen, s.Target = words[0], words[1], words[2]
	if target, network, ok := strings.Cut(s.Target, "/"); ok {
		s.Target, s.Network = target, network
	}
	return s, s.Validate()
}

// String is the spec as Parse reads it.
func (s Spec) String() string {
	t := s.Name + "=" + s.Listen + "=" + s.Target
	if s.Network != "tcp" {
		t += "/" + s.Network
	}
	return t
}
