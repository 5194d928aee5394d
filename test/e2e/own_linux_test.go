package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/catflap/catflap/internal/testenv"
)

// unprivileged is the command line of args as an unprivileged user who may open the TUN device file.
func unprivileged(t testing.TB, args ...string) []string {
	t.Helper()
	testenv.Require(t, testenv.Root, testenv.Tun, "unshare", "setpriv")
	return asArgs(sharedDir(t), "666", args...)
}

// TestAsUser: CMD is who calls, and what refuses root starts.
func TestAsUser(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, testenv.Tun, "psql")
	initdb, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(initdb) == 0 {
		testenv.Skip(t, "PostgreSQL is not installed", "as root: make deps")
	}
	bin := catflap(t)
	for _, tt := range []struct {
		name string
		args []string
	}{
		{"user", unprivileged(t, bin, "run", "--as-user", "--")},
		{"root", []string{bin, "run", "--as-user=nobody", "--"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// Nobody has the capabilities of root's, and all else is as for root.
			r := run(t, append(tt.args, "sh", "-c", `id -u; id -g; grep CapEff /proc/self/status; curl -s http://10.9.0.2/; ip link del cat0 2>/dev/null || echo " kept"`)...).want(t, 0)
			if want := "65534\n65534\nCapEff:\t0000000000000000\nHello kitty! kept\n"; r.stdout != want {
				t.Errorf("got %q, want %q, stderr %s", r.stdout, want, r.stderr)
			}
		})
	}
	t.Run("postgres", func(t *testing.T) {
		const script = `set -e
PATH=$PATH:$1 D=$2/data
initdb -A trust -U cat --no-sync -D "$D" >/dev/null
pg_ctl -D "$D" -s -w -l "$2/log" -o "-k $2 -c listen_addresses=127.0.0.1 -c fsync=off" start || { cat "$2/log" >&2; exit 1; }
psql -U cat -h 127.0.0.1 -Atc 'select 6*7' postgres
pg_ctl -D "$D" -s -w -m immediate stop
rm -r "$D" "$2/log"`
		dir := sharedDir(t)
		args := unprivileged(t, bin, "run", "--as-user", "--", "sh", "-c", script, "sh", filepath.Dir(initdb[0]), dir)
		if r := run(t, args...).want(t, 0); r.stdout != "42\n" {
			t.Errorf("stdout %q, stderr %q", r.stdout, r.stderr)
		}
	})
	t.Run("refused", func(t *testing.T) {
		wantError(t, run(t, bin, "run", "--as-user", "--", "true").want(t, 2).stderr, "--as-user: you are root", "--as-user=NAME")
		wantError(t, run(t, bin, "run", "--as-user=nobody-here", "--", "true").want(t, 2).stderr, "nobody-here", "getent")
		wantError(t, run(t, bin, "run", "--as-user", "--as-root", "--", "true").want(t, 2).stderr, "as-root", "as-user")
		wantError(t, run(t, unprivileged(t, bin, "run", "--as-user=root", "--", "true")...).want(t, 2).stderr, "only root", "leave the name out")
	})
}

// TestNames: what dig and getent get of own names, and of those that a dnsmasq knows which is the host's resolver.
// The host's /etc stays as it is.
func TestNames(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, testenv.Tun, "unshare", "dnsmasq", "dig", "getent", "ip")
	bin := catflap(t)
	dir := sharedDir(t)
	const outside = `set -e
mount -t tmpfs tmpfs "$2"
echo "nameserver 127.0.0.1
search corp.test" >"$2/resolv.conf"
mount --bind "$2/resolv.conf" /etc/resolv.conf
ip link set lo up
text=$(printf %0200d 7)
dnsmasq --keep-in-foreground --conf-file=/dev/null --pid-file= --user=root --log-facility=- --no-resolv --no-hosts --listen-address=127.0.0.1 --bind-interfaces \
	--host-record=a.corp.test,192.0.2.1,2001:db8::1 --txt-record=t.test,meow --srv-host=_cat._tcp.test,a.corp.test,99 --dns-rr=raw.test,65280,0102 \
	$(for i in 1 2 3 4 5 6 7 8 9; do echo --txt-record=big.test,$i$text; done) &
until dig +tries=1 +time=1 +short @127.0.0.1 t.test TXT | grep -q meow; do kill -0 $!; done
before=$(cat /etc/resolv.conf /etc/nsswitch.conf; cat /proc/self/mountinfo)
"$1" run --dns host,db=10.9.0.7,db=fd00:9::7 --netem "drop udp to db" -- sh -c "$3"
"$1" run --egress all -- dig +tries=1 +time=30 +short a.corp.test A # names go where addresses may go
"$1" run --egress all --dns off -- cmp /etc/resolv.conf "$2/resolv.conf" && echo untouched
[ "$before" = "$(cat /etc/resolv.conf /etc/nsswitch.conf; cat /proc/self/mountinfo)" ] || echo changed`
	const inside = `dig() { command dig +tries=1 +time=30 +short "$@"; }
dig db A; dig db AAAA; dig -x 10.9.0.7; dig +tcp db A
dig a.corp.test A; dig a.corp.test AAAA; dig t.test TXT; dig _cat._tcp.test SRV; dig raw.test TYPE65280
dig +ignore big.test TXT | wc -l; dig big.test TXT | wc -l; dig +tcp big.test TXT | wc -l
getent ahostsv4 a | head -1; getent ahostsv6 db | head -1; getent hosts none.test || echo unknown
ip route get 10.9.0.7 >/dev/null; grep ^hosts: /etc/nsswitch.conf`
	want := `10.9.0.7
fd00:9::7
db.
10.9.0.7
192.0.2.1
2001:db8::1
"meow"
0 0 99 a.corp.test.
\# 2 0102
5
9
9
192.0.2.1       STREAM a.corp.test
fd00:9::7       STREAM db.corp.test
unknown
hosts: files dns
192.0.2.1
untouched
`
	r := run(t, "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", outside, "sh", bin, dir, inside).want(t, 0)
	if r.stdout != want {
		t.Errorf("got %s, want %s; stderr %s", r.stdout, want, r.stderr)
	}
}

// TestFaultByName: a rule loses what goes to the name, and nothing else.
func TestFaultByName(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, testenv.Tun, "curl")
	bin := catflap(t)
	const script = `curl -s --connect-timeout 1 http://db/; echo " $?"; curl -s http://web/; echo
"$0" netem add drop to nobody; "$0" netem del 1; curl -s http://db/`
	r := run(t, bin, "run", "--dns", "db=10.9.0.2,web=fd00:9::2", "--netem", "drop tcp to db", "--", "sh", "-c", script, bin).want(t, 0)
	if r.stdout != " 28\nHello kitty!\nHello kitty!" || !strings.Contains(r.stderr, "nobody: is no address") {
		t.Errorf("stdout %q, stderr %q", r.stdout, r.stderr)
	}
	wantError(t, run(t, bin, "run", "--netem", "drop udp to db", "--", "true").want(t, 2).stderr, "db is no address", "--dns db=ADDR")
	wantError(t, run(t, bin, "run", "--dns", "db=nowhere", "--", "true").want(t, 2).stderr, `"nowhere" is no IP address`)
}

// TestAttach: a namespace that was there before has a device, impaired, for as long as attach runs, and is then as
// before.
func TestAttach(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, testenv.Tun, "unshare", "nsenter", "curl", "ip", "ping", "setpriv")
	bin := catflap(t)
	// The namespace has a sleeper in it; attach is told of it by PID and is ended by a signal, then by the sleeper's end.
	const script = `cd /
unshare $2 sleep 1000 & target=$!
until [ "$(readlink /proc/$target/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do kill -0 $target || exit 1; done

state() { nsenter $1 -t $target -n sh -c 'ip -o link; ip -o addr; ip route show table all'; cat /proc/$target/mountinfo; readlink /proc/$target/fd/*; }
before=$(state "$3")
started() { until grep -qs CATFLAP_CONTROL "$4"; do kill -0 $attached || { cat "$4" >&2; exit 1; }; done; }
"$1" attach --netem 'drop icmp every 2' $target 2>"$4" & attached=$!
started "$@"
nsenter $3 -t $target -n curl -s http://10.9.0.2/; nsenter $3 -t $target -n curl -sg 'http://[fd00:9::2]/'; echo
nsenter $3 -t $target -n ping -q -c 4 -i 0.1 -W 1 10.9.0.2 | grep -o '[0-9]* received'
nsenter $3 -t $target -n ip -o link show lo | grep -o 'state DOWN'
kill -INT $attached; wait $attached; echo ended $?
[ "$before" = "$(state "$3")" ] && echo as before
rm "$4" # or it would be taken for the next one's
"$1" attach $target 2>"$4" & attached=$!
started "$@"
kill $target; wait $attached; echo ended $?
grep -o 'has ended' "$4"; rm "$4"`
	const want = "Hello kitty!Hello kitty!\n0 received\nstate DOWN\nended 0\nas before\nended 0\nhas ended\n"
	for _, tt := range []struct{ name, unshare, nsenter string }{
		{"root", "-n", "-F"},
		{"rootless", "-rn", "-U --preserve-credentials"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			log := filepath.Join(sharedDir(t), "log")
			args := []string{"sh", "-c", strings.ReplaceAll(strings.ReplaceAll(script, "$2", tt.unshare), "$3", tt.nsenter), "sh", bin, "", tt.nsenter, log}
			if tt.name == "rootless" {
				args = unprivileged(t, args...)
			}
			if r := run(t, args...).want(t, 0); r.stdout != want {
				t.Errorf("stdout %q, want %q; stderr %s", r.stdout, want, r.stderr)
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "podman")
		for _, tt := range []struct {
			args   []string
			status int
			says   []string
		}{
			{nil, 2, []string{"want one of PID"}},
			{[]string{"cat"}, 2, []string{`"cat" is no process id`, "pgrep"}},
			{[]string{"1", "--netns", path}, 2, []string{"want one of PID"}},
			{[]string{"--netns", "/etc/passwd"}, 1, []string{"/etc/passwd", "/run/netns/NAME"}},
			{[]string{"--netns", path}, 1, []string{path, "no such file"}},
			{[]string{"99999999"}, 1, []string{"99999999", "no such process"}},
		} {
			wantError(t, run(t, append([]string{bin, "attach"}, tt.args...)...).want(t, tt.status).stderr, tt.says...)
		}
		// Not this process: its first thread may be one that another test has moved.
		r := run(t, "sh", "-c", `"$0" attach $$`, bin).want(t, 1)
		wantError(t, r.stderr, "this network namespace", "catflap serve")
		r = run(t, unprivileged(t, bin, "attach", "1")...).want(t, 1)
		wantError(t, r.stderr, "permission denied", "run as root")
		attach := func(says ...string) {
			t.Helper()
			r := start(t, command{args: []string{bin, "attach", "--container", "purr"}, env: []string{"PATH=" + filepath.Dir(path)}}).wait().want(t, 1)
			wantError(t, r.stderr, says...)
		}
		attach("none of podman, docker, nerdctl is in PATH", "attach PID")
		for script, says := range map[string]string{"echo no such object >&2; exit 125": "podman: no such object", "echo 0": "podman start purr", "echo $PPID": "container purr is in this network namespace"} {
			if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
				t.Fatal(err)
			}
			attach(says)
		}
	})
}
