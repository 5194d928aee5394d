package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/catflap/catflap/tun/impair"
)

// Netem is what is done to the packets of the link, and what was done: impair.Link.
type Netem struct {
	In    impair.Spec       `json:"in"`
	Out   impair.Spec       `json:"out"`
	Rules []impair.RuleInfo `json:"rules"`
	Stats impair.LinkStats  `json:"stats"`
}

// Spec returns the settings of a direction.
func (n *Netem) Spec(d impair.Direction) impair.Spec {
	if d == impair.In {
		return n.In
	}
	return n.Out
}

// netemChange is the body of a change: of settings, of a direction or both.
type netemChange struct {
	Dir  string      `json:"dir"` // in, out or both
	Spec impair.Spec `json:"spec"`
}

// netemRule is the body of an addition, and its answer; of a removal the number alone.
type netemRule struct {
	ID   int          `json:"id,omitempty"`
	Rule *impair.Rule `json:"rule,omitempty"`
}

// link returns the link, or an error that says that there is none.
func (s *Server) link() (*impair.Link, error) {
	if s.netem == nil {
		return nil, fmt.Errorf("the link of this instance cannot be impaired")
	}
	return s.netem, nil
}

func (s *Server) netemState(*http.Request) (any, error) {
	l, err := s.link()
	if err != nil {
		return nil, err
	}
	return Netem{In: l.Spec(impair.In), Out: l.Spec(impair.Out), Rules: l.Rules(), Stats: l.Stats()}, nil
}

func (s *Server) setNetem(c netemChange) error {
	l, err := s.link()
	if err != nil {
		return err
	}
	dirs, ok := impair.ParseDirections(c.Dir)
	if !ok {
		return badRequest("direction %q: want in, out or both", c.Dir)
	}
	s.changes.Lock()
	defer s.changes.Unlock()
	for _, d := range dirs {
		if err := l.Set(d, c.Spec); err != nil {
			return err
		}
	}
	return nil
}

// clearNetem turns a direction off; of both, the rules go too.
func (s *Server) clearNetem(c netemChange) error {
	c.Spec = impair.Spec{}
	if err := s.setNetem(c); err != nil || c.Dir != "both" {
		return err
	}
	for _, r := range s.netem.Rules() {
		s.netem.DelRule(r.ID)
	}
	return nil
}

func (s *Server) addNetemRule(r *http.Request) (any, error) {
	l, err := s.link()
	if err != nil {
		return nil, err
	}
	var body netemRule
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&body); err != nil {
		return nil, badRequest("%s %s: body: %s", r.Method, r.URL.Path, err)
	}
	if body.Rule == nil {
		return nil, badRequest("%s %s: body: no rule", r.Method, r.URL.Path)
	}
	id, err := l.AddRule(*body.Rule)
	return netemRule{ID: id}, err
}

func (s *Server) delNetemRule(r netemRule) error {
	l, err := s.link()
	if err != nil {
		return err
	}
	if !l.DelRule(r.ID) {
		return fmt.Errorf("netem rule %d: no such rule", r.ID)
	}
	return nil
}

// Netem returns what is done to the packets of the link, and what was done.
func (c *Client) Netem(ctx context.Context) (Netem, error) {
	return do[Netem](ctx, c, http.MethodGet, "/netem", nil, nil)
}

// SetNetem changes the settings of a direction: in, out or both.
func (c *Client) SetNetem(ctx context.Context, dir string, s impair.Spec) error {
	return c.change(ctx, http.MethodPut, "/netem", netemChange{Dir: dir, Spec: s})
}

// ClearNetem turns a direction off, or both and removes all rules.
func (c *Client) ClearNetem(ctx context.Context, dir string) error {
	return c.change(ctx, http.MethodDelete, "/netem", netemChange{Dir: dir})
}

// AddNetemRule adds a rule and returns its number.
func (c *Client) AddNetemRule(ctx context.Context, r impair.Rule) (int, error) {
	a, err := do[netemRule](ctx, c, http.MethodPost, "/netem/rules", nil, netemRule{Rule: &r})
	return a.ID, err
}

// DelNetemRule removes the rule of that number.
func (c *Client) DelNetemRule(ctx context.Context, id int) error {
	return c.change(ctx, http.MethodDelete, "/netem/rules", netemRule{ID: id})
}
