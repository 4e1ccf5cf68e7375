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
	var yes, asJSON bool
	cmd := &cobra.Command{
		Use:   "shred FILE|DIR",
		Short: "Remove a file, or a directory and all below, and every copy of its keys in the volume",
		Long: "Removes FILE, or DIR and all below, in a mount, and returns when the keys of the files are in no file of the volume any more. Backups, copies and the storage below are\n" +
			"not reached; docs/THREATMODEL.md says what is. The receipt is an event of the audit log: kmsfs audit prove EVENT-ID.",
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			out, err := mount.Shred(cmd.Context(), args[0], func(plan mount.ShredPlan) error {
				if yes {
					return nil
				}
				return std.agree(fmt.Sprintf("Shred %s: %s, for ever?", quote(plan.Path), count(uint64(plan.Files), "file")))
			})
			if err != nil {
				return err
			}
			return std.print(asJSON, out, func(w *tabwriter.Writer) {
				line(w, "shredded", quote(out.Path))
				line(w, "files", fmt.Sprint(out.Files))
				line(w, "data keys", fmt.Sprint(out.Keys))
				line(w, "digest of their wraps", out.Digest)
				line(w, "receipt", "event "+out.Event+" (kmsfs audit prove)")
				for _, path := range out.Elsewhere {
					line(w, "may hold copies", quote(path))
				}
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "don't ask")
	jsonFlag(cmd, &asJSON)
	return cmd
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
