package mount

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/kmsfs/kmsfs/fs/access"
)

// PolicySuggest writes statements for what a learning directory would have denied.
func PolicySuggest(ctx context.Context, dir string) (string, error) {
	lessons, err := PolicyLessons(ctx, dir)
	if err != nil {
		return "", err
	}
	return suggest(lessons), nil
}

// suggest makes one statement for each set of actions that the same users used with the same programs.
func suggest(lessons []access.Lesson) string {
	if len(lessons) == 0 {
		return "# nothing was seen that the policy's statements do not allow\n"
	}
	type use struct{ user, program string }
	actions := map[use][]string{}
	var order []use
	for _, l := range lessons {
		u := use{l.User, l.Program}
		if actions[u] == nil {
			order = append(order, u)
		}
		actions[u] = append(actions[u], l.Action)
	}
	var b strings.Builder
	b.WriteString("# What would have been denied. Read it before you add it: it allows all that was seen, wanted or not.\n")
	for _, u := range order {
		kind := "users"
		if strings.HasPrefix(u.user, "arn:") {
			kind = "principals"
		}
		fmt.Fprintf(&b, "  - effect: allow\n    %s: [%q]\n    actions: [%s]\n", kind, u.user, strings.Join(slices.Compact(actions[u]), ", "))
		if u.program != "" {
			fmt.Fprintf(&b, "    # seen with %q\n", u.program)
		}
	}
	return b.String()
}
