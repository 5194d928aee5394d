package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the Makefile: -ldflags "-X main.version=…".
var version = ""

type versionInfo struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Time    string `json:"time,omitempty"`
	Dirty   bool   `json:"dirty,omitempty"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
	GVisor  string `json:"gvisor,omitempty"`
}

func buildInfo() versionInfo {
	v := versionInfo{Version: version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	bi, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if v.Version == "" {
		v.Version = bi.Main.Version
	}
	for _, s := range bi.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.time":
			v.Time = s.Value
		case "vcs.modified":
			v.Dirty = s.Value == "true"
		}
	}
	for _, d := range bi.Deps {
		if d.Path == "gvisor.dev/gvisor" {
			v.GVisor = d.Version
		}
	}
	return v
}

// String is the line that catflap version and --version print.
func (v versionInfo) String() string {
	s := fmt.Sprintf("catflap %s %s/%s %s", v.Version, v.OS, v.Arch, v.Go)
	if v.Commit != "" {
		s += " commit " + v.Commit
		if v.Dirty {
			s += " (modified)"
		}
	}
	return s + " gvisor " + v.GVisor
}

func newVersion(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Say which catflap this is", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			v := buildInfo()
			if e.json {
				return json.NewEncoder(e.stdout).Encode(v)
			}
			_, err := fmt.Fprintln(e.stdout, v)
			return err
		},
	}
}
