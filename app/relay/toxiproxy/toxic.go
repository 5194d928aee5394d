package toxiproxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/catflap/catflap/tun/impair"
)

// toxic is one of a proxy's toxics, as the API has it.
type toxic struct {
	Attributes attributes `json:"attributes"`
	Name       string     `json:"name"`
	Type       string     `json:"type"`
	Stream     string     `json:"stream"`
	Toxicity   float32    `json:"toxicity"`

	rule int // of the link; 0: none
}

// dir is the direction of the second stack's link.
func (t *toxic) dir() impair.Direction {
	if t.Stream == upstream {
		return impair.In
	}
	return impair.Out
}

const (
	upstream   = "upstream"
	downstream = "downstream"
)

// attributes are a toxic's own.
type attributes interface {
	check() error
}

// ofLink are attributes of toxics that the link carries out.
type ofLink interface{ linkSpec() (impair.Spec, error) }

// most bounds times in milliseconds: an hour, as impair's.
const most = int64(time.Hour / time.Millisecond)

func checkRange(name string, v, most int64) error {
	if v < 0 || v > most {
		return fmt.Errorf("%s %d: want 0..%d", name, v, most)
	}
	return nil
}

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

type latency struct {
	Latency int64 `json:"latency"` // ms
	Jitter  int64 `json:"jitter"`  // ms
}

func (a *latency) check() error {
	return errors.Join(checkRange("latency", a.Latency, most), checkRange("jitter", a.Jitter, most))
}

func (a *latency) linkSpec() (impair.Spec, error) {
	return impair.Spec{Delay: impair.Delay{Time: ms(a.Latency), Jitter: ms(a.Jitter)}}, nil
}

type bandwidth struct {
	Rate int64 `json:"rate"` // kB/s; 0: unlimited
}

func (a *bandwidth) check() error { return checkRange("rate", a.Rate, 1e11) }

func (a *bandwidth) linkSpec() (impair.Spec, error) {
	return impair.Spec{Rate: impair.Rate{Bits: uint64(a.Rate) * 8000}}, nil
}

type netem struct {
	Settings string `json:"settings"`
}

func (a *netem) check() error { _, err := a.linkSpec(); return err }

func (a *netem) linkSpec() (impair.Spec, error) { return impair.Parse(a.Settings) }

type rule struct {
	Rule string `json:"rule"`
}

func (a *rule) check() error { _, err := impair.ParseRule(a.Rule); return err }

type slowClose struct {
	Delay int64 `json:"delay"` // ms
}

func (a *slowClose) check() error { return checkRange("delay", a.Delay, most) }

type timeout struct {
	Timeout int64 `json:"timeout"` // ms; 0: until the toxic is removed
}

func (a *timeout) check() error { return checkRange("timeout", a.Timeout, most) }

type resetPeer struct {
	Timeout int64 `json:"timeout"` // ms
}

func (a *resetPeer) check() error { return checkRange("timeout", a.Timeout, most) }

type slicer struct {
	AverageSize   int64 `json:"average_size"`   // bytes
	SizeVariation int64 `json:"size_variation"` // bytes, less than AverageSize
	Delay         int64 `json:"delay"`          // µs
}

func (a *slicer) check() error {
	if a.AverageSize < 1 || a.SizeVariation >= a.AverageSize {
		return fmt.Errorf("average_size %d, size_variation %d: want a size of 1 or more, and less variation than that", a.AverageSize, a.SizeVariation)
	}
	return errors.Join(checkRange("size_variation", a.SizeVariation, a.AverageSize), checkRange("delay", a.Delay, most*1000))
}

type limitData struct {
	Bytes int64 `json:"bytes"`
}

func (a *limitData) check() error { return checkRange("bytes", a.Bytes, 1<<62) }

// attributesOf makes the attributes of a type; nil if there is no such type.
func attributesOf(kind string) attributes {
	switch kind {
	case "latency":
		return &latency{}
	case "bandwidth":
		return &bandwidth{}
	case "netem":
		return &netem{}
	case "rule":
		return &rule{}
	case "slow_close":
		return &slowClose{}
	case "timeout":
		return &timeout{}
	case "reset_peer":
		return &resetPeer{}
	case "slicer":
		return &slicer{}
	case "limit_data":
		return &limitData{}
	}
	return nil
}

// apiError is an error as the API words it.
type apiError struct {
	Message string `json:"error"`
	Status  int    `json:"status"`
}

func (e *apiError) Error() string { return e.Message }

func badRequest(format string, args ...any) error {
	return &apiError{fmt.Sprintf(format, args...), http.StatusBadRequest}
}

// Errors of the API's documentation.
var (
	errProxyNotFound = &apiError{"proxy not found", http.StatusNotFound}
	errProxyExists   = &apiError{"proxy already exists", http.StatusConflict}
	errToxicNotFound = &apiError{"toxic not found", http.StatusNotFound}
	errToxicExists   = &apiError{"toxic already exists", http.StatusConflict}
	errToxicType     = &apiError{"invalid toxic type", http.StatusBadRequest}
	errStream        = &apiError{"stream was invalid, can be either upstream or downstream", http.StatusBadRequest}
)

// request is a toxic as a client sends it.
type request struct {
	Name       string          `json:"name"`
	Type       string          `json:"type"`
	Stream     string          `json:"stream"`
	Toxicity   *float32        `json:"toxicity"`
	Attributes json.RawMessage `json:"attributes"`
}

// newToxic makes a toxic of a request.
func newToxic(r request) (*toxic, error) {
	t := &toxic{Name: r.Name, Type: r.Type, Stream: r.Stream, Toxicity: 1, Attributes: attributesOf(r.Type)}
	switch t.Stream {
	case "":
		t.Stream = downstream
	case upstream, downstream:
	default:
		return nil, errStream
	}
	if t.Name == "" {
		t.Name = t.Type + "_" + t.Stream
	}
	if t.Attributes == nil {
		return nil, errToxicType
	}
	return t, t.change(r)
}

// change takes toxicity and attributes from a request.
func (t *toxic) change(r request) error {
	if r.Toxicity != nil {
		t.Toxicity = *r.Toxicity
	}
	if len(r.Attributes) > 0 {
		if err := json.Unmarshal(r.Attributes, t.Attributes); err != nil {
			return badRequest("bad request body: %s", err)
		}
	}
	if err := t.Attributes.check(); err != nil {
		return badRequest("%s: %s", t.Type, err)
	}
	_, link := t.Attributes.(ofLink)
	_, rule := t.Attributes.(*rule)
	switch {
	case !(t.Toxicity >= 0 && t.Toxicity <= 1):
		return badRequest("toxicity %v: want 0..1", t.Toxicity)
	case (link || rule) && t.Toxicity != 0 && t.Toxicity != 1:
		return badRequest("toxicity %v of %s: it is of the link, which all connections of the proxy share: want 1, or 0 for none", t.Toxicity, t.Type)
	}
	return nil
}

// add puts what a toxic asks of the link to what others have asked.
func add(s impair.Spec, t *toxic) (impair.Spec, error) {
	more, err := t.Attributes.(ofLink).linkSpec()
	if err != nil {
		return s, badRequest("%s: %s", t.Type, err)
	}
	s.Delay.Time += more.Delay.Time
	s.Delay.Jitter += more.Delay.Jitter
	var twice string
	if more.Delay.Distribution != impair.Uniform || more.Delay.Correlation != 0 {
		s.Delay.Distribution, s.Delay.Correlation = more.Delay.Distribution, more.Delay.Correlation
	}
	if r := more.Rate; r.Bits != 0 && (s.Rate.Bits == 0 || r.Bits < s.Rate.Bits) {
		s.Rate = r
	}
	if more.Loss != nil {
		if s.Loss != nil {
			twice = "loss"
		}
		s.Loss = more.Loss
	}
	take(&s.Duplicate, more.Duplicate, "duplicate", &twice)
	take(&s.Corrupt, more.Corrupt, "corrupt", &twice)
	take(&s.Reorder, more.Reorder, "reorder", &twice)
	take(&s.Slot, more.Slot, "slot", &twice)
	take(&s.Limit, more.Limit, "limit", &twice)
	take(&s.Seed, more.Seed, "seed", &twice)
	if twice != "" {
		return s, &apiError{fmt.Sprintf("%s: the %s has a %s already, and there is one of each link", t.Name, t.Stream, twice), http.StatusConflict}
	}
	if err := s.Validate(); err != nil {
		return s, badRequest("%s: %s", t.Name, err)
	}
	return s, nil
}

// take takes a setting that may be given once.
func take[T comparable](to *T, v T, name string, twice *string) {
	var zero T
	if v == zero {
		return
	}
	if *to != zero && *to != v {
		*twice = name
	}
	*to = v
}
