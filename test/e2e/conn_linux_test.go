package e2e

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/catflap/catflap/app/instance"
	"github.com/catflap/catflap/internal/testenv"
	"github.com/catflap/catflap/tun"
	"github.com/catflap/catflap/tun/netns"
)

// TestConnOverTun: the same with Linux's own sockets at one end and a TUN device between.
func TestConnOverTun(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, testenv.Tun)
	for _, driver := range []tun.Driver{tun.Offload, tun.Water} {
		for _, address := range []string{"10.9.0.2:0", "[fd00:9::2]:0"} {
			t.Run(fmt.Sprint(driver, "/", address), func(t *testing.T) {
				t.Parallel()
				ns, err := netns.Start(context.Background(), netns.Config{
					Device: tun.Config{Driver: driver}, HostAddrs: instance.DefaultHostAddrs,
				})
				if err != nil {
					t.Fatalf("%v; remedy: %s", err, tun.Diagnose(err))
				}
				defer ns.Close()
				i, err := instance.Start(instance.Config{}, ns.Device())
				if err != nil {
					t.Fatal(err)
				}
				defer i.Close()
				testConns(t, listen(t, i.Stack(), address), kernelDialer(ns))
			})
		}
	}
}

// kernelDialer dials with sockets of a network namespace. A socket belongs to the namespace of the thread that makes it,
// so that is done on a thread which enters the namespace, and ends with its goroutine because that stays locked to it.
func kernelDialer(ns *netns.Namespace) dialer {
	return func(ctx context.Context, network, address string) (c net.Conn, err error) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread()
			fd, e := unix.Open(fmt.Sprintf("/proc/%d/ns/net", ns.PID()), unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if e != nil {
				err = e
				return
			}
			defer unix.Close(fd)
			if err = unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
				return
			}
			c, err = (&net.Dialer{}).DialContext(ctx, network, address)
		}()
		<-done
		return c, err
	}
}
