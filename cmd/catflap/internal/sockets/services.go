package sockets

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"sync"
)

// ServicesFile is where the C library finds the names of ports (services(5)).
const ServicesFile = "/etc/services"

// services are the names of ports, as getservbyport(3) gives them.
type services map[service]string

type service struct {
	network string // "tcp" or "udp"
	port    uint16
}

// loadServices reads ServicesFile once; without the file ports have no names.
var loadServices = sync.OnceValue(func() services {
	f, err := os.Open(ServicesFile)
	if err != nil {
		return nil
	}
	defer f.Close()
	s := services{}
	for sc := bufio.NewScanner(f); sc.Scan(); {
		s.parse(sc.Text())
	}
	return s
})

// parse takes a line such as "http  80/tcp  www  # comment". The first name of a
// port counts.
func (s services) parse(line string) {
	line, _, _ = strings.Cut(line, "#")
	f := strings.Fields(line)
	if len(f) < 2 {
		return
	}
	port, network, ok := strings.Cut(f[1], "/")
	n, err := strconv.ParseUint(port, 10, 16)
	if !ok || err != nil {
		return
	}
	key := service{network, uint16(n)}
	if _, known := s[key]; !known {
		s[key] = f[0]
	}
}

// port writes a port as its name, or as a number if it has none; "*" for port 0.
func (s services) port(network string, p uint16) string {
	if p == 0 {
		return "*"
	}
	if name, ok := s[service{network, p}]; ok {
		return name
	}
	return strconv.Itoa(int(p))
}

// number is the port of a service's name, or a port number.
func (s services) number(name string) (uint16, bool) {
	if n, err := strconv.ParseUint(name, 10, 16); err == nil {
		return uint16(n), n > 0
	}
	for k, v := range s {
		if v == name {
			return k.port, true
		}
	}
	return 0, false
}
