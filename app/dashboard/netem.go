package dashboard

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/catflap/catflap/tun/impair"
)

// netemReport is what is done to the link's packets, and what was done.
type netemReport struct {
	In    string       `json:"in"`
	Out   string       `json:"out"`
	Rules []netemRule  `json:"rules"`
	Stats netemCounter `json:"stats"`
}

type netemRule struct {
	ID   int    `json:"id"`
	Text string `json:"text"`
	Hits uint64 `json:"hits"`
}

type netemCounter struct {
	In  map[string]uint64 `json:"in"`
	Out map[string]uint64 `json:"out"`
}

func reportNetem(l *impair.Link) *netemReport {
	n := &netemReport{In: l.Spec(impair.In).String(), Out: l.Spec(impair.Out).String(), Rules: []netemRule{}}
	for _, r := range first(l.Rules(), maxRoutes) {
		n.Rules = append(n.Rules, netemRule{r.ID, r.Rule.String(), r.Applied})
	}
	st := l.Stats()
	n.Stats = netemCounter{netemCounts(st.In), netemCounts(st.Out)}
	return n
}

// netemCounts are the counts by their names, without those that are zero.
func netemCounts(s impair.Stats) map[string]uint64 {
	m := map[string]uint64{}
	for _, c := range []struct {
		name  string
		count uint64
	}{
		{"lost", s.Lost}, {"over limit", s.OverLimit}, {"lost by rules", s.Faulted}, {"caught by checksum", s.Caught},
		{"delayed", s.Delayed}, {"duplicated", s.Duplicated}, {"corrupted", s.Corrupted}, {"reordered", s.Reordered},
		{"answered", s.Answered}, {"refused", s.Refused}, {"passed", s.Passed}, {"queued", uint64(s.Queued)},
	} {
		if c.count > 0 {
			m[c.name] = c.count
		}
	}
	return m
}

// netemChange asks for other settings of a direction, or both. An empty text ends them.
type netemChange struct {
	Dir  string `json:"dir"` // "in", "out" or "both"
	Spec string `json:"spec"`
}

var errNoNetem = refusef(http.StatusNotImplemented, "only a live link can be impaired", "there is no link to impair")

func (s *Server) setNetem(_ *http.Request, c netemChange) (any, error) {
	l := s.cfg.Netem
	if l == nil {
		return nil, errNoNetem
	}
	dirs, ok := impair.ParseDirections(c.Dir)
	if !ok {
		return nil, refusef(http.StatusBadRequest, "want in, out or both", "direction %q", c.Dir)
	}
	var spec impair.Spec
	if c.Spec != "" {
		var err error
		if spec, err = impair.Parse(c.Spec); err != nil {
			return nil, refuseText(err)
		}
	}
	for _, d := range dirs {
		if err := l.Set(d, spec); err != nil {
			return nil, refuseText(err)
		}
	}
	return reportNetem(l), nil
}

func (s *Server) addRule(_ *http.Request, c struct {
	Text string `json:"text"`
}) (any, error) {
	l := s.cfg.Netem
	if l == nil {
		return nil, errNoNetem
	}
	rule, err := impair.ParseRule(c.Text)
	if err != nil {
		return nil, refuseText(err)
	}
	id, err := l.AddRule(rule)
	if err != nil {
		return nil, refuseText(err)
	}
	return map[string]any{"id": id, "text": rule.String()}, nil
}

func (s *Server) delRule(r *http.Request, _ struct{}) (any, error) {
	l := s.cfg.Netem
	if l == nil {
		return nil, errNoNetem
	}
	text := r.PathValue("id")
	if id, err := strconv.Atoi(text); err != nil || !l.DelRule(id) {
		return nil, refusef(http.StatusNotFound, "the overview lists the rules", "there is no rule %s", text)
	}
	return nil, nil
}

// refuseText says what is wrong with a text in netem's or the rules' grammar.
func refuseText(err error) error {
	r := &refusal{status: http.StatusBadRequest, Message: err.Error()}
	var pe *impair.ParseError
	if errors.As(err, &pe) {
		r.Message, r.Remedy, r.Place, r.Expected = pe.Problem(), pe.Remedy(), pe.Place(), pe.Want
	}
	return r
}
