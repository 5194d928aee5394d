package tun_test

import (
	"fmt"

	"github.com/catflap/catflap/tun"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Two stacks on a wire in memory: no device, no privilege, any operating system.
func ExamplePipe() {
	a, b := tun.Pipe(1500)
	defer a.Close() // both ends
	for _, end := range []*tun.PipeEndpoint{a, b} {
		s := stack.New(stack.Options{NetworkProtocols: []stack.NetworkProtocolFactory{ipv4.NewProtocol}})
		defer s.Destroy()
		if err := s.CreateNIC(1, end); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(a.MTU(), a.SupportedGSO() == stack.HostGSOSupported)
	// Output: 1500 true
}

func ExampleOpen() {
	dev, err := tun.Open(tun.Config{MTU: 20})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer dev.Close()
	fmt.Println(dev.Name(), dev.Offloads())
	// Output: tun: mtu 20 is not valid: want 68..65535 (IPv6 needs at least 1280)
}
