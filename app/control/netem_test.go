package control

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/tun"
	"github.com/catflap/catflap/tun/impair"
)

// TestNetem changes what is done to a link's packets over the socket, and finds it done.
func TestNetem(t *testing.T) {
	a, _ := tun.Pipe(1500)
	link := impair.New(a, impair.Config{Seed: 7})
	s, err := stack.New(stack.Config{Links: []stack.Link{{Name: "cat0", Endpoint: link}}})
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	defer s.Close()
	srv, err := Serve(filepath.Join(t.TempDir(), "c.sock"), Parts{Stack: s, Netem: link}, Info{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	c, err := NewClient(srv.Path())
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	spec, err := impair.Parse("loss 10% delay 20ms")
	if err != nil {
		t.Fatal(err)
	}
	rule, err := impair.ParseRule("drop tcp data 2 from server")
	if err != nil {
		t.Fatal(err)
	}
	check := func(in, out string, rules int) {
		t.Helper()
		n, err := c.Netem(ctx)
		if err != nil || n.In.String() != in || n.Out.String() != out || len(n.Rules) != rules {
			t.Errorf("in %q, out %q, rules %v, %v; want %q, %q and %d rules", n.In, n.Out, n.Rules, err, in, out, rules)
		}
	}
	check("", "", 0)
	if err := c.SetNetem(ctx, "out", spec); err != nil {
		t.Fatal(err)
	}
	id, err := c.AddNetemRule(ctx, rule)
	if err != nil {
		t.Fatal(err)
	}
	check("", "delay 20ms loss 10% limit 1000 seed 7", 1)
	if n, _ := c.Netem(ctx); n.Rules[0].Rule != rule || n.Rules[0].ID != id {
		t.Errorf("rules %+v", n.Rules)
	}
	if err := c.DelNetemRule(ctx, id); err != nil {
		t.Fatal(err)
	}
	if err := c.DelNetemRule(ctx, id); err == nil || !strings.Contains(err.Error(), "no such rule") {
		t.Errorf("a rule that is gone: %v", err)
	}
	c.AddNetemRule(ctx, rule)
	if err := c.SetNetem(ctx, "both", spec); err != nil {
		t.Fatal(err)
	}
	if err := c.ClearNetem(ctx, "in"); err != nil {
		t.Fatal(err)
	}
	check("", "delay 20ms loss 10% limit 1000 seed 7", 1)
	if err := c.ClearNetem(ctx, "both"); err != nil {
		t.Fatal(err)
	}
	check("", "", 0)

	for _, err := range []error{
		c.SetNetem(ctx, "up", spec),
		c.SetNetem(ctx, "in", impair.Spec{Loss: impair.RandomLoss{Percent: 200}}),
		c.change(ctx, "POST", "/netem/rules", struct{}{}),
		c.change(ctx, "POST", "/netem/rules", map[string]string{"rule": "drip tcp"}),
	} {
		if err == nil {
			t.Error("a request without sense was answered")
		}
	}
}

// TestNoNetem: an instance without such a layer says so.
func TestNoNetem(t *testing.T) {
	s, err := stack.New(stack.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	srv, err := Serve(filepath.Join(t.TempDir(), "c.sock"), Parts{Stack: s}, Info{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	c, err := NewClient(srv.Path())
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	_, stateErr := c.Netem(ctx)
	for _, err := range []error{stateErr, c.SetNetem(ctx, "in", impair.Spec{}), c.ClearNetem(ctx, "both"), c.DelNetemRule(ctx, 1)} {
		if err == nil || !strings.Contains(err.Error(), "cannot be impaired") {
			t.Errorf("error %v", err)
		}
	}
}
