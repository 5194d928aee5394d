package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/catflap/catflap/internal/testenv"
)

// block is a block of README: what somebody types, and what comes of it.
type block struct {
	language string // of a fenced block
	lines    []string
}

// readme returns the blocks of README.
func readme(t *testing.T) (blocks []block) {
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var b *block
	fenced := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		language, fence := strings.CutPrefix(line, "```")
		code, indented := strings.CutPrefix(line, "    ")
		switch {
		case fence && !fenced:
			blocks = append(blocks, block{language: language})
			b, fenced = &blocks[len(blocks)-1], true
		case fence:
			b, fenced = nil, false
		case fenced:
			b.lines = append(b.lines, line)
		case indented && b == nil:
			blocks = append(blocks, block{lines: []string{code}})
			b = &blocks[len(blocks)-1]
		case indented:
			b.lines = append(b.lines, code)
		default:
			b = nil
		}
	}
	return blocks
}

// typed is a command of a block.
type typed struct {
	command, comment string
	prints           []string // what README says it prints
}

// commands are the commands of a block: the lines after "$ ", or if there are none, all.
func (b block) commands() (all []typed) {
	session := strings.HasPrefix(b.lines[0], "$ ")
	for _, line := range b.lines {
		command, ok := strings.CutPrefix(line, "$ ")
		if session && !ok {
			last := &all[len(all)-1]
			last.prints = append(last.prints, line)
			continue
		}
		parts := regexp.MustCompile(`\s\s+# `).Split(command, 2)
		c := typed{command: strings.TrimSpace(parts[0])}
		if len(parts) == 2 {
			c.comment = parts[1]
		}
		all = append(all, c)
	}
	return all
}

// What differs from run to run: times, numbers of four digits or more, how wide the kernel's windows are, what a call
// returns, and lsof's column of processes.
var differs = regexp.MustCompile(`\d+\.\d{6}\b|\b\d{4,}\b|wscale \d+|= \d+$|^catflap \d+`)

// steady is a line without what differs from run to run.
func steady(line string) string {
	return differs.ReplaceAllString(strings.Join(strings.Fields(line), " "), "N")
}

// wantLines holds lines against those of README, in which "…" stands for any lines, or for the rest of one.
func wantLines(t *testing.T, what string, want []string, got string) {
	t.Helper()
	var pattern strings.Builder
	pattern.WriteString("^")
	for _, line := range want {
		switch head, cut := strings.CutSuffix(steady(line), "…"); {
		case cut && head == "":
			pattern.WriteString(`(.*\n)*?`)
		case cut:
			pattern.WriteString(regexp.QuoteMeta(head) + `.*\n`)
		default:
			pattern.WriteString(regexp.QuoteMeta(head) + `\n`)
		}
	}
	var lines []string
	for line := range strings.Lines(got) {
		lines = append(lines, steady(line))
	}
	text := ""
	if len(lines) > 0 {
		text = strings.Join(lines, "\n") + "\n"
	}
	if !regexp.MustCompile(pattern.String() + "$").MatchString(text) {
		t.Errorf("%s prints otherwise than README says (- README, + printed):\n%s", what, cmp.Diff(want, strings.Split(strings.TrimSuffix(got, "\n"), "\n")))
	}
}

// sh runs a script in network and mount namespaces of its own, in the folder dir, and returns what it prints. It must
// not fail.
func sh(t *testing.T, dir, script string) string {
	t.Helper()
	const prelude = `mount -t tmpfs none /run; ip link set lo up; `
	cmd := exec.CommandContext(t.Context(), "timeout", "-k", "5", fmt.Sprint(int(testenv.Patience/time.Second)), "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--", "sh", "-ec", prelude+script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "SHELL=/bin/sh", "XDG_RUNTIME_DIR="+dir, "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s\nof: %s", err, out, script)
	}
	return string(out)
}

// quoted is a word for sh.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// TestReadme does what README says: every block is run, and prints what stands there.
func TestReadme(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.Tun, "make", "unshare", "nsenter", "timeout", "ip", "curl", "nc", "redis-server", "redis-cli", "dnsmasq", "python3")
	runners := []struct {
		begins string // the block's first line
		run    func(*testing.T, block)
	}{
		{"make build", readmeBuild},
		{"catflap get http", readmeFirst},
		{"…", readmeTrace},
		{"catflap proxy", readmeOwn},
		{"                 ┌", nil}, // a picture
		{"$ catflap strace", readmeStrace},
		{"$ catflap run --dashboard", readmeDashboard},
		{"catflap capture", readmeCapture},
		{"$ catflap drill", readmeDrill},
		{"clock := lab", readmeLab},
		{"package main", readmeMain},
	}
	var article []typed // sessions inside one catflap run
	for _, b := range readme(t) {
		known := false
		for i, r := range runners {
			if r.begins == "" || !strings.HasPrefix(b.lines[0], r.begins) {
				continue
			}
			known, runners[i].begins = true, ""
			if r.run != nil {
				t.Run(r.begins, func(t *testing.T) {
					t.Parallel()
					r.run(t, b)
				})
			}
			break
		}
		if session := strings.HasPrefix(b.lines[0], "$ "); !known && session {
			article = append(article, b.commands()...)
		} else if !known {
			t.Errorf("nobody runs the block of README that begins with %q", b.lines[0])
		}
	}
	for _, r := range runners {
		if r.begins != "" {
			t.Errorf("README has no block that begins with %q", r.begins)
		}
	}
	t.Run("article", func(t *testing.T) {
		t.Parallel()
		readmeArticle(t, article)
	})
}

// readmeBuild builds catflap by both ways, into another folder.
func readmeBuild(t *testing.T, b block) {
	dir := t.TempDir()
	lines := b.commands()
	install, _, _ := strings.Cut(strings.TrimPrefix(lines[1].comment, "or: "), ",")
	cmd := exec.CommandContext(t.Context(), "sh", "-ec", lines[0].command+"\n"+lines[1].command+"\n"+install+"\n"+
		`"$D"/made/catflap --version; "$D"/installed/catflap --version`)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "D="+dir, "MAKEFLAGS=BIN="+dir+"/made/catflap", "GOBIN="+dir+"/installed")
	if out, err := cmd.CombinedOutput(); err != nil || strings.Count(string(out), "\ncatflap ") != 2 {
		t.Errorf("%v: %s", err, out)
	}
}

func readmeFirst(t *testing.T, b block) {
	dir := t.TempDir()
	for i, c := range b.commands() {
		got := sh(t, dir, c.command)
		if want := []string{"Hello kitty!", "Hello kitty!", "Hello kitty!", "", "ok "}[i]; !strings.Contains(got, want) {
			t.Errorf("%s: no %q in %s", c.command, want, got)
		}
	}
	if page, err := os.ReadFile(filepath.Join(dir, "cats.html")); err != nil || !strings.Contains(string(page), "<html") {
		t.Errorf("cats.html: %.100q, %v", page, err)
	}
}

func readmeTrace(t *testing.T, b block) {
	wantLines(t, "the trace", b.lines, sh(t, t.TempDir(), "catflap run --trace -- curl -so /dev/null http://10.9.0.2/"))
}

// readmeOwn has a Redis on this machine's loopback interface, and an outside with a web server and a name.
func readmeOwn(t *testing.T, b block) {
	const outside = `
		unshare --net -- sleep 1000 & out=$!
		until [ "$(readlink /proc/$out/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep .01; done
		ip link add v0 type veth peer name v1 netns $out
		ip addr add 192.0.2.254/24 dev v0; ip link set v0 up
		nsenter -t $out -n sh -ec 'ip addr add 192.0.2.1/24 dev v1; ip link set v1 up; while :; do printf "HTTP/1.0 200 OK\r\n\r\nmeow" | nc -Nl 192.0.2.1 80 >/dev/null; done' &
		echo nameserver 127.0.0.1 >/run/resolv.conf; mount --bind /run/resolv.conf "$(realpath /etc/resolv.conf)"
		dnsmasq -u root --pid-file= --no-resolv --no-hosts --listen-address=127.0.0.1 --bind-interfaces --address=/example.com/192.0.2.1
		redis-server --save '' --daemonize yes --dir /run >/dev/null
		until [ "$(redis-cli ping)" = PONG ]; do sleep .05; done
		until [ "$(curl -s http://192.0.2.1/)" = meow ]; do sleep .05; done
`
	for _, c := range b.commands() {
		t.Run(strings.Join(strings.Fields(c.command)[:2], " "), func(t *testing.T) {
			t.Parallel()
			script, want := c.command, ""
			// while has the command run until the probe prints what is expected of it.
			while := func(command, probe, want string) string {
				return command + " >/run/said 2>&1 & p=$!\nuntil " + probe + " | grep -q " + quoted(want) + "; do [ -d /proc/$p ] || { cat /run/said; exit 1; }; sleep .05; done\nkill $p; wait $p || :\necho done"
			}
			switch {
			case strings.Contains(c.command, "redis-cli"):
				want = "PONG"
			case strings.Contains(c.command, "example.com"):
				want = "meow"
			case strings.Contains(c.comment, "redis-cli"):
				script, want = while(c.command, c.comment, "PONG"), "done"
			case strings.Contains(c.comment, "curl"):
				script, want = while(c.command, c.comment, "Directory listing"), "done"
			case strings.HasSuffix(c.command, "PID"):
				script, want = "unshare --net -- sleep 1000 & its=$!\nuntil [ \"$(readlink /proc/$its/ns/net)\" != \"$(readlink /proc/self/ns/net)\" ]; do sleep .01; done\n"+
					while(strings.TrimSuffix(c.command, "PID")+"$its", "nsenter -t $its -n curl -s http://192.0.2.1/", "meow"), "done"
			default:
				t.Fatalf("nobody knows what comes of %s", c.command)
			}
			if got := sh(t, t.TempDir(), outside+script); !strings.Contains(got, want) {
				t.Errorf("%s: no %q in %s", c.command, want, got)
			}
		})
	}
}

// readmeArticle runs sessions inside one catflap run.
func readmeArticle(t *testing.T, commands []typed) {
	dir := t.TempDir()
	var script strings.Builder
	for i, c := range commands {
		if strings.HasSuffix(c.command, "&") { // a connection that is held open
			fmt.Fprintf(&script, "sleep 1000 | %s\nuntil catflap netstat -tn | grep -q ESTABLISHED; do sleep .05; done\n", c.command)
			continue
		}
		fmt.Fprintf(&script, "{ %s\n} >%d 2>&1\n", c.command, i)
	}
	if err := os.WriteFile(filepath.Join(dir, "session"), []byte(script.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	sh(t, dir, "catflap run -- sh -e session")
	for i, c := range commands {
		if strings.HasSuffix(c.command, "&") {
			continue
		}
		got, err := os.ReadFile(filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		wantLines(t, c.command, c.prints, string(got))
	}
}

// readmeStrace follows the calls of one request, while a connection is held open, as where the block stands.
func readmeStrace(t *testing.T, b block) {
	dir := t.TempDir()
	c := b.commands()[0]
	script := "sleep 1000 | nc 10.9.0.2 80 &\nuntil catflap netstat -tn | grep -q ESTABLISHED; do sleep .05; done\n" +
		c.command + " >out & p=$!\nuntil [ -s out ]; do curl -so /dev/null http://10.9.0.2/; sleep .1; done\n" +
		"n=$(wc -l <out); curl -so /dev/null http://10.9.0.2/\nuntil [ $(tail -n +$((n+1)) out | grep -c ^close) -gt 0 ]; do sleep .05; done\nkill $p; wait $p || :\ntail -n +$((n+1)) out\n"
	if err := os.WriteFile(filepath.Join(dir, "session"), []byte(script), 0o644); err != nil {
		t.Fatal(err)
	}
	wantLines(t, c.command, append([]string{"…"}, c.prints...), sh(t, dir, "catflap run -- sh -e session"))
}

// readmeDashboard types the second command into the shell that the first one is, for fewer bytes.
func readmeDashboard(t *testing.T, b block) {
	c := b.commands()
	get := strings.Replace(c[1].command, "/bytes/10000000", "/bytes/100000", 1)
	if get == c[1].command {
		t.Errorf("%s: want another size", get)
	}
	wantLines(t, c[0].command, c[0].prints, sh(t, t.TempDir(), fmt.Sprintf("echo %s | %s", quoted(get), c[0].command)))
}

// readmeCapture has each command watch requests until it has something to show.
func readmeCapture(t *testing.T, b block) {
	dir := t.TempDir()
	// In Wireshark's place stands what reads the start of a capture.
	if err := os.WriteFile(filepath.Join(dir, "wireshark"), []byte("#!/bin/sh\nhead -c 24 >shark; cat >/dev/null\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	script.WriteString("PATH=$PATH:$PWD\n")
	wants := []string{"", "", "http://", "Flags [", "REMOTE"} // of the five commands' words
	for i, c := range b.commands() {
		shows := fmt.Sprintf("grep -qF %s %d", quoted(wants[i]), i)
		switch {
		case strings.Contains(c.command, "wireshark"):
			shows = "[ -s shark ]"
		case strings.Contains(c.command, "-w trace.pcapng"):
			shows = "[ -s trace.pcapng ] && catflap tcpdump -r trace.pcapng 2>/dev/null | grep -q 'Flags .P'"
		}
		fmt.Fprintf(&script, "setsid sh -c %s >%d 2>&1 & p=$!\nuntil %s; do curl -so /dev/null http://10.9.0.2/; sleep .05; done\nkill -INT -$p 2>/dev/null || :\nwait $p || :\n", quoted("exec "+c.command), i, shows)
	}
	if err := os.WriteFile(filepath.Join(dir, "session"), []byte(script.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	sh(t, dir, "catflap run -- sh -e session")
	for i, want := range wants {
		if got, err := os.ReadFile(filepath.Join(dir, fmt.Sprint(i))); err != nil || !strings.Contains(string(got), want) {
			t.Errorf("%s: no %q in %s", b.commands()[i].command, want, got)
		}
	}
}

func readmeDrill(t *testing.T, b block) {
	c := b.commands()[0]
	got := sh(t, filepath.Join("..", ".."), c.command)
	numbers := regexp.MustCompile(`\d+(\.\d+)?(ms|s)?`)
	if want := numbers.ReplaceAllString(c.prints[0], "N"); numbers.ReplaceAllString(strings.TrimSpace(got), "N") != want {
		t.Errorf("%s prints %s, and README says %s", c.command, got, c.prints[0])
	}
}

// vet has the compiler and go vet look at a program of README's.
func vet(t *testing.T, program string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "readme.go")
	if err := os.WriteFile(file, []byte(program), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "go", "vet", file).CombinedOutput(); err != nil {
		t.Errorf("%v: %s\nof: %s", err, out, program)
	}
}

func readmeMain(t *testing.T, b block) { vet(t, strings.Join(b.lines, "\n")) }

func readmeLab(t *testing.T, b block) {
	vet(t, `package readme

import (
	"net/http"
	"testing"

	"github.com/catflap/catflap/test/lab"
)

func readme(t *testing.T, handler http.Handler) (resp *http.Response, err error) {
`+strings.Join(b.lines, "\n")+`
	return resp, err
}
`)
}
