package stack

import (
	"slices"
	"testing"
	"time"

	"github.com/catflap/catflap/internal/testenv"
)

func TestSenderVars(t *testing.T) {
	s := newStack(t, Config{})
	c, srv := connPair(t, s, "tcp", "127.0.0.1:0")
	defer c.Close()
	defer srv.Close()
	if _, err := c.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if _, err := srv.Read(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	s.Quiesce() // the acknowledgement has come back
	i := c.Info()
	// lo: 65536 less the headers, and 12 bytes of time stamps.
	if want := 65536 - 20 - 20 - 12; i.TCP.SndMSS > want || i.TCP.SndMSS < want-40 {
		t.Errorf("MSS %d, want about %d", i.TCP.SndMSS, want)
	}
	if i.TCP.SndWnd == 0 {
		t.Error("no send window")
	}
	if i.Timer == nil || i.Timer.Name != "keepalive" || i.Timer.Expires > defaultKeepAliveIdle || i.Timer.Expires < defaultKeepAliveIdle-5*time.Second {
		t.Errorf("timer %+v, want keepalive in %s", i.Timer, defaultKeepAliveIdle)
	}
}

func TestTimeWaitTimer(t *testing.T) {
	s := newStack(t, Config{TCP: TCPConfig{TimeWait: 20 * time.Second}})
	c, srv := connPair(t, s, "tcp", "127.0.0.1:0")
	c.Close() // the first to close waits
	srv.Close()
	var waits SocketInfo
	testenv.Await(t, "a socket in TIME-WAIT", func() bool {
		all := s.Sockets()
		i := slices.IndexFunc(all, func(i SocketInfo) bool { return i.State == "TIME-WAIT" })
		if i >= 0 {
			waits = all[i]
		}
		return i >= 0
	})
	if i := waits; i.Timer == nil || i.Timer.Name != "timewait" || i.Timer.Expires > 20*time.Second || i.Timer.Expires < 10*time.Second {
		t.Errorf("timer %+v, want timewait in at most 20 s", i.Timer)
	}
}
