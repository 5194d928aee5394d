package peek

import (
	"strings"
	"testing"
)

// TestCheck fails when netstack has moved what catflap looks for.
func TestCheck(t *testing.T) {
	if err := Check(); err != nil {
		t.Errorf("netstack has changed, and catflap loses what it tells or mends by:\n%v", err)
	}
	if !CanLook() || !CanArm() {
		t.Errorf("the guards can look: %v, and arm a timer: %v; want both", CanLook(), CanArm())
	}
}

// Each thing that is missing is named once, with all that is lost.
func TestCheckMissing(t *testing.T) {
	for _, c := range []struct {
		path, to string
		want     []string
	}{
		{"snd.resendTimer", "snd.resendTimerOfOld", []string{"tcp.sender.resendTimerOfOld: " + lostStall + ", " + lostRTO + ", " + lostTimers}},
		{"snd.resendTimer.timer", "snd.resendTimer.state", []string{"tcp.sender.resendTimer.state as another type than tcp.timerState: " + lostStall}},
		{"txHash", "hash", []string{"tcp.Endpoint.hash: " + lostCause + ", " + lostSample + ", " + lostTimers}},
		{"h.retransmitTimer.t", "h.retransmitTimer.x", []string{"tcp.backoffTimer.x: " + lostTimers}},
		{"nanoseconds", "seconds", []string{"tcpip.MonotonicTime.seconds: " + lostClock}},
	} {
		restore := Rename(c.path, c.to)
		err := Check()
		restore()
		if err == nil || err.Error() != strings.Join(c.want, "\n") {
			t.Errorf("%s as %s:\n got %v\nwant %s", c.path, c.to, err, strings.Join(c.want, "\n"))
		}
	}
	if err := Check(); err != nil {
		t.Errorf("after all is restored: %v", err)
	}
}

// A function that netstack has not any more is missed too.
func TestCheckFunctions(t *testing.T) {
	writers["(*sender).resendAnything"] = ByResend
	defer delete(writers, "(*sender).resendAnything")
	if err := Check(); err == nil || err.Error() != "tcp.(*sender).resendAnything: "+lostCause {
		t.Errorf("got %v", err)
	}
}

func BenchmarkFunctions(b *testing.B) {
	for b.Loop() {
		findFunctions()
	}
}
