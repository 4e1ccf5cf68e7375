package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func manCommand(std stdio) *cobra.Command {
	return &cobra.Command{
		Use: "man", Short: "Print kmsfs' manual page", Args: usage(cobra.NoArgs),
		Long: "Prints a manual page of all commands, options and exit codes, for man(1).",
		RunE: func(cmd *cobra.Command, _ []string) error {
			m := manPage{w: std.out}
			m.page(cmd.Root())
			return m.err
		},
	}
}

// manPage writes man(7).
type manPage struct {
	w   io.Writer
	err error // the first of a write
}

func (m *manPage) line(format string, args ...any) {
	if m.err == nil {
		_, m.err = fmt.Fprintf(m.w, format+"\n", args...)
	}
}

// roff makes text that man(7) shows as it is: a backslash, a minus sign and a dot or quote at the beginning of a line mean something else there.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...").Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}

func (m *manPage) page(root *cobra.Command) {
	m.line(`.TH KMSFS 1 "" "%s"`, roff("kmsfs "+version))
	m.line(".SH NAME\nkmsfs \\- %s", roff(root.Short))
	m.line(".SH SYNOPSIS\n.B kmsfs\n.I COMMAND\n[\n.I options\n]")
	m.line(".SH DESCRIPTION\n%s", roff(root.Long))
	for _, g := range root.Groups() {
		m.line(".SH %s", strings.ToUpper(roff(g.Title)))
		for _, cmd := range root.Commands() {
			if cmd.GroupID == g.ID {
				m.command(cmd)
			}
		}
	}
	m.line(".SH EXIT STATUS\n.TP\n.B 0\ndone")
	for _, e := range exits {
		m.line(".TP\n.B %d\n%s", e.code, roff(e.when))
	}
	m.line(".TP\n.B 70\n%s", roff("of the daemons: a request panicked"))
	m.line(".SH ENVIRONMENT\n.TP\n.B KMSFS_KEYSTORE\nthe key store\n.TP\n.B KMSFS_RUNTIME_DIR\nwhere sockets, records and logs of mounts lie\n.TP\n.B KMSFS_SPOOL_DIR\na directory on a tmpfs for the audit log's spool")
}

// command writes a command and all below it.
func (m *manPage) command(cmd *cobra.Command) {
	if !cmd.IsAvailableCommand() {
		return
	}
	if cmd.HasAvailableSubCommands() {
		defer func() {
			for _, sub := range cmd.Commands() {
				m.command(sub)
			}
		}()
		if operands(cmd) == "no arguments" {
			return
		}
	}
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	m.line(".SS %s\n%s", roff(strings.TrimSuffix(cmd.UseLine(), " [flags]")), roff(strings.Join(strings.Fields(text), " ")))
	cmd.InitDefaultHelpFlag()
	own, secret := splitFlags(cmd)
	own.VisitAll(m.flag)
	if secret.HasFlags() {
		m.line(".PP\nThe key store's secret is named by one of")
		var names []string
		secret.VisitAll(func(f *pflag.Flag) { names = append(names, roff("--"+f.Name)) })
		m.line(".BR %s .", strings.Join(names, " \", \" "))
	}
	if cmd.HasExample() {
		m.line(".PP\nExample:\n.PP\n.nf")
		for _, example := range strings.Split(cmd.Example, "\n") {
			m.line("    %s", roff(example))
		}
		m.line(".fi")
	}
}

func (m *manPage) flag(f *pflag.Flag) {
	if f.Hidden || f.Name == "help" {
		return
	}
	value, text := pflag.UnquoteUsage(f)
	name := roff("--" + f.Name)
	if f.Shorthand != "" {
		name = roff("-"+f.Shorthand) + ", " + name
	}
	m.line(".TP\n.B %s %s\n%s", name, roff(value), roff(text))
}
