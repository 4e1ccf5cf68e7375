package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// Groups of commands in kmsfs --help, in its order.
const (
	groupVolumes  = "Volumes"
	groupFiles    = "Files and directories"
	groupRotation = "Rotation"
	groupKeys     = "Keys and people"
	groupAudit    = "Audit log"
	groupMore     = "More"
)

// secretAnnotation marks the flags that open a key store: they are the same for many commands and stand apart in their help.
const secretAnnotation = "kmsfs/secret"

// Widths of help, in columns.
const (
	defaultWidth = 100 // where there is no terminal
	minWidth     = 60
	maxWidth     = 120
)

// helpCommand says what a command does, in the place of cobra's, which takes what it does not know for a question about kmsfs itself.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Say what a command does", GroupID: groupMore,
		RunE: func(cmd *cobra.Command, args []string) error {
			target, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return unknownCommand(target, rest[0])
			}
			target.InitDefaultHelpFlag()
			return target.Help()
		},
	}
}

// helpWriter writes the help of one command.
type helpWriter struct {
	w     io.Writer
	width int
}

func newHelpWriter(w io.Writer) helpWriter {
	h := helpWriter{w, defaultWidth}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil {
			h.width = min(max(columns, minWidth), maxWidth)
		}
	}
	return h
}

// command writes what a command does, how it is called, examples, and its commands and flags.
func (h helpWriter) command(cmd *cobra.Command) {
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	fmt.Fprintf(h.w, "%s\n\nUsage:\n  %s\n", wrap(text, h.width), useLine(cmd))
	if cmd.HasExample() {
		fmt.Fprintf(h.w, "\nExample:\n%s\n", indent(cmd.Example))
	}
	h.commands(cmd)
	own, secret := splitFlags(cmd)
	h.flags("Flags", own)
	h.flags("The key store's secret (one of)", secret)
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(h.w, "\n%s COMMAND --help says more about one of them.\n", cmd.CommandPath())
	}
}

func useLine(cmd *cobra.Command) string {
	if cmd.HasAvailableSubCommands() && operands(cmd) == "no arguments" {
		return cmd.CommandPath() + " COMMAND"
	}
	return cmd.UseLine()
}

// commands lists subcommands: in groups, where the command has them.
func (h helpWriter) commands(parent *cobra.Command) {
	if !parent.HasAvailableSubCommands() {
		return
	}
	if len(parent.Groups()) == 0 {
		h.group("Commands", "", parent)
	}
	for _, g := range parent.Groups() {
		h.group(g.Title, g.ID, parent)
	}
}

func (h helpWriter) group(title, id string, parent *cobra.Command) {
	column := 0
	for _, sub := range parent.Commands() {
		if sub.IsAvailableCommand() {
			column = max(column, len(sub.Name()))
		}
	}
	fmt.Fprintf(h.w, "\n%s:\n", title)
	for _, sub := range parent.Commands() {
		if sub.IsAvailableCommand() && sub.GroupID == id {
			text := strings.ReplaceAll(wrap(sub.Short, h.width-column-4), "\n", "\n"+strings.Repeat(" ", column+4))
			fmt.Fprintf(h.w, "  %-*s  %s\n", column, sub.Name(), text)
		}
	}
}

func (h helpWriter) flags(title string, set *pflag.FlagSet) {
	if set.HasAvailableFlags() {
		fmt.Fprintf(h.w, "\n%s:\n%s", title, set.FlagUsagesWrapped(h.width))
	}
}

// splitFlags returns a command's own flags and those that open a key store.
func splitFlags(cmd *cobra.Command) (own, secret *pflag.FlagSet) {
	own, secret = pflag.NewFlagSet("", pflag.ContinueOnError), pflag.NewFlagSet("", pflag.ContinueOnError)
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if _, ok := f.Annotations[secretAnnotation]; ok {
			secret.AddFlag(f)
		} else {
			own.AddFlag(f)
		}
	})
	return own, secret
}

// wrap breaks text into lines of at most width columns, where words allow; an empty line stays one.
func wrap(text string, width int) string {
	var out []string
	for _, paragraph := range strings.Split(text, "\n\n") {
		line := ""
		for _, word := range strings.Fields(paragraph) {
			switch {
			case line == "":
				line = word
			case len(line)+1+len(word) > width:
				out, line = append(out, line), word
			default:
				line += " " + word
			}
		}
		out = append(out, line, "")
	}
	return strings.Join(out[:len(out)-1], "\n")
}

func indent(text string) string { return "  " + strings.ReplaceAll(text, "\n", "\n  ") }
