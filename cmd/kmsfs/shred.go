package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/mount"
)

func shredCommand(std stdio) *cobra.Command {
	var yes, background, asJSON bool
	cmd := &cobra.Command{
		Use:   "shred FILE|DIR",
		Short: "Remove a file, or a directory and all below, and every copy of its keys in the volume",
		Long: "Removes FILE, or DIR and all below, in a mount, and returns when the keys of the files are in no file of the volume any more. It is a job of the daemon (kmsfs jobs), which goes on\n" +
			"when this command is interrupted. Backups, copies and the storage below are not reached; docs/THREATMODEL.md says what is. The receipt is an event of the audit log: kmsfs audit\n" +
			"prove EVENT-ID.",
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			digest := ""
			if !yes {
				plan, err := mount.PlanShred(cmd.Context(), args[0])
				if err == nil {
					err = std.agree(fmt.Sprintf("Shred %s: %s, for ever?", quote(plan.Path), count(plan.Files, "file")))
				}
				if err != nil {
					return err
				}
				digest = plan.Digest
			}
			st, err := mount.Shred(cmd.Context(), args[0], digest)
			if err != nil {
				return err
			}
			if background {
				return std.print(asJSON, st, func(w *tabwriter.Writer) { printJob(w, st, false) })
			}
			if st, err = waitForJob(cmd.Context(), std, asJSON, st.Volume, st.ID); err != nil {
				return err
			}
			if err := jobFailure(true, st); err != nil {
				return err
			}
			return std.print(asJSON, st.Shred, func(w *tabwriter.Writer) { printReceipt(w, st.Shred) })
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "don't ask")
	cmd.Flags().BoolVar(&background, "background", false, "return when the job is submitted")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// printReceipt says what was shredded.
func printReceipt(w *tabwriter.Writer, s *mount.Shredded) {
	line(w, "shredded", quote(s.Path))
	line(w, "files", fmt.Sprint(s.Files))
	line(w, "data keys", fmt.Sprint(s.Keys))
	line(w, "digest of their wraps", s.Digest)
	if s.Event != "" {
		line(w, "receipt", "event "+s.Event+" (kmsfs audit prove)")
	}
	for _, path := range s.Elsewhere {
		line(w, "may hold copies", quote(path))
	}
}

// agree wants a yes from the terminal.
func (std stdio) agree(question string) error {
	fmt.Fprintf(std.err, "%s [yes/no] ", question)
	answer, err := bufio.NewReader(io.LimitReader(std.in, 64)).ReadString('\n')
	if err == io.EOF { // nobody ended the line
		fmt.Fprintln(std.err)
	}
	if err != nil && err != io.EOF || strings.TrimSpace(answer) != "yes" {
		return fmt.Errorf("%w: not confirmed; --yes does without the question", mount.ErrUsage)
	}
	return nil
}
