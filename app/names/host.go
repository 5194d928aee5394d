package names

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// Spec is what a user says about names: whether the host's resolvers are asked, and the own names.
type Spec struct {
	Host bool
	Own  map[string][]netip.Addr
}

// On reports whether there is anything to answer.
func (s Spec) On() bool { return s.Host || len(s.Own) > 0 }

// Parse reads "off", or words between commas: "host" and NAME=ADDR. A name may have several addresses, each
// with a word of its own.
func Parse(text string) (s Spec, err error) {
	if text == "off" || text == "" {
		return s, nil
	}
	for word := range strings.SplitSeq(text, ",") {
		if word == "host" {
			s.Host = true
			continue
		}
		name, addr, ok := strings.Cut(word, "=")
		if !ok {
			return s, fmt.Errorf("%q: want host, off, or NAME=ADDR, several between commas", word)
		}
		if _, numeric := netip.ParseAddr(name); numeric == nil || !validName(name) {
			return s, fmt.Errorf("%q: %q is no name of a host: want letters, digits, hyphens and dots", word, name)
		}
		a, err := netip.ParseAddr(addr)
		if err != nil || a.Zone() != "" || a.Is4In6() {
			return s, fmt.Errorf("%q: %q is no IP address", word, addr)
		}
		if s.Own == nil {
			s.Own = map[string][]netip.Addr{}
		}
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		s.Own[name] = append(s.Own[name], a)
	}
	return s, nil
}

// validName reports whether s is a host's name with a letter in it, as a fault's rule reads one too.
func validName(s string) bool {
	if _, ok := dns.IsDomainName(s); !ok {
		return false
	}
	letter := false
	for i, r := range s {
		switch {
		case 'a' <= r|0x20 && r|0x20 <= 'z' && r < 0x80:
			letter = true
		case '0' <= r && r <= '9', (r == '-' || r == '_' || r == '.') && i > 0:
		default:
			return false
		}
	}
	return letter
}

// Resolver is what a host's resolv.conf says.
type Resolver struct {
	Servers []netip.AddrPort
	Search  []string
	Ndots   int // how many dots a name has that is tried as it is first; 1 is usual
}

// ErrNoServers says that a resolv.conf names no resolver.
var ErrNoServers = errors.New("no nameserver")

// ReadResolver reads a resolv.conf, "/etc/resolv.conf" as a rule. Without nameservers the error wraps ErrNoServers.
func ReadResolver(path string) (r Resolver, err error) {
	c, err := dns.ClientConfigFromFile(path)
	if err != nil {
		return r, err
	}
	r.Search, r.Ndots = c.Search, c.Ndots
	for _, s := range c.Servers {
		if a, err := netip.ParseAddr(s); err == nil {
			r.Servers = append(r.Servers, netip.AddrPortFrom(a, 53))
		}
	}
	if len(r.Servers) == 0 {
		return r, fmt.Errorf("%s: %w", path, ErrNoServers)
	}
	return r, nil
}

// Files are the files of /etc by which programs ask the resolvers at the addresses servers, and Mask the
// sockets of services that would answer them otherwise. Nsswitch is the host's nsswitch.conf, "" if it has
// none: then there is no private one, since the C libraries' default is right.
func Files(servers []netip.Addr, r Resolver, nsswitch string) map[string]string {
	var b strings.Builder
	b.WriteString("# This file is private to the namespace of catflap run, whose --dns it follows.\n")
	for _, a := range servers[:min(len(servers), maxUpstreams)] {
		fmt.Fprintf(&b, "nameserver %s\n", a)
	}
	if len(r.Search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(r.Search, " "))
	}
	if r.Ndots > 1 {
		b.WriteString("options ndots:" + strconv.Itoa(r.Ndots) + "\n")
	}
	files := map[string]string{"/etc/resolv.conf": b.String()}
	if nsswitch != "" {
		files["/etc/nsswitch.conf"] = hostsByDNS(nsswitch)
	}
	return files
}

// Mask are the sockets of nscd and of systemd-resolved, both of which answer by themselves.
var Mask = []string{"/run/nscd/socket", "/var/run/nscd/socket", "/run/systemd/resolve/io.systemd.Resolve", "/run/systemd/resolve/io.systemd.Resolve.Monitor"}

// hostsByDNS has names of hosts looked up in /etc/hosts and by DNS, and by nothing else.
func hostsByDNS(nsswitch string) string {
	const hosts = "hosts: files dns\n"
	var b strings.Builder
	found := false
	for line := range strings.Lines(nsswitch) {
		if strings.HasPrefix(strings.TrimLeft(line, " \t"), "hosts:") {
			line, found = hosts, true
		}
		b.WriteString(line)
	}
	if !found {
		if s := b.String(); s != "" && !strings.HasSuffix(s, "\n") {
			b.WriteString("\n")
		}
		b.WriteString(hosts)
	}
	return b.String()
}

// HostNsswitch is the host's nsswitch.conf, "" if there is none.
func HostNsswitch() (string, error) {
	b, err := os.ReadFile("/etc/nsswitch.conf")
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}
