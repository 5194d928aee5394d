package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/catflap/catflap/app/cats"
	"github.com/catflap/catflap/internal/testenv"
)

// pass is how much of the pattern of /bytes a test moves, and its SHA-256: catflap get http://10.9.0.2/bytes/N | sha256sum.
type pass struct {
	bytes  int
	sha256 string
}

var (
	gibibyte        = pass{1 << 30, "26e5688babef5ce371326e549de7c936d04a9416ffa9862fc685607fc58aeae4"}
	quarterGibibyte = pass{1 << 28, "59255f37027a678f98fec36b6194624b2e723ba6d8c43e5a477b53d669ce7b3a"}
)

// TestPassSums holds the sums against the pattern itself.
func TestPassSums(t *testing.T) {
	t.Parallel()
	for _, p := range []pass{quarterGibibyte, gibibyte} {
		if raceEnabled && p == gibibyte {
			continue // takes the race detector half a minute
		}
		if got := sum(cats.NewPattern(int64(p.bytes))); got != p.sha256 {
			t.Errorf("SHA-256 of %d bytes: %s, want %s", p.bytes, got, p.sha256)
		}
	}
}

// TestGibibyte moves 1 GiB down and up again at the same time, and less where it is slow. The server's sum of what came
// back is right only if all came down right, and all went up right.
func TestGibibyte(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("moves 2.5 GiB; run without -short")
	}
	testenv.Require(t, testenv.Root, testenv.Tun, "curl")
	bin := fast(t)
	everyWay(t, func(t *testing.T, driver, url string) {
		moved := gibibyte
		if driver == "water" {
			moved = quarterGibibyte
		}
		script := fmt.Sprintf("curl -sSg '%s/bytes/%d' | curl -sSg -T - '%s/upload'", url, moved.bytes, url)
		r := start(t, command{args: runArgs(bin, driver, script), limit: bulkPatience}).wait().want(t, 0)
		var got uploaded
		if err := json.Unmarshal([]byte(r.stdout), &got); err != nil {
			t.Fatalf("%v: stdout %q, stderr %q", err, r.stdout, r.stderr)
		}
		if want := (uploaded{int64(moved.bytes), moved.sha256}); got != want {
			t.Errorf("the server received %+v, want %+v", got, want)
		}
	})
}

// TestGibibyteToWc is the pipeline that README shows: curl's output is the command's own.
func TestGibibyteToWc(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, testenv.Tun, "curl")
	r := start(t, command{args: []string{fast(t), "run", "--", "sh", "-c", "curl -s http://10.9.0.2/bytes/1073741824 | wc -c"}, limit: bulkPatience}).wait().want(t, 0)
	if strings.TrimSpace(r.stdout) != "1073741824" {
		t.Errorf("stdout %q, want 1073741824", r.stdout)
	}
}

// TestConcurrentCurls has 200 curls, each a process of its own, fetch at the same time.
func TestConcurrentCurls(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, testenv.Tun, "curl")
	const curls, least = 200, 100_000
	everyWay(t, func(t *testing.T, driver, url string) {
		dir := t.TempDir()
		// The gate opens when all are there: reading a fifo blocks until somebody writes.
		script := fmt.Sprintf(`mkfifo %[1]s/gate
for i in $(seq %[2]d); do
	{ echo >>%[1]s/there; read _ <%[1]s/gate; curl -sSg --max-time 100 -o %[1]s/$i '%[3]s/bytes/'$((%[4]d+i)) || echo curl $i: $?; } &
done
until [ "$(wc -l <%[1]s/there)" = %[2]d ]; do sleep 0.02; done
yes >%[1]s/gate 2>/dev/null &
wait $(jobs -p | head -n -1)
`, dir, curls, url, least)
		if r := inside(t, driver, script); r.status != 0 && r.stdout+r.stderr != "" {
			t.Errorf("exit status %d: %s%s", r.status, r.stdout, r.stderr)
		}
		for i := 1; i <= curls; i++ {
			b, err := os.ReadFile(filepath.Join(dir, fmt.Sprint(i)))
			if err != nil {
				t.Error(err)
			} else if err := isPattern(0, least+i)(answer{body: b}); err != nil {
				t.Errorf("curl %d: %v", i, err)
			}
		}
	})
}

// TestDeviceRemovedUnderLoad removes the interface during a download. The process cannot go on without it, and says so.
func TestDeviceRemovedUnderLoad(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, testenv.Tun, "curl", "ip", "unshare")
	// The second field of the interface's line counts the bytes of the download.
	const script = `curl -s -o /dev/null http://10.9.0.2/bytes/1099511627776 &
until awk '/cat0:/ { exit !($2 > 1e6) }' /proc/net/dev; do sleep 0.02; done
ip link del cat0; echo removed; `
	check := func(t *testing.T, p *process) {
		t.Helper()
		r := p.wait().want(t, 1)
		wantError(t, r.stderr, "cat0", "removed")
	}
	for _, driver := range []string{"offload", "water"} {
		t.Run(driver+"/serve", func(t *testing.T) {
			s := serve(t, catflap(t), "--driver", driver)
			s.sh(script+"kill $!").want(t, 0)
			check(t, s.process)
		})
		t.Run(driver+"/run", func(t *testing.T) {
			// The command would go on; it may be ended before it has said that it removed the interface.
			check(t, start(t, command{args: runArgs(catflap(t), driver, script+"exec sleep 1000")}))
		})
	}
}

// TestDrain ends serve while a download runs.
func TestDrain(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, testenv.Tun, "curl")
	// download starts one that takes seconds, and returns when it is under way.
	download := func(t *testing.T, s server, rate, bytes string) (curl *process, file string) {
		file = filepath.Join(t.TempDir(), "download")
		curl = s.startSh(fmt.Sprintf("exec curl -sS --limit-rate %s -o %s http://10.9.0.2/bytes/%s", rate, file, bytes))
		testenv.Await(t, "the download's beginning", func() bool {
			i, err := os.Stat(file)
			return err == nil && i.Size() > 0
		})
		return curl, file
	}
	signal := func(t *testing.T, s server, sig os.Signal) {
		t.Helper()
		if err := s.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("finishes what runs", func(t *testing.T) {
		t.Parallel()
		s := serve(t, catflap(t), "--drain", "1h")
		const size = 60_000_000 // more than what fits into buffers
		curl, file := download(t, s, "20M", fmt.Sprint(size))
		signal(t, s, syscall.SIGTERM)
		s.await("draining")
		if r := s.sh("curl -s -o /dev/null -w '%{http_code}' http://10.9.0.2/healthz"); r.stdout != "503" {
			t.Errorf("while draining /healthz answers %q, want 503", r.stdout)
		}
		if r := s.sh("curl -s -o /dev/null -w '%{http_code}' http://10.9.0.2/"); r.stdout != "503" {
			t.Errorf("while draining / answers %q, want 503", r.stdout)
		}
		curl.wait().want(t, 0)
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := isPattern(0, size)(answer{body: b}); err != nil {
			t.Errorf("the download: %v", err)
		}
		s.wait().want(t, 0)
	})
	t.Run("cuts what takes too long", func(t *testing.T) {
		t.Parallel()
		s := serve(t, catflap(t), "--drain", "300ms")
		// It would take days. After the reset curl goes on reading what its kernel has, which may be 32 MB.
		curl, _ := download(t, s, "10M", "1099511627776")
		begin := time.Now()
		signal(t, s, syscall.SIGTERM)
		r := s.wait().want(t, 0)
		if took := time.Since(begin); took < 300*time.Millisecond {
			t.Errorf("it took %v to end, want the 300ms of --drain", took)
		}
		if !strings.Contains(r.stderr, "before all requests were answered") {
			t.Errorf("it does not say that requests were cut: %s", r.stderr)
		}
		if r := curl.wait(); r.status == 0 {
			t.Error("curl takes half a download for a whole one")
		}
	})
	t.Run("a second signal ends it", func(t *testing.T) {
		t.Parallel()
		s := serve(t, catflap(t), "--drain", "1h")
		download(t, s, "1M", "1099511627776")
		signal(t, s, syscall.SIGTERM)
		s.await("draining")
		signal(t, s, os.Interrupt)
		s.wait().want(t, 0)
	})
	t.Run("nothing to drain", func(t *testing.T) {
		t.Parallel()
		s := serve(t, catflap(t), "--drain", "1h")
		s.sh("curl -s http://10.9.0.2/").want(t, 0)
		signal(t, s, os.Interrupt)
		s.wait().want(t, 0)
	})
}
