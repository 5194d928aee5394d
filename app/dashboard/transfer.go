package dashboard

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Limits of transfers that a page starts.
const (
	maxTransfers     = 4                // at once
	maxTransferBytes = 100_000_000      // of one: some seconds on a good link
	transferTimeout  = 10 * time.Minute // on a bad one
	connectTimeout   = 3 * time.Second  // for the connection to be seen, before the answer says that it is not yet
)

// transferRequest asks for a transfer between a client and the stack.
type transferRequest struct {
	Bytes int64  `json:"bytes"`
	Dir   string `json:"dir"` // "down" to the client, or "up"
}

// transfer starts one, and answers with its connection: 0 if there is none yet.
func (s *Server) transfer(r *http.Request, t transferRequest) (any, error) {
	switch {
	case s.cfg.Transfer == nil:
		return nil, refusef(http.StatusNotImplemented, "use a client of your own, such as curl", "there is no client here that could start a transfer")
	case t.Bytes < 1 || t.Bytes > maxTransferBytes:
		return nil, refusef(http.StatusBadRequest, "want 1 to 100000000", "%d bytes", t.Bytes)
	case t.Dir != "up" && t.Dir != "down":
		return nil, refusef(http.StatusBadRequest, "want up or down", "direction %q", t.Dir)
	}
	select {
	case s.transfers <- struct{}{}:
	default:
		return nil, refusef(http.StatusTooManyRequests, "wait until one has ended", "%d transfers are under way", maxTransfers)
	}
	client := make(chan netip.AddrPort, 1)
	var once sync.Once
	failed := make(chan error, 1)
	s.http.Go(func() { // s.http holds this request's connection, so it has not been waited for
		defer func() { <-s.transfers }()
		ctx, cancel := context.WithTimeout(s.http.Context(), transferTimeout)
		defer cancel()
		err := s.cfg.Transfer(ctx, t.Bytes, t.Dir == "up", func(a netip.AddrPort) { once.Do(func() { client <- a }) })
		if err != nil {
			s.log.Warn("dashboard: transfer", "err", err)
		}
		failed <- err
	})
	wait := time.NewTimer(connectTimeout)
	defer wait.Stop()
	select {
	case a := <-client:
		return map[string]any{"conn": s.await(r.Context(), plain(a), wait.C)}, nil
	case err := <-failed:
		if err != nil {
			return nil, refusef(http.StatusBadGateway, "does the cat server answer? see catflap ss -l", "transfer: %s", err)
		}
	case <-wait.C:
	case <-r.Context().Done():
	}
	return map[string]any{"conn": 0}, nil
}

// await returns the id of the newest connection with that remote address, 0 if none is seen in time.
func (s *Server) await(ctx context.Context, remote netip.AddrPort, timeout <-chan time.Time) int {
	tick := time.NewTicker(batchInterval / 5)
	defer tick.Stop()
	for {
		if id := s.rec.byRemote(remote); id != 0 {
			return id
		}
		select {
		case <-tick.C:
		case <-timeout:
			return 0
		case <-ctx.Done():
			return 0
		}
	}
}

// byRemote returns the id of the newest connection with a remote address, 0 if there is none.
func (r *Recorder) byRemote(remote netip.AddrPort) (id int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.byID {
		if c.key.remote == remote && !c.over {
			id = max(id, c.id)
		}
	}
	return id
}
