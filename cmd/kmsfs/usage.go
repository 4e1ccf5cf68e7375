package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kmsfs/kmsfs/mount"
)

// misuse is an error of the command line, with where to read how it is meant.
func misuse(cmd *cobra.Command, next, format string, args ...any) error {
	if next == "" {
		next = cmd.CommandPath() + " --help says what it takes"
	}
	return &mount.Advice{Err: fmt.Errorf("%w: %s", mount.ErrUsage, fmt.Sprintf(format, args...)), Next: next}
}

// usage makes a wrong number of arguments, or an empty one, an error that says what the command takes.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case slices.Contains(args, ""):
			return misuse(cmd, "", "%s: an argument is empty", cmd.CommandPath())
		case check(cmd, args) == nil:
			return nil
		case cmd.HasAvailableSubCommands():
			return unknownCommand(cmd, args[0])
		}
		return misuse(cmd, "", "%s takes %s, not %s", cmd.CommandPath(), operands(cmd), count(uint64(len(args)), "argument"))
	}
}

// operands is what stands behind a command's name.
func operands(cmd *cobra.Command) string {
	if _, rest, ok := strings.Cut(cmd.Use, " "); ok {
		return rest
	}
	return "no arguments"
}

// unknownCommand is a subcommand that parent has not, with those that may have been meant.
func unknownCommand(parent *cobra.Command, name string) error {
	path := parent.CommandPath()
	next := path + " --help lists the commands"
	if meant := parent.SuggestionsFor(name); len(meant) > 0 {
		next = fmt.Sprintf("did you mean %s %s? %s", path, strings.Join(meant, ", "), next)
	}
	return misuse(parent, next, "%s has no command %q", path, name)
}

// flagError is an option that the command has not, or that has a wrong value.
func flagError(cmd *cobra.Command, err error) error {
	next := ""
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		if meant := nearestFlag(cmd, unknown.GetSpecifiedName()); meant != "" {
			next = fmt.Sprintf("did you mean --%s? %s --help lists the options", meant, cmd.CommandPath())
		}
	}
	return misuse(cmd, next, "%s: %v", cmd.CommandPath(), err)
}

// nearestFlag is the option that is like name, if one is. Cobra knows what is like a command's name; options are given to it as commands.
func nearestFlag(cmd *cobra.Command, name string) string {
	words := &cobra.Command{SuggestionsMinimumDistance: 2}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			words.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
		}
	})
	if meant := words.SuggestionsFor(name); len(meant) > 0 {
		return meant[0]
	}
	return ""
}
