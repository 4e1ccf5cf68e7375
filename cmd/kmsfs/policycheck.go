package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/mount"
)

func policyCheckCommand(io stdio) *cobra.Command {
	var asJSON bool
	var since string
	cmd := &cobra.Command{
		Use: "check [DIR] FILE", Short: "Read a policy and say what is wrong; with DIR, what setting it there would newly allow and deny", Args: usage(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := args[len(args)-1]
			source, err := mount.ReadPolicy(file)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return named(file, mount.PolicyParse(source))
			}
			from, err := auditTime(since)
			if err != nil {
				return err
			}
			diff, err := mount.PolicyCheck(cmd.Context(), args[0], source, from)
			if err != nil {
				return named(file, err)
			}
			return io.print(asJSON, diff, func(w *tabwriter.Writer) { printPolicyDiff(w, &diff) })
		},
	}
	cmd.Flags().StringVar(&since, "since", "168h", "requests in the audit log from this `TIME` on, or so long ago (2h)")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func printPolicyDiff(w *tabwriter.Writer, diff *mount.PolicyDiff) {
	for _, c := range diff.Changes {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", c.Becomes, c.User, c.Action, quote(c.Path), c.Reason)
	}
	fmt.Fprintf(w, "%d decisions about %d files by %d users are compared; %d differ\n", diff.Decisions, diff.Files, diff.Users, diff.Differ)
	p := &diff.Past
	for _, c := range p.Changes {
		fmt.Fprintf(w, "would have been %s\t%s\t%s\t%dx\twith %s\tlast %s\t%s\t%s\n", c.Becomes, c.User, c.Action, c.Count, quote(c.Program), since(c.Last), quote(c.Path), c.Reason)
	}
	if p.LeftOut > 0 {
		fmt.Fprintf(w, "and %d requests more\n", p.LeftOut)
	}
	from := since(p.Since)
	if p.Cut {
		from = since(p.From)
	}
	fmt.Fprintf(w, "%d requests since %s are in the audit log: %d of them would have been newly denied, %d newly allowed\n", p.Requests, from, p.NewlyDenied, p.NewlyAllowed)
	for _, what := range p.Unseen {
		fmt.Fprintf(w, "not seen: %s\n", what)
	}
}
