package main

import (
	"fmt"
	"os"
	"os/user"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/tun/netns"
)

// identityFlags say who the command of run is.
type identityFlags struct {
	asUser string
	asRoot bool
}

// callerName is what --as-user without a name stands for.
const callerName = "@caller"

func (f *identityFlags) add(c *cobra.Command) {
	fs := c.Flags()
	fs.StringVar(&f.asUser, "as-user", "", "run CMD as the user who calls, not as root; when root calls, as the user of sudo, or as `NAME`")
	fs.Lookup("as-user").NoOptDefVal = callerName
	fs.BoolVar(&f.asRoot, "as-root", false, "run CMD as root, or as a user who appears as root (the default)")
}

// identity is a user of the host, nil to stay root.
type identity struct {
	user *netns.User
	of   *user.User // if the variables of the environment are to become his
}

func (f *identityFlags) parse(e *env) (id identity, err error) {
	uid := os.Geteuid()
	switch {
	case f.asUser != "" && f.asRoot:
		return id, remedy.Usagef("--as-user and --as-root: CMD can only be one of them")
	case f.asUser == "":
		return id, nil
	case uid < 0:
		return id, remedy.Usagef("--as-user: this system has no user ids")
	case uid != 0 && f.asUser != callerName:
		if u, err := user.Lookup(f.asUser); err != nil || u.Uid != strconv.Itoa(uid) {
			return id, &remedy.UsageError{Msg: fmt.Sprintf("--as-user=%s: only root can run CMD as another user", f.asUser), Remedy: "leave the name out, to be yourself: --as-user"}
		}
		fallthrough
	case uid != 0:
		id.user = &netns.User{UID: uid, GID: os.Getegid()}
		return id, nil
	case f.asUser == callerName:
		if id.of, err = user.LookupId(e.getenv("SUDO_UID")); err != nil || id.of.Uid == "0" {
			return id, &remedy.UsageError{Msg: "--as-user: you are root, and did not call sudo as somebody else", Remedy: "name the user: --as-user=NAME"}
		}
	default:
		if id.of, err = user.Lookup(f.asUser); err != nil {
			return id, &remedy.UsageError{Msg: fmt.Sprintf("--as-user=%s: there is no such user", f.asUser), Remedy: "getent passwd lists the users"}
		}
	}
	id.user = &netns.User{}
	if id.user.UID, err = strconv.Atoi(id.of.Uid); err != nil {
		return id, fmt.Errorf("--as-user: %w", err)
	}
	if id.user.GID, err = strconv.Atoi(id.of.Gid); err != nil {
		return id, fmt.Errorf("--as-user: %w", err)
	}
	groups, err := id.of.GroupIds()
	if err != nil {
		return id, fmt.Errorf("--as-user: the groups of %s: %w", id.of.Username, err)
	}
	for _, g := range groups {
		if n, err := strconv.Atoi(g); err == nil {
			id.user.Groups = append(id.user.Groups, n)
		}
	}
	return id, nil
}

// env is an environment with the user's variables in it.
func (id identity) env(env []string) []string {
	if id.of == nil {
		return env
	}
	env = withVar(env, "HOME", id.of.HomeDir)
	env = withVar(env, "USER", id.of.Username)
	return withVar(env, "LOGNAME", id.of.Username)
}
