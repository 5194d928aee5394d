package main

import (
	"fmt"
	"net/netip"
	"os"

	"github.com/catflap/catflap/app/instance"
	"github.com/catflap/catflap/app/names"
	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
)

// nameFiles are the files that lead the programs of a private namespace to the stack's resolver, and those
// that must not lead them elsewhere.
func (s *setup) nameFiles() (files map[string]string, mask []string, err error) {
	if !s.dns.On() {
		return nil, nil, nil
	}
	nsswitch, err := names.HostNsswitch()
	if err != nil {
		return nil, nil, fmt.Errorf("--dns: %w", err)
	}
	prefixes := s.instance.Addrs
	if len(prefixes) == 0 {
		prefixes = instance.DefaultAddrs
	}
	var servers []netip.Addr
	for _, p := range prefixes {
		servers = append(servers, p.Addr())
	}
	files = names.Files(servers, s.resolver, nsswitch)
	for path := range files {
		if _, err := os.Stat(path); err != nil {
			return nil, nil, remedy.With(fmt.Errorf("--dns: %w", err), "a private file can only be laid over one that is there, if it is empty: as root: touch "+path)
		}
	}
	return files, names.Mask, nil
}
