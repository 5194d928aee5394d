package main

import (
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
)

// machine says where a run took place, and with what.
type machine struct {
	System     string `json:"system"`
	CPU        string `json:"cpu"`
	Cores      int    `json:"cores"`
	Virtual    bool   `json:"virtual"` // under a hypervisor
	Memory     string `json:"memory,omitempty"`
	Go         string `json:"go"`
	GVisor     string `json:"gvisor"`
	Commit     string `json:"commit,omitempty"`
	Congestion string `json:"tcp_congestion_control,omitempty"` // the kernel's
}

// describeMachine leaves out what cannot be read.
func describeMachine() machine {
	m := machine{System: runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.NumCPU(), Go: runtime.Version()}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.System += ", Linux " + strings.TrimSpace(string(b))
	}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		m.CPU = colonField(string(b), "model name")
		m.Virtual = strings.Contains(" "+colonField(string(b), "flags")+" ", " hypervisor ")
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		m.Memory = colonField(string(b), "MemTotal")
	}
	m.Congestion = congestionControl()
	if bi, ok := debug.ReadBuildInfo(); ok {
		for _, d := range bi.Deps {
			if d.Path == "gvisor.dev/gvisor" {
				m.GVisor = d.Version
			}
		}
		m.Commit = commit(bi.Settings)
	}
	if m.Commit == "" { // go run does not stamp it
		if b, err := exec.Command("git", "describe", "--always", "--dirty", "--tags").Output(); err == nil {
			m.Commit = strings.TrimSpace(string(b))
		}
	}
	return m
}

// congestionSysctl is of a network namespace; a new one has the first one's.
const congestionSysctl = "/proc/sys/net/ipv4/tcp_congestion_control"

// congestionControl is empty if it cannot be read.
func congestionControl() string {
	b, _ := os.ReadFile(congestionSysctl)
	return strings.TrimSpace(string(b))
}

func commit(settings []debug.BuildSetting) (c string) {
	for _, s := range settings {
		switch {
		case s.Key == "vcs.revision":
			c = s.Value + c
		case s.Key == "vcs.modified" && s.Value == "true":
			c += " (modified)"
		}
	}
	return c
}

// colonField returns the first value of "name : value" lines.
func colonField(text, name string) string {
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func (m machine) String() string {
	kind := " cores"
	if m.Virtual {
		kind = " virtual cores"
	}
	s := m.System + "; " + m.CPU + ", " + itoa(m.Cores) + kind + "; " + m.Go + "; gVisor " + m.GVisor
	if m.Commit != "" {
		s += "; commit " + m.Commit
	}
	return s
}
