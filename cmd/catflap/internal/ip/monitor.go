package ip

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/catflap/catflap/cmd/catflap/internal/words"
	"github.com/catflap/catflap/stack"
)

// monitorInterval is how often the stack is asked what it has.
const monitorInterval = 200 * time.Millisecond

var monitorObjects = []words.Choice{{Word: "all"}, {Word: "link", Abbrev: true}, {Word: "address", Abbrev: true}, {Word: "route", Abbrev: true}, {Word: "rule", Abbrev: true}}

// monitor prints what is added, and after "Deleted" what goes, until SIGINT or SIGTERM.
func (ip *command) monitor() error {
	ip.Command = "ip monitor"
	what := "all"
	if ip.More() {
		word := ip.Next()
		if what = words.Choose(word, monitorObjects); what == "" {
			return ip.Unexpected(word, words.OneOf(monitorObjects))
		}
	}
	if err := ip.End("nothing more"); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ip.ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	ip.ctx = ctx
	before, err := ip.lines(what)
	again := time.NewTicker(monitorInterval)
	defer again.Stop()
	for err == nil {
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		}
		var now []string
		if now, err = ip.lines(what); err == nil {
			err = ip.differences(before, now)
			before = now
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return ip.failed(err)
}

// differences prints lines that went and lines that came.
func (ip *command) differences(before, now []string) error {
	count := map[string]int{}
	for _, l := range now {
		count[l]++
	}
	for _, l := range before {
		if count[l]--; count[l] < 0 {
			if _, err := fmt.Fprintln(ip.stdout, "Deleted "+l); err != nil {
				return err
			}
		}
	}
	for _, l := range now {
		if count[l] > 0 {
			count[l]--
			if _, err := fmt.Fprintln(ip.stdout, l); err != nil {
				return err
			}
		}
	}
	return nil
}

// lines are all there is to watch, a line each.
func (ip *command) lines(what string) (lines []string, err error) {
	if what == "all" || what == "address" {
		links, err := ip.c.Links(ip.ctx)
		if err != nil {
			return nil, err
		}
		for _, l := range links {
			for _, p := range l.Addrs {
				first, _, _ := strings.Cut(addrText(l, p), "\n")
				lines = append(lines, fmt.Sprintf("%d: %s%s", l.Index, l.Name, first))
			}
		}
	}
	for _, fam := range ip.families(stack.IPv4, stack.IPv6) {
		if what == "all" || what == "route" {
			routes, err := ip.c.Routes(ip.ctx, fam, 0)
			if err != nil {
				return nil, err
			}
			for _, r := range routes {
				l := (&routeFilter{}).line(r)
				lines = append(lines, l.text(fam))
			}
		}
		if what == "all" || what == "rule" {
			rules, err := ip.c.Rules(ip.ctx, fam)
			if err != nil {
				return nil, err
			}
			for _, r := range rules {
				lines = append(lines, r.String())
			}
		}
	}
	return lines, nil
}
