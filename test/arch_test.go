// Package test holds the tests that need more than one package, in folders of
// their own, and here what holds the packages apart.
package test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/catflap/catflap"

// A rule says what a folder's packages may know. The rule of the longest prefix
// of a package's folder holds for it.
type rule struct {
	folder string
	may    []string // folders of this module that it may import, with what is below them
	mayNot []string // import paths of others that it must not know, with what is below them
	why    string
}

const gvisor = "gvisor.dev/gvisor"

// What the layers must not know.
var (
	http    = []string{"net/http", "net/http/httptest", "golang.org/x/net/http2"}
	cli     = []string{"flag", "github.com/spf13"}
	netlink = []string{"github.com/vishvananda", "github.com/mdlayher", "github.com/songgao/water"}
)

// rules are the import directions: cmd -> app -> stack, app -> tun; test may use all.
var rules = []rule{
	{"cmd", []string{"app", "stack", "tun", "test/drill", "internal", "cmd/catflap/internal"}, concat([]string{gvisor}, netlink),
		"the command line has no networking logic"},
	{"cmd/catflap/internal", []string{"app/control", "app/record", "stack", "tun/capture", "internal", "cmd/catflap/internal"}, concat(http, cli, []string{gvisor}, netlink),
		"a tool's language reads words and prints text; flags are the command's"},
	{"app", []string{"app", "stack", "tun", "internal"}, concat([]string{gvisor}, cli, netlink),
		"what runs on the stack uses it through the standard library's interfaces"},
	{"app/cats", []string{"app/cats", "internal"}, concat([]string{gvisor}, cli, netlink),
		"the cat server runs on any net.Listener, the kernel's too"},
	{"stack", []string{"stack", "internal"}, concat(http, cli, netlink),
		"the stack knows no device, no HTTP, no command line and no netlink"},
	{"stack/internal", []string{"stack/internal", "internal"}, concat(http, cli, netlink),
		"what stands below the stack does not know it"},
	{"stack/event", []string{"stack/event", "stack/route"}, concat(http, cli, netlink, []string{gvisor}),
		"what happened in a stack can be told without netstack"},
	{"stack/route", []string{"stack/route"}, concat([]string{gvisor}, http, cli, netlink),
		"rules, tables and lookups are values; what forwards packets by them stands above"},
	{"tun", []string{"tun", "internal"}, concat(http, cli, []string{gvisor + "/pkg/tcpip/transport", gvisor + "/pkg/tcpip/network"}),
		"the wire knows no TCP beyond the header's layout"},
	{"tun/internal/tuntest", []string{"tun", "internal"}, concat(http, cli),
		"the wire's tests have a plain netstack at its end"},
	{"internal", []string{"internal"}, concat(http, cli, netlink),
		"what is shared stands below all that shares it"},
	{"test", []string{"app", "stack", "tun", "test", "internal"}, nil,
		"tests may use all but the command line, which they run"},
}

// A confinement keeps packages of others to the few places in a folder that may know them.
type confinement struct {
	folder   string
	packages []string
	to       []string // folders, with what is below them, and files
	why      string
}

// confinements are what goes, or stays in one place, when TCP is our own. They are not for tests.
var confinements = []confinement{
	{"stack", []string{"unsafe", "reflect"}, []string{"stack/internal/peek"},
		"what netstack keeps to itself is looked at in one place, which says what is missing"},
	{"stack", []string{gvisor + "/pkg/tcpip/transport/tcp"},
		[]string{"stack/internal/peek", "stack/internal/mend", "stack/netstacktcp.go", "stack/netstackcause.go"},
		"to the rest of the stack a connection is a tcpConn, whoever implements TCP"},
}

// testOnly are folders whose packages are for _test.go files, and for tests' own packages.
var testOnly = []string{"internal/testenv", "test", "cmd/catflap/internal/clitest", "tun/internal/tuntest"}

func concat(lists ...[]string) []string { return slices.Concat(lists...) }

// within reports whether a path is prefix or lies below it.
func within(p, prefix string) bool { return p == prefix || strings.HasPrefix(p, prefix+"/") }

func withinAny(p string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return within(p, prefix) })
}

func ruleOf(folder string) (r rule, ok bool) {
	for _, c := range rules {
		if within(folder, c.folder) && len(c.folder) > len(r.folder) {
			r, ok = c, true
		}
	}
	return r, ok
}

// violations returns what the Go files of a tree, for whatever system they are, import against the rules.
func violations(tree fs.FS) (found []string, files int, err error) {
	err = fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".go":
			return nil
		}
		src, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly)
		if err != nil {
			return err
		}
		files++
		for _, spec := range f.Imports {
			p, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if why := judge(name, p); why != "" {
				found = append(found, fmt.Sprintf("%s imports %s: %s", name, p, why))
			}
		}
		return nil
	})
	return found, files, err
}

// judge says why a file must not import a package, "" if it may.
func judge(file, imported string) string {
	folder := path.Dir(file)
	r, ok := ruleOf(folder)
	if !ok {
		return "there is no rule for this folder: the top level is fixed"
	}
	isTest := strings.HasSuffix(file, "_test.go")
	for _, c := range confinements {
		if !isTest && within(folder, c.folder) && withinAny(imported, c.packages) && !withinAny(file, c.to) {
			return c.why
		}
	}
	target, ours := strings.CutPrefix(imported, module+"/")
	switch {
	case !ours && !isTest && withinAny(imported, r.mayNot):
		return r.why
	case !ours:
		return ""
	case target == "internal/testenv" && isTest:
		return ""
	case !withinAny(target, r.may):
		return r.why
	case !isTest && withinAny(target, testOnly) && !within(folder, "test") && !within(folder, "internal/testenv") && !slices.Contains(r.may, target):
		return "this package is for tests"
	}
	return ""
}

// TestImportDirection holds the packages of this module to the rules.
func TestImportDirection(t *testing.T) {
	found, files, err := violations(os.DirFS(".."))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range found {
		t.Error(v)
	}
	if files < 100 {
		t.Errorf("%d files were looked at; is this the root of the module?", files)
	}
	gomod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(gomod), "module "+module+"\n") {
		t.Errorf("go.mod names another module than %s", module)
	}
}

// TestJudge shows that the rules can be broken.
func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		file, imports string
		ok            bool
	}{
		{"cmd/catflap/run.go", module + "/app/instance", true},
		{"cmd/catflap/run.go", module + "/tun/netns", true},
		{"cmd/catflap/drill.go", module + "/test/drill", true},
		{"cmd/catflap/run.go", module + "/test/e2e", false},
		{"cmd/catflap/run.go", module + "/internal/testenv", false},
		{"cmd/catflap/run_test.go", module + "/internal/testenv", true},
		{"cmd/catflap/run.go", gvisor + "/pkg/tcpip", false},
		{"cmd/catflap/ss.go", module + "/cmd/catflap/internal/sockets", true},
		{"cmd/catflap/ss.go", module + "/cmd/catflap/internal/clitest", false},
		{"cmd/catflap/internal/sockets/ss.go", module + "/stack", true},
		{"cmd/catflap/internal/sockets/ss.go", module + "/app/instance", false},
		{"cmd/catflap/internal/sockets/ss.go", "github.com/spf13/cobra", false},
		{"app/instance/instance.go", module + "/stack", true},
		{"app/instance/instance.go", module + "/tun", true},
		{"app/instance/instance.go", module + "/cmd/catflap", false},
		{"app/instance/instance.go", "github.com/spf13/cobra", false},
		{"app/cats/server.go", module + "/stack", false},
		{"app/cats/server.go", "net/http", true},
		{"stack/stack.go", module + "/tun", false},
		{"stack/stack_test.go", module + "/tun", false},
		{"stack/stack.go", module + "/internal/packet", true},
		{"stack/stack.go", "net/http", false},
		{"stack/stack.go", "net/http/httptrace", false},
		{"stack/stack_test.go", "net/http", true},
		{"stack/stack.go", "net/httpx", true},
		{"stack/stack.go", "github.com/vishvananda/netlink", false},
		{"stack/stack.go", "github.com/spf13/pflag", false},
		{"stack/stack_darwin.go", module + "/tun", false},
		{"stack/stack.go", module + "/stack/internal/mend", true},
		{"stack/internal/mend/mend.go", module + "/stack/internal/peek", true},
		{"stack/internal/mend/mend.go", module + "/stack", false},
		{"stack/internal/mend/mend_test.go", module + "/stack", false},
		{"stack/info.go", "unsafe", false},
		{"stack/info.go", "reflect", false},
		{"stack/info_test.go", "unsafe", true},
		{"stack/netstacktcp.go", "unsafe", false},
		{"stack/internal/mend/mend.go", "unsafe", false},
		{"stack/internal/clock/clock.go", "reflect", false},
		{"stack/internal/peek/peek.go", "unsafe", true},
		{"stack/internal/peeking/peek.go", "unsafe", false},
		{"stack/info.go", gvisor + "/pkg/tcpip/transport/tcp", false},
		{"stack/info.go", gvisor + "/pkg/tcpip/transport/udp", true},
		{"stack/info_test.go", gvisor + "/pkg/tcpip/transport/tcp", true},
		{"stack/netstacktcp.go", gvisor + "/pkg/tcpip/transport/tcp", true},
		{"stack/internal/mend/mend.go", gvisor + "/pkg/tcpip/transport/tcp", true},
		{"stack/internal/clock/clock.go", gvisor + "/pkg/tcpip/transport/tcp", false},
		{"tun/driver_offload_linux.go", "unsafe", true},
		{"stack/event/event.go", module + "/stack/route", true},
		{"stack/event/event.go", module + "/stack", false},
		{"stack/event/event.go", gvisor + "/pkg/tcpip", false},
		{"stack/strace/strace.go", module + "/stack", true},
		{"stack/routes.go", module + "/stack/route", true},
		{"stack/route/db.go", gvisor + "/pkg/tcpip", false},
		{"stack/route/db.go", module + "/stack", false},
		{"stack/route/db.go", "net/netip", true},
		{"tun/device.go", module + "/stack", false},
		{"tun/netns/netns_linux.go", module + "/tun", true},
		{"tun/netns/netns_linux.go", module + "/stack", false},
		{"tun/device.go", gvisor + "/pkg/tcpip/header", true},
		{"tun/device.go", gvisor + "/pkg/tcpip/transport/tcp", false},
		{"tun/device_test.go", gvisor + "/pkg/tcpip/transport/tcp", true},
		{"tun/device.go", "net/http", false},
		{"internal/packet/text.go", module + "/stack", false},
		{"internal/packet/text.go", module + "/internal/testenv", false},
		{"internal/packet/text.go", module + "/internal/other", true},
		{"test/drill/run.go", module + "/stack", true},
		{"test/drill/run.go", module + "/tun", true},
		{"test/drill/run.go", module + "/cmd/catflap", false},
		{"test/lab/lab.go", "net/http", true},
		{"util/util.go", "strings", false},
	} {
		if why := judge(tt.file, tt.imports); (why == "") != tt.ok {
			t.Errorf("%s imports %s: judged %q, want it allowed: %v", tt.file, tt.imports, why, tt.ok)
		}
	}
}
