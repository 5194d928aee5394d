package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"path/filepath"
	"strings"

	"github.com/catflap/catflap/app/control"
	"github.com/catflap/catflap/tun"
)

// controlEnv names the control socket for the commands that use one.
const controlEnv = "CATFLAP_CONTROL"

// controlPath is the path that the user gave, "" if none. A name without a slash is
// that of an instance: of a proxy, or a device.
func (e *env) controlPath() string {
	path := e.control
	if path == "" {
		path = e.getenv(controlEnv)
	}
	if path != "" && !strings.ContainsRune(path, '/') && filepath.Base(path) == path && !strings.HasSuffix(path, ".sock") {
		return control.Find(path)
	}
	return path
}

// client speaks to the instance that the user means.
func (e *env) client() (*control.Client, error) {
	path := e.controlPath()
	if path == "" {
		path = control.Find(tun.DefaultName)
	}
	return control.NewClient(path)
}

// controlRemedy says what to do about an error of the control socket; "" if err is none.
func controlRemedy(err error) string {
	var inUse *control.InUseError
	var op *net.OpError
	switch {
	case errors.As(err, &inUse):
		return inUse.Remedy()
	case errors.Is(err, control.ErrNotRunning):
		return "start one: catflap serve, or run this command inside catflap run; another one's socket: --control PATH or " + controlEnv
	case errors.As(err, &op) && op.Net == "unix" && errors.Is(err, fs.ErrPermission):
		return "the instance belongs to another user: run this command as that user"
	}
	return ""
}

// printJSON prints a value for programs, on one line.
func (e *env) printJSON(v any) error { return json.NewEncoder(e.stdout).Encode(v) }
