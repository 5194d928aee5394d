package stack

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"syscall"

	"github.com/gaissmai/bart"

	"github.com/catflap/catflap/stack/route"
)

// SteerRule sends new flows to a whole prefix and port range to one listener, as
// BPF sk_lookup does in Linux. Established connections are never steered.
type SteerRule struct {
	Network string         `json:"network"` // "tcp" or "udp"
	Prefix  netip.Prefix   `json:"prefix"`
	PortLo  uint16         `json:"port_lo"`
	PortHi  uint16         `json:"port_hi"` // inclusive
	To      netip.AddrPort `json:"to"`      // the unspecified address: any listener on the port
}

// String writes the rule as `catflap steer` reads it.
func (r SteerRule) String() string {
	ports := portString(r.PortLo)
	if r.PortHi != r.PortLo {
		ports += "-" + portString(r.PortHi)
	}
	return fmt.Sprintf("%s %s %s to %s", r.Network, r.Prefix, ports, r.target())
}

// target writes where the rule points to.
func (r SteerRule) target() string {
	if r.To.Addr().IsUnspecified() {
		return ":" + portString(r.To.Port())
	}
	return r.To.String()
}

func portString(p uint16) string { return strconv.Itoa(int(p)) }

// steering is an immutable set of rules. Rules of a prefix are sorted with the
// narrowest port range first.
type steering struct {
	all      []SteerRule
	tcp, udp bart.Table[[]*SteerRule]
}

func newSteering(rules []SteerRule) *steering {
	if len(rules) == 0 {
		return nil
	}
	st := &steering{all: rules}
	for i := range rules {
		r := &rules[i]
		t := st.table(r.Network)
		have, _ := t.Get(r.Prefix)
		have = append(slices.Clone(have), r)
		slices.SortStableFunc(have, func(a, b *SteerRule) int {
			return cmp.Compare(a.PortHi-a.PortLo, b.PortHi-b.PortLo)
		})
		t.Insert(r.Prefix, have)
	}
	return st
}

func (st *steering) table(network string) *bart.Table[[]*SteerRule] {
	if network == "udp" {
		return &st.udp
	}
	return &st.tcp
}

// match returns the most specific rule for t: the longest prefix, then the
// narrowest port range.
func (st *steering) match(t FourTuple) *SteerRule {
	if st == nil {
		return nil
	}
	p := t.Dst.Port()
	for _, rules := range st.table(t.Network).Supernets(netip.PrefixFrom(t.Dst.Addr(), t.Dst.Addr().BitLen())) {
		for _, r := range rules {
			if r.PortLo <= p && p <= r.PortHi {
				return r
			}
		}
	}
	return nil
}

func (r SteerRule) validate() error {
	switch {
	case r.Network != "tcp" && r.Network != "udp":
		return fmt.Errorf("network %q: tcp or udp", r.Network)
	case !r.Prefix.IsValid():
		return errors.New("no prefix")
	case r.Prefix != r.Prefix.Masked():
		return fmt.Errorf("prefix %s has host bits; the prefix is %s", r.Prefix, r.Prefix.Masked())
	case r.PortLo == 0 || r.PortHi < r.PortLo:
		return fmt.Errorf("ports %d-%d: want 1 to 65535, the lower first", r.PortLo, r.PortHi)
	case r.To.Port() == 0:
		return errors.New("no target port")
	case r.To.Addr().IsValid() && !r.To.Addr().IsUnspecified() && route.FamilyOf(r.To.Addr()) != route.FamilyOf(r.Prefix.Addr()):
		return fmt.Errorf("target %s is of another family than %s", r.To, r.Prefix)
	}
	return nil
}

// Steering returns the steering rules in the order of their addition.
func (s *Stack) Steering() []SteerRule {
	if st := s.steer.Load(); st != nil {
		return slices.Clone(st.all)
	}
	return nil
}

// AddSteering adds a rule. For its prefix to be reached, packets to it must be
// local: see AddRoute with type Local.
func (s *Stack) AddSteering(r SteerRule) error {
	if err := r.validate(); err != nil {
		return fmt.Errorf("add steering: %w", err)
	}
	if !r.To.Addr().IsValid() {
		r.To = netip.AddrPortFrom(route.FamilyOf(r.Prefix.Addr()).Any(), r.To.Port())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rules := s.Steering()
	for _, o := range rules {
		if o.Network == r.Network && o.Prefix == r.Prefix && o.PortLo == r.PortLo && o.PortHi == r.PortHi {
			return fmt.Errorf("add steering: a rule for %s %s %d-%d exists: %w", r.Network, r.Prefix, r.PortLo, r.PortHi, syscall.EEXIST)
		}
	}
	s.steer.Store(newSteering(append(rules, r)))
	return nil
}

// DelSteering removes the rule of r's network, prefix and port range.
func (s *Stack) DelSteering(r SteerRule) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	rules := s.Steering()
	i := slices.IndexFunc(rules, func(o SteerRule) bool {
		return o.Network == r.Network && o.Prefix == r.Prefix && o.PortLo == r.PortLo && o.PortHi == r.PortHi
	})
	if i < 0 {
		return fmt.Errorf("del steering: no rule for %s %s %d-%d: %w", r.Network, r.Prefix, r.PortLo, r.PortHi, syscall.ESRCH)
	}
	s.steer.Store(newSteering(slices.Delete(rules, i, i+1)))
	return nil
}
