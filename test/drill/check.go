package drill

import (
	"errors"
	"strings"
)

// check finds what a run of the script on a target would refuse, or find wrong in it, without running it. A run starts
// with it, so that both say the same. Errors are *Error or *refusal.
func (s *Script) check(on Target, env Environment) (settings, []error) {
	set, err := s.configure(on, env)
	if err != nil {
		return set, []error{err}
	}
	var found []error
	note := func(err error) {
		if err != nil {
			found = append(found, err)
		}
	}
	opening := len(s.opening()) - len(s.Init) // events whose settings are made before the start
	shell := func(sh *Shell, started bool) {
		commands, err := s.commands(sh, on, env.Shell)
		note(err)
		for _, c := range commands {
			if on == Stack && started {
				note(sysctlFixed(c, set))
			}
		}
	}
	for _, sh := range s.Init {
		shell(sh, false)
	}
	r := newRunner(s, set, nothing{})
	known := map[string]bool{}
	for k := range infoSymbols {
		known[k] = true
	}
	for _, name := range infoNames(on) {
		known[name] = true
	}
	for i, e := range s.Events {
		switch {
		case e.Shell != nil:
			shell(e.Shell, i >= opening)
		case e.Call != nil:
			note(r.checkCall(e.Call, e.Time.Blocking))
		case e.Code != nil:
			note(s.checkCode(e.Code, known))
		case e.Packet.ICMP != nil:
			m := *e.Packet.ICMP
			pk := *e.Packet
			pk.ICMP = &m
			note(r.resolveICMP(&pk))
		}
	}
	for _, sh := range s.Cleanup {
		shell(sh, true)
	}
	return set, found
}

// nothing is a target that is only there to be checked against: nothing runs on it.
type nothing struct{ target }

// checkCall reads a call as a run would, and notes the fds that it makes.
func (r *runner) checkCall(c *Call, wait bool) error {
	cl, err := r.begin(c, wait)
	if err != nil {
		return err
	}
	if _, any := c.Result.(Ellipsis); !any {
		a := &args{r: r, call: c}
		a.number(c.Result)
		if a.err != nil {
			return a.err
		}
	}
	if n, ok := c.Result.(Int); ok && n.Value >= 0 && makesFD[c.Name] && cl.finish != nil {
		cl.finish(n.Value)
	}
	return nil
}

// checkCode finds names in a block that nothing gives a value.
func (s *Script) checkCode(c *Code, known map[string]bool) error {
	var err error
	for _, st := range c.Statements {
		for _, x := range []codeExpr{st.x, st.msg} {
			walkNames(x, func(n codeName) {
				switch {
				case known[n.name] || err != nil:
				case isInfo(n.name):
					err = &refusal{s.errorf(n.pos, "%s is not known on this target", n.name)}
				default:
					err = s.errorf(n.pos, "the name %s is not known here", n.name)
				}
			})
		}
		if st.kind == stmtAssign {
			known[st.name] = true
		}
	}
	return err
}

// walkNames calls f for each name in an expression.
func walkNames(x codeExpr, f func(codeName)) {
	switch x := x.(type) {
	case codeName:
		f(x)
	case codeTuple:
		for _, e := range x.items {
			walkNames(e, f)
		}
	case codeUnary:
		walkNames(x.x, f)
	case codeBinary:
		walkNames(x.x, f)
		walkNames(x.y, f)
	case codeCompare:
		for _, e := range x.operands {
			walkNames(e, f)
		}
	case codeCall:
		for _, e := range x.args {
			walkNames(e, f)
		}
	}
}

// infoNames are the fields of TCP_INFO that a target knows.
func infoNames(on Target) []string {
	if on == Kernel {
		return kernelInfo
	}
	names := []string{"tcpi_state", "tcpi_ca_state"}
	for name := range stackInfo {
		names = append(names, name)
	}
	return names
}

// isInfo reports whether a name in a code block is of what the system says of a socket.
func isInfo(name string) bool {
	return strings.HasPrefix(name, "tcpi_") || strings.HasPrefix(name, "SK_MEMINFO_")
}

// Check reads a script and returns what a run on a target would refuse, or find wrong in it: nil if it would run.
func (s *Script) Check(on Target, env Environment) error {
	_, found := s.check(on, env)
	return errors.Join(found...)
}
