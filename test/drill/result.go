package drill

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Target is a system that scripts run against.
type Target string

// The targets. Both runs a script on each and compares.
const (
	Stack  Target = "stack"  // the userspace stack, in virtual time
	Kernel Target = "kernel" // Linux's own TCP, through a TUN device in a network namespace of its own, in real time
	Both   Target = "both"
)

// Status is how a script ended.
type Status string

// Passed, ExpectedFailure and Read are good ends, the others bad ones.
const (
	Passed          Status = "passed"
	Failed          Status = "failed"
	ExpectedFailure Status = "expected-failure" // failed, as its line "expected-fail: REASON" says
	UnexpectedPass  Status = "unexpected-pass"  // passed although it says that it fails
	Refused         Status = "refused"          // asks for something that the runner or the target does not have
	Broken          Status = "broken"           // the script itself is wrong, or the target could not be set up
	Unstable        Status = "unstable"         // another run of it gave another result
	Read            Status = "read"             // was only read, and is well formed
)

// OK reports whether a script that ended so needs nobody's attention.
func (s Status) OK() bool { return s == Passed || s == ExpectedFailure || s == Read }

// Result is the outcome of one script on one target.
type Result struct {
	Script string `json:"script"`
	Target Target `json:"target"`
	Status Status `json:"status"`
	// Reason is why it is expected to fail.
	Reason string `json:"reason,omitempty"`
	// Message says what went wrong, with everything that helps to see why; "" after a pass.
	Message string `json:"message,omitempty"`
	// Limits say where, and why, a script that was only read would not run, if it would run elsewhere.
	Limits []string `json:"limits,omitempty"`
	// Line is where in the script it went wrong, 0 if nowhere.
	Line    int           `json:"line,omitempty"`
	Packets int           `json:"packets"`          // on the wire, both ways
	Elapsed time.Duration `json:"elapsed_ns"`       // on the target's clock: virtual for Stack
	Prints  []string      `json:"prints,omitempty"` // what code blocks printed

	wire []*seen
	mtu  int
}

// expectedFail is a comment that says that a script fails, and why: "// expected-fail: REASON" for the userspace stack,
// "// expected-fail(kernel): REASON" for the kernel.
var expectedFail = regexp.MustCompile(`(?m)^\s*(?://|#)\s*expected-fail(?:\((stack|kernel)\))?:[ \t]*(\S.*?)\s*$`)

// expectedFail returns why the script is expected to fail on a target, "" if it is not.
func (s *Script) expectedFail(t Target) string {
	for _, m := range expectedFail.FindAllStringSubmatch(strings.Join(s.source, "\n"), -1) {
		if m[1] == string(t) || m[1] == "" && t == Stack {
			return m[2]
		}
	}
	return ""
}

// Play runs a script on one target, Stack or Kernel, and waits for its end.
func Play(s *Script, on Target) Result { return s.play(on, Environment{}) }

// play runs a script on one target in an environment.
func (s *Script) play(on Target, env Environment) (res Result) {
	if on == Kernel {
		onKernelThread(func() { res = s.playHere(on, env) })
		return res
	}
	return s.playHere(on, env)
}

func (s *Script) playHere(on Target, env Environment) Result {
	res := Result{Script: s.Name, Target: on, Reason: s.expectedFail(on)}
	err := res.play(s, env, false)
	var (
		failure *Failure
		refused *refusal
		mistake *Error
	)
	if on == Stack && res.Reason == "" && errors.As(err, &failure) {
		// The run can be had again, now with what the stack decided on the way. To listen for that always would cost
		// each script, and it is only read after a failure.
		err = res.play(s, env, true)
	}
	switch {
	case err == nil && res.Reason == "":
		res.Status = Passed
	case err == nil:
		res.Status = UnexpectedPass
		res.Message = "passed, but the script says \"expected-fail: " + res.Reason + "\": remove that line"
	case errors.As(err, &failure):
		res.Status, res.Line = Failed, failure.Pos.Line
		if res.Reason != "" {
			res.Status = ExpectedFailure
		}
		res.Message = failure.text(s.Name)
	case errors.As(err, &refused):
		res.Status, res.Message, res.Line = Refused, err.Error(), refused.err.Pos.Line
		if res.Reason != "" { // what a target does not have at all is the plainest way to fail
			res.Status = ExpectedFailure
		}
	case errors.As(err, &mistake):
		res.Status, res.Message, res.Line = Broken, err.Error(), mistake.Pos.Line
	default:
		res.Status, res.Message = Broken, s.Name+": "+err.Error()
	}
	return res
}

func (res *Result) play(s *Script, env Environment, explain bool) error {
	set, found := s.check(res.Target, env)
	if len(found) > 0 {
		return found[0]
	}
	set.explain = explain
	var t target
	var err error
	switch res.Target {
	case Stack:
		var on *stackTarget
		if on, err = newStackTarget(set); err == nil && env.Between != nil {
			on.between = env.Between()
		}
		t = on
	case Kernel:
		set.tolerance = max(set.tolerance, kernelTolerance)
		t, err = newKernelTarget(set)
	default:
		return fmt.Errorf("target %q: stack and kernel are known", res.Target)
	}
	if err != nil {
		return fmt.Errorf("starting target %s: %w", res.Target, err)
	}
	defer t.stop()
	r := newRunner(s, set, t)
	err = r.run()
	if res.Target == Kernel {
		r.reset()
	}
	res.Packets, res.Elapsed, res.Prints, res.wire, res.mtu = len(r.log), t.elapsed(), r.prints, r.log, set.mtu
	return err
}

// text writes a failure: where, what, the script's line, expected and actual packet, the packets so far, the sockets.
func (f *Failure) text(name string) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s:%d: %s\n", name, f.Pos.Line, f.Msg)
	fmt.Fprintf(&s, "    %s\n", strings.TrimSpace(f.Source))
	if f.Detail != "" {
		indent(&s, "  ", f.Detail)
	}
	if len(f.Before) > 0 {
		s.WriteString("  packets so far:\n")
		indent(&s, "    ", strings.Join(f.Before, "\n"))
	}
	if f.Socket != "" {
		s.WriteString("  sockets:\n")
		indent(&s, "    ", f.Socket)
	}
	return strings.TrimRight(s.String(), "\n")
}

func indent(s *strings.Builder, by, text string) {
	for _, line := range strings.Split(text, "\n") {
		s.WriteString(strings.TrimRight(by+line, " ") + "\n")
	}
}
