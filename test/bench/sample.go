//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

// measureRate puts a load on the site, and adds what it cost the server.
func (s *site) measureRate(ctx context.Context, l load) (sample, error) {
	var before, after usage
	var x sample
	err := inOrder(
		func() error { return s.server.call(ctx, "usage", usageArgs{}, &before) },
		func() error { return s.client.call(ctx, "load", l, &x) },
		func() error { return s.server.call(ctx, "usage", usageArgs{}, &after) },
	)
	if err != nil {
		return nil, err
	}
	if n := exchanges(l, x); n > 0 {
		x["allocs"+per(l.Kind)] = float64(after.Allocs-before.Allocs) / n
		if after.Calls > 0 {
			x["rw-calls"+per(l.Kind)] = float64(after.Calls-before.Calls) / n
		}
	}
	return x, nil
}

// exchanges returns the packets of a bulk load, or else the exchanges, warm-up
// included.
func exchanges(l load, x sample) float64 {
	if l.Kind == loadDown || l.Kind == loadUp {
		return x["packets"]
	}
	return x["ops"]
}

// openTime bounds the opening of a number of connections.
const openTime = 50 * time.Second

// measureOpen opens connections to the server's hold service, and closes them.
func (s *site) measureOpen(ctx context.Context, l load) (x sample, err error) {
	l.Port, l.Duration = portHold, openTime
	return x, inOrder(
		func() error { return s.client.call(ctx, "load", l, &x) },
		func() error { return s.release(ctx) },
	)
}

// release closes the connections that clients and servers keep open.
func (s *site) release(ctx context.Context) error {
	for _, a := range append(append([]*agent{s.client, s.server}, s.moreClients...), s.moreServers...) {
		if err := a.call(ctx, "release", nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// measureIdle opens connections step by step, and sees what the servers hold at
// each. The files that a process may have open may force it to use several clients,
// and on the kernel's stack several servers.
func (s *site) measureIdle(ctx context.Context, l load, http bool) (sample, error) {
	most := idleSteps[len(idleSteps)-1]
	if err := s.grow(ctx, (most+s.capacity()-1)/s.capacity()); err != nil {
		return nil, err
	}
	base, err := s.usage(ctx)
	if err != nil {
		return nil, err
	}
	if l.Port = portHold; http {
		l.Port, l.Request = portHTTP, true
	}
	l.Duration = openTime
	x := sample{}
	open := 0
	for _, n := range idleSteps {
		for open < n {
			i := open / s.capacity()
			client, port := s.pair(i, l.Port)
			to := l
			to.Port, to.N = port, min(n, (i+1)*s.capacity())-open
			var opened sample
			if err := client.call(ctx, "load", to, &opened); err != nil {
				return nil, fmt.Errorf("after %d connections: %w", open, err)
			}
			if open == 0 {
				x["first"] = opened["first"]
			}
			x["last"] = opened["last"]
			open += to.N
		}
		u, err := s.usage(ctx)
		for err == nil && !http && u.Held < int64(n) { // not all are accepted yet
			time.Sleep(10 * time.Millisecond)
			u, err = s.usage(ctx)
		}
		if err != nil {
			return nil, err
		}
		each := func(now, then uint64) float64 { return (float64(now) - float64(then)) / float64(n) }
		x[fmt.Sprintf("live@%d", n)] = each(u.Live, base.Live)
		x[fmt.Sprintf("rss@%d", n)] = each(u.RSS, base.RSS)
		x[fmt.Sprintf("slab@%d", n)] = each(u.Slab, base.Slab)
	}
	x["last/first"] = x["last"] / x["first"]
	return x, s.release(ctx)
}

// usage returns what the servers use, garbage aside.
func (s *site) usage(ctx context.Context) (sum usage, err error) {
	for _, a := range append([]*agent{s.server}, s.moreServers...) {
		var u usage
		if err := a.call(ctx, "usage", usageArgs{Collect: true}, &u); err != nil {
			return sum, err
		}
		sum.Live += u.Live
		sum.RSS += u.RSS
		sum.Held += u.Held
		sum.Slab = u.Slab // the machine's
	}
	return sum, nil
}
