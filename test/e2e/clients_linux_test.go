//go:build clients

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/catflap/catflap/internal/testenv"
)

// script has Toxiproxy's client for Node do all that it can, and one toxic of ours.
const script = `
const { Toxiproxy } = require("toxiproxy-node-client");
const net = require("node:net"), assert = require("node:assert");
const close = () => new Promise((done) => server.close(done));
const server = net.createServer((c) => { c.on("error", () => {}); c.pipe(c); });
// exchange sends and hears the same again, and says how long that took in ms.
const exchange = (port) => new Promise((done, fail) => {
	const began = Date.now(), c = net.connect(port, "127.0.0.1");
	c.on("data", () => { c.end(); done(Date.now() - began); });
	c.on("error", fail);
	c.on("close", () => fail(new Error("closed")));
	c.write("meow");
});
const fails = (port) => assert.rejects(exchange(port));
(async () => {
	await new Promise((done) => server.listen(0, "127.0.0.1", done));
	const upstream = "127.0.0.1:" + server.address().port;
	const toxiproxy = new Toxiproxy(process.argv[2]);
	assert.ok(await toxiproxy.getVersion());
	let proxy = await toxiproxy.createProxy({ name: "node", listen: "127.0.0.1:0", upstream });
	const port = Number(proxy.listen.split(":")[1]);
	await exchange(port);
	const latency = await proxy.addToxic({ type: "latency", attributes: { latency: 300, jitter: 0 } });
	assert.ok(await exchange(port) >= 300);
	assert.strictEqual((await proxy.getToxic(latency.name)).attributes.latency, 300);
	await latency.update({ attributes: { latency: 600, jitter: 0 } });
	assert.ok(await exchange(port) >= 600);
	await latency.remove();
	for (const [type, attributes] of Object.entries({ bandwidth: { rate: 1000 }, slow_close: { delay: 1 }, slicer: { average_size: 2, size_variation: 1, delay: 1 },
		netem: { settings: "loss 1% delay 1ms" } })) {
		const toxic = await proxy.addToxic({ type, stream: "upstream", attributes });
		await exchange(port);
		await toxic.remove();
	}
	for (const [type, attributes] of Object.entries({ timeout: { timeout: 1 }, reset_peer: { timeout: 0 }, limit_data: { bytes: 1 }, rule: { rule: "drop udp" } })) {
		const toxic = await proxy.addToxic({ type, attributes });
		if (type !== "limit_data" && type !== "rule") await fails(port);
		await toxic.remove();
	}
	proxy = await proxy.update({ enabled: false, listen: proxy.listen, upstream });
	await fails(port);
	await toxiproxy.reset();
	await exchange(port);
	const all = await toxiproxy.populate([{ name: "one", listen: "127.0.0.1:0", upstream }, { name: "two", listen: "127.0.0.1:0", upstream }]);
	assert.deepStrictEqual(Object.keys(all).sort(), ["one", "two"]);
	assert.deepStrictEqual(Object.keys(await toxiproxy.getAll()).sort(), ["node", "one", "two"]);
	assert.strictEqual((await toxiproxy.get("one")).upstream, upstream);
	await assert.rejects(proxy.addToxic({ type: "nosuch", attributes: {} }));
	for (const p of Object.values(await toxiproxy.getAll())) await p.remove();
	await close();
	console.log("purr");
})().catch((e) => { console.error(e); process.exit(1); });
`

// TestToxiproxyNode: each call of the client for Node works. Its registry has to be reached for that.
func TestToxiproxyNode(t *testing.T) {
	t.Parallel()
	testenv.Require(t, "node", "npm")
	dir := t.TempDir()
	if out, err := exec.Command("npm", "install", "--no-audit", "--no-fund", "--prefix", dir, "toxiproxy-node-client@4.1.0").CombinedOutput(); err != nil {
		t.Fatalf("npm install: %v: %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "client.js"), []byte(script), 0o644); err != nil {
		t.Fatal(err)
	}
	p := start(t, command{args: slices.Concat(nobody, []string{catflap(t), "proxy", "--toxiproxy-api", "127.0.0.1:0"})})
	p.await(`Toxiproxy's API at (\S+)`)
	url := regexp.MustCompile(`API at (\S+)/`).FindStringSubmatch(p.stderr.String())[1]
	if r := run(t, "node", filepath.Join(dir, "client.js"), url).want(t, 0); r.stdout != "purr\n" {
		t.Errorf("%s%s", r.stdout, r.stderr)
	}
	p.stop(t)
}

// TestPodman: a container without a network has our device for as long as attach runs. Its image is a busybox alone.
func TestPodman(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, testenv.Tun, "podman", "runc", "busybox", "tar")
	dir := sharedDir(t)
	// The container's files are below dir, so that nobody else's are touched.
	podman := filepath.Join(dir, "bin", "podman")
	for file, text := range map[string]string{podman: `#!/bin/sh
PATH=${PATH#*:}
exec podman --runtime "$(command -v runc)" --root "` + dir + `/storage" --runroot "` + dir + `/run" --storage-driver vfs --cgroup-manager cgroupfs --events-backend file "$@"
`, filepath.Join(dir, "image.sh"): `set -e
mkdir -p "$1/image/bin"; cp "$(command -v busybox)" "$1/image/bin/busybox"
for name in sh sleep wget; do ln -s busybox "$1/image/bin/$name"; done
tar -C "$1/image" -cf - . | "$2" import - purr
"$2" run -d --name purr --network none --ulimit nofile=1024:1024 --ulimit nproc=1000:1000 purr /bin/sleep 1000
`} {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"PATH=" + filepath.Dir(podman) + ":" + os.Getenv("PATH"), "HOME=" + dir}
	in := func(args ...string) *process {
		return start(t, command{args: args, env: env})
	}
	t.Cleanup(func() { in(podman, "rm", "-f", "-t", "0", "purr").wait() })
	in("sh", filepath.Join(dir, "image.sh"), dir, podman).wait().want(t, 0)
	wget := func() result { return in(podman, "exec", "purr", "wget", "-q", "-O", "-", "http://10.9.0.2/").wait() }
	if r := wget(); r.status == 0 {
		t.Fatalf("there is a network before: %s", r.stdout)
	}
	a := in(catflap(t), "attach", "--container", "purr", "--netem", "delay 1ms")
	a.await("CATFLAP_CONTROL")
	if r := wget().want(t, 0); r.stdout != "Hello kitty!" {
		t.Errorf("%q, %s", r.stdout, r.stderr)
	}
	in(podman, "kill", "purr").wait().want(t, 0)
	if r := a.wait().want(t, 0); !strings.Contains(r.stderr, "container purr has ended") {
		t.Error(r.stderr)
	}
}
