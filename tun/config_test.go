package tun

import (
	"errors"
	"strings"
	"testing"
)

func TestConfigDefaults(t *testing.T) {
	c, err := Config{}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "cat0" || c.MTU != 1500 || c.Queues != 1 || c.Driver != Auto || c.Path != "/dev/net/tun" || c.Logger == nil {
		t.Errorf("defaults are %+v", c)
	}
}

func TestConfigErrors(t *testing.T) {
	for _, tc := range []struct {
		cfg   Config
		field string // "" if it is valid
		want  string // in the error, besides
	}{
		{Config{MTU: 20}, "mtu", "20"},
		{Config{MTU: 67}, "mtu", "68..65535"},
		{Config{MTU: 68}, "", ""},
		{Config{MTU: 65535}, "", ""},
		{Config{MTU: 65536}, "mtu", "65536"},
		{Config{MTU: -1}, "mtu", "-1"},
		{Config{Queues: -1}, "queues", "1..64"},
		{Config{Queues: 65}, "queues", "65"},
		{Config{Queues: 64}, "", ""},
		{Config{Name: "exactly15bytes!"}, "", ""},
		{Config{Name: "more-than-15-bytes"}, "name", "15 bytes"},
		{Config{Name: "a/b"}, "name", `"a/b"`},
		{Config{Name: "a b"}, "name", `"a b"`},
		{Config{Name: "tun%d"}, "name", `"tun%d"`},
		{Config{Name: "..", MTU: 1500}, "name", ".."},
		{Config{Name: "kätzchen"}, "name", "ASCII"},
		{Config{Driver: 3}, "driver", "Driver(3)"},
		{Config{Driver: -1}, "driver", "auto, offload or water"},
		{Config{Driver: Water, Path: "/dev/other"}, "path", "/dev/other"},
	} {
		err := tc.cfg.Validate()
		var got *ConfigError
		switch {
		case tc.field == "" && err != nil:
			t.Errorf("%+v: %v, want it accepted", tc.cfg, err)
		case tc.field != "" && !errors.As(err, &got):
			t.Errorf("%+v: error %v, want a ConfigError", tc.cfg, err)
		case tc.field != "" && (got.Field != tc.field || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%+v: error %q on field %q, want %q with %q in it", tc.cfg, err, got.Field, tc.field, tc.want)
		}
		if _, openErr := Open(tc.cfg); tc.field != "" && !errors.As(openErr, &got) {
			t.Errorf("Open(%+v): error %v, want a ConfigError", tc.cfg, openErr)
		}
	}
}

func TestParseDriver(t *testing.T) {
	for _, want := range []Driver{Auto, Offload, Water} {
		if got, err := ParseDriver(want.String()); err != nil || got != want {
			t.Errorf("ParseDriver(%q) = %v, %v", want.String(), got, err)
		}
	}
	if _, err := ParseDriver("fast"); err == nil || !strings.Contains(err.Error(), "auto, offload or water") {
		t.Errorf("ParseDriver(fast): error %v, want one that names the drivers", err)
	}
}
