package main

import (
	"fmt"
	"slices"
	"strings"
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
			from, err := parseTime(since)
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
	for _, c := range alike(diff) {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d files\tas %s\t%s\n", c.becomes, few(c.users), c.actions, c.files, quote(c.path), c.reason)
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

// sameChange is what changes alike for some users.
type sameChange struct {
	becomes, actions string
	files            int
	path             string // of one of them
	reason           string
	users            []string
}

// alike puts together the actions of a user that change alike, and then the users for whom the same actions do.
func alike(diff *mount.PolicyDiff) (out []*sameChange) {
	var each []*sameChange
	for _, c := range diff.Changes {
		i := slices.IndexFunc(each, func(s *sameChange) bool {
			return s.users[0] == c.User && s.becomes == c.Becomes && s.files == c.Files && s.path == c.Path && s.reason == c.Reason
		})
		if i < 0 {
			each = append(each, &sameChange{c.Becomes, c.Action, c.Files, c.Path, c.Reason, []string{c.User}})
			continue
		}
		each[i].actions += ", " + c.Action
	}
	for _, s := range each {
		i := slices.IndexFunc(out, func(o *sameChange) bool {
			return o.becomes == s.becomes && o.actions == s.actions && o.files == s.files && o.path == s.path && o.reason == s.reason
		})
		if i < 0 {
			out = append(out, s)
			continue
		}
		out[i].users = append(out[i].users, s.users[0])
	}
	return out
}

// few names some users and counts the others: who wants all of them asks for JSON.
func few(users []string) string {
	const most = 5
	if len(users) <= most {
		return strings.Join(users, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(users[:most], ", "), len(users)-most)
}
