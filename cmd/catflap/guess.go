package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
)

// wrongFlag is the error of a flag that cannot be read. Its remedy is the flag that was meant, as far as that can be told.
func wrongFlag(c *cobra.Command, err error) error {
	u := &remedy.UsageError{Msg: c.CommandPath() + ": " + err.Error(), Remedy: "see: " + c.CommandPath() + " --help"}
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return u
	}
	if words := c.Flags().Args(); len(words) > 0 && c.Annotations[runsCommand] != "" {
		u.Remedy = "flags of the command come after --: " + c.CommandPath() + " [flags] -- " + strings.Join(words, " ") + " …"
		return u
	}
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, "--"+f.Name)
		}
	})
	if near := nearest("--"+unknown.GetSpecifiedName(), names); near != nil && len(unknown.GetSpecifiedName()) > 1 {
		u.Remedy = "did you mean: " + strings.Join(near, ", ") + "? see: " + c.CommandPath() + " --help"
	}
	return u
}

// runsCommand is the annotation of commands that run another, which has flags of its own.
const runsCommand = "runs a command"

// nearest returns the words of a list that word may stand for: it begins them, or is two letters from them at most, a
// short one one letter.
func nearest(word string, list []string) (near []string) {
	most := 2
	if len(strings.TrimLeft(word, "-")) < 4 {
		most = 1
	}
	for _, w := range list {
		if strings.HasPrefix(w, word) {
			near = append(near, w)
		}
	}
	for d := 0; d <= most && near == nil; d++ {
		for _, w := range list {
			if distance(word, w) == d {
				near = append(near, w)
			}
		}
	}
	return near
}

// distance is how many letters have to be put in, left out, replaced, or exchanged with the next to make b of a.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			other := 1
			if a[i-1] == b[j-1] {
				other = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+other)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

// newHelp is the help command. Unlike cobra's own it fails if there is no such command.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Help about a command",
		ValidArgsFunction: func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			at, rest, err := c.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return commandNames(at), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(c *cobra.Command, args []string) error {
			at, rest, err := c.Root().Find(args)
			if err != nil || at == nil {
				at, rest = c.Root(), args
			}
			if len(rest) > 0 && !at.DisableFlagParsing { // which speaks a language of words: help ip route
				u := &remedy.UsageError{Msg: "help: there is no command " + strings.Join(args, " "), Remedy: "see: " + at.CommandPath() + " --help"}
				if near := nearest(rest[0], commandNames(at)); near != nil {
					u.Remedy = "did you mean: " + c.CommandPath() + " " + strings.Join(near, ", ")
				}
				return u
			}
			at.InitDefaultHelpFlag()
			return at.Help()
		},
	}
}

// commandNames are the commands below c.
func commandNames(c *cobra.Command) (names []string) {
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	slices.Sort(names)
	return names
}
