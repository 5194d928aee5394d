package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/catflap/catflap/internal/testenv"
)

// TestKill: whichever end of connections that flow through the stack is killed, the other is told, and neither a
// connection nor a descriptor nor a process is left; and so it is where catflap itself is killed.
func TestKill(t *testing.T) {
	t.Parallel()
	n := newNeighbourhood(t)
	const conns = 50
	const inside, outside, host = "inside", "outside", "host" // where a program is
	for port, way := range []struct{ name, flags, server, listen, client, dial string }{
		{"egress", "--egress all", outside, ":PORT", inside, outsideAddr + ":PORT"},
		{"-t", "-t PORT:PORT", inside, ":PORT", outside, callerAddr + ":PORT"},
		{"--forward", "--forward 10.9.0.2:PORT=127.0.0.1:PORT", host, "127.0.0.1:PORT", inside, "10.9.0.2:PORT"},
	} {
		for i, victim := range []string{"client", "server", "catflap"} {
			t.Run(way.name+" "+victim, func(t *testing.T) {
				t.Parallel()
				with := func(s string) string { return strings.ReplaceAll(s, "PORT", strconv.Itoa(9100+10*port+i)) }
				dir := t.TempDir()
				flap := start(t, command{args: enter(n.caller, slices.Concat([]string{catflap(t), "run"}, strings.Fields(with(way.flags)),
					[]string{"--", "sh", "-c", "readlink /proc/self/ns/net >" + dir + "/ns; echo ready; exec sleep 1000"})...)})
				flap.awaitOutput("ready\n")
				pid := flap.cmd.Process.Pid
				before := fds(t, pid)
				b, err := os.ReadFile(filepath.Join(dir, "ns"))
				if err != nil {
					t.Fatal(err)
				}
				ns := strings.TrimSpace(string(b))
				in := func(where string, args ...string) *process {
					t.Helper()
					switch where {
					case outside:
						return start(t, command{args: enter(n.outside, args...)})
					case host:
						return start(t, command{args: enter(n.caller, args...)})
					}
					return start(t, command{args: append([]string{"nsenter", "--net=" + netOf(t, ns), "--"}, args...)})
				}
				count := strconv.Itoa(conns)
				server := in(way.server, append(program(t, "sink"), with(way.listen), count)...)
				server.awaitOutput("listening\n")
				client := in(way.client, append(program(t, "talk"), with(way.dial), count)...)
				client.awaitOutput("all there\n")
				server.awaitOutput("all there\n")
				killed := map[string]*process{"client": client, "server": server, "catflap": flap}[victim]
				killed.cmd.Process.Signal(syscall.SIGKILL)
				for where, p := range map[string]*process{way.client: client, way.server: server} {
					switch {
					case p == killed:
					case victim == "catflap" && where == inside:
						p.cmd.Process.Kill() // as the command would have been; a network that is gone says nothing
					default:
						p.awaitOutput("all ended\n")
					}
				}
				if victim != "catflap" {
					testenv.Await(t, "catflap's descriptors to be closed", func() bool { return fds(t, pid) <= before })
					flap.cmd.Process.Signal(os.Interrupt)
				}
				client.wait()
				server.wait()
				flap.wait()
				testenv.Await(t, "the namespace's end", func() bool { return !inUse(t, ns) })
				if r := n.at(n.caller, fmt.Sprintf("ss -tanH '( sport = :%[1]s or dport = :%[1]s )' state established", with("PORT"))); r.stdout != "" {
					t.Errorf("left on the host: %s", r.stdout)
				}
			})
		}
	}
}

// netOf returns a file of a process that is in a network namespace.
func netOf(t testing.TB, ns string) string {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if to, _ := os.Readlink(l); to == ns {
			return l
		}
	}
	t.Fatalf("nobody is in %s", ns)
	return ""
}
