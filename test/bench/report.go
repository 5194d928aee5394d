package main

import (
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// report is a whole run, as -json writes it.
type report struct {
	Command     string            `json:"command"`
	Started     time.Time         `json:"started"`
	Seconds     float64           `json:"seconds"`
	Machine     machine           `json:"machine"`
	Rounds      int               `json:"rounds"`
	Warmup      string            `json:"warmup"`
	Duration    string            `json:"duration"`
	Contestants map[string]string `json:"contestants"`
	Results     []*result         `json:"results"`
	Missing     []missing         `json:"missing,omitempty"`
}

// setting is what can be chosen about the link.
type setting struct {
	MTU    int `json:"mtu"`    // bytes
	Family int `json:"family"` // 4 or 6
	Queues int `json:"queues"` // of the TUN device

	// Congestion is the congestion control of the kernel's TCP, the clients' on all
	// stacks; empty: the machine's default.
	Congestion string `json:"congestion,omitempty"`
}

func (s setting) String() string {
	q := "1 TUN queue"
	if s.Queues != 1 {
		q = fmt.Sprintf("%d TUN queues", s.Queues)
	}
	if s.Congestion != "" {
		q += ", the kernel with " + s.Congestion
	}
	return fmt.Sprintf("MTU %d, IPv%d, %s", s.MTU, s.Family, q)
}

// result is one measure in one setting.
type result struct {
	Setting setting  `json:"setting"`
	Measure string   `json:"measure"`
	What    string   `json:"what"`
	Figures []figure `json:"figures"`
}

// figure is one metric of a result, for every contestant.
type figure struct {
	metric
	Series []series `json:"series"`
}

// series is what the rounds gave for one contestant.
type series struct {
	Contestant string   `json:"contestant"`
	Values     numbers  `json:"values"` // by round; null where the round failed
	Value      summary  `json:"value"`
	Ratios     numbers  `json:"ratios,omitempty"` // to the kernel in the same round
	Ratio      *summary `json:"ratio,omitempty"`
}

// missing is what was asked for and not measured.
type missing struct {
	Setting    setting `json:"setting"`
	Measure    string  `json:"measure"`
	Contestant string  `json:"contestant"`
	Round      int     `json:"round,omitempty"` // counted from 1; 0: all
	Why        string  `json:"why"`
	Failed     bool    `json:"failed"` // it should have worked
}

// numbers are written with null for what is no number.
type numbers []float64

// MarshalJSON implements json.Marshaler.
func (n numbers) MarshalJSON() ([]byte, error) {
	out := make([]*float64, len(n))
	for i, x := range n {
		if !math.IsNaN(x) && !math.IsInf(x, 0) {
			out[i] = &n[i]
		}
	}
	return json.Marshal(out)
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *numbers) UnmarshalJSON(b []byte) error {
	var in []*float64
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	*n = nil
	for _, x := range in {
		if x == nil {
			*n = append(*n, math.NaN())
		} else {
			*n = append(*n, *x)
		}
	}
	return nil
}

// sample is what one measurement gave, by metric.
type sample map[string]float64

// round are the samples of one round, by contestant; one that failed is missing.
type round map[string]sample

// makeResult sums the rounds of a measure up. base is the contestant that the
// others are compared with.
func makeResult(set setting, m measure, names []string, base string, rounds []round) *result {
	r := &result{Setting: set, Measure: m.name, What: m.what}
	for _, k := range m.metrics {
		f := figure{metric: k}
		values := func(name string) (v numbers) {
			for _, round := range rounds {
				x, ok := round[name][k.Key]
				if !ok {
					x = math.NaN()
				}
				v = append(v, x)
			}
			return v
		}
		of := values(base)
		for _, name := range names {
			s := series{Contestant: name, Values: values(name)}
			if s.Value = summarize(s.Values); s.Value == (summary{}) && allNaN(s.Values) {
				continue
			}
			if name != base && !k.Count {
				if s.Ratios = ratios(s.Values, of); len(s.Ratios) > 0 {
					q := summarize(s.Ratios)
					s.Ratio = &q
				}
			}
			f.Series = append(f.Series, s)
		}
		if len(f.Series) > 0 {
			r.Figures = append(r.Figures, f)
		}
	}
	return r
}

func allNaN(v []float64) bool {
	for _, x := range v {
		if !math.IsNaN(x) {
			return false
		}
	}
	return true
}

// series returns a contestant's series of a figure, nil if there is none.
func (f *figure) of(contestant string) *series {
	for i := range f.Series {
		if f.Series[i].Contestant == contestant {
			return &f.Series[i]
		}
	}
	return nil
}
