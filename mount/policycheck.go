package mount

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/kmsfs/kmsfs/fs/access"
	"github.com/kmsfs/kmsfs/fs/dirpolicy"
	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/mount/control"
)

// PolicyDiff is what a policy would change.
type PolicyDiff struct {
	Changes   []access.Change `json:"changes"`
	Users     int             `json:"users"`
	Files     int             `json:"files"`
	Decisions int             `json:"decisions"`
	Differ    int             `json:"differ"`
}

// Bounds of a check.
const (
	checkFiles = 2000
	checkUsers = 200
)

// PolicyCheck refuses what PolicySet would refuse of a policy itself, and says what it would newly allow and deny in a directory: to the users of this host, about the
// files that are there. Keys, permissions and conditions on the program are left out of it.
func PolicyCheck(ctx context.Context, dir string, source []byte) (out PolicyDiff, err error) {
	return out, askAbout(ctx, dir, opPolicyCheck, func(ino uint64) any { return policyArgs{Inode: ino, Policy: source} }, &out)
}

func (d *daemon) handlePolicyCheck(ctx context.Context, call *control.Call) (any, error) {
	var args policyArgs
	if err := call.Args(&args); err != nil {
		return nil, err
	}
	next, err := dirpolicy.Parse(args.Policy, resolver(time.Now()))
	if err != nil {
		return nil, err
	}
	p := d.policyAdmin(call, args.Inode)
	z, _, err := p.zone(ctx)
	if err == nil {
		err = d.volume.guard.Administer(ctx, p.by, z.ID)
	}
	if err == nil {
		err = d.volume.guard.WouldAdminister(ctx, p.by, z.ID, next)
		var no *access.Denied
		if errors.As(err, &no) {
			err = fmt.Errorf("%w: %w", policy.ErrLockout, err)
		}
	}
	if err != nil {
		return nil, err
	}
	files, err := d.volume.pathsBelow(ctx, p.dir, checkFiles)
	if err != nil {
		return nil, err
	}
	users := d.volume.users(next, d.volume.guard.Policy(z.ID))
	changes := access.Compare(d.volume.guard.Policy(z.ID), next, users, files, time.Now())
	out := PolicyDiff{Changes: changes, Users: len(users), Files: len(files), Decisions: len(users) * len(files) * int(access.SetAttr)}
	slices.SortFunc(out.Changes, func(a, b access.Change) int {
		return cmp.Or(cmp.Compare(a.Becomes, b.Becomes), cmp.Compare(a.User, b.User), cmp.Compare(a.Action, b.Action))
	})
	for _, c := range changes {
		out.Differ += c.Files
	}
	if out.Changes == nil {
		out.Changes = []access.Change{}
	}
	return out, nil
}

// pathsBelow returns paths in the zone of a directory as its statements see them, the directory's own first.
func (v *Volume) pathsBelow(ctx context.Context, dir meta.Ino, limit int) ([]string, error) {
	paths := []string{"/"}
	type level struct {
		ino  meta.Ino
		path string
	}
	for queue := []level{{dir, ""}}; len(queue) > 0 && len(paths) < limit; queue = queue[1:] {
		for cookie := uint64(0); ; {
			entries, err := v.meta.ReadDir(ctx, queue[0].ino, cookie, 256)
			if err != nil {
				return nil, err
			}
			for _, e := range entries {
				cookie = e.Cookie
				path := queue[0].path + "/" + string(e.Name)
				paths = append(paths, path)
				if e.Type != meta.ModeDir {
					continue
				}
				if a, err := v.meta.Getattr(ctx, e.Ino); err == nil {
					if z, err := v.meta.Zone(ctx, a.Zone); err == nil && z.Dir != e.Ino {
						queue = append(queue, level{e.Ino, path})
					}
				}
			}
			if len(entries) == 0 || len(paths) >= limit {
				break
			}
		}
	}
	return paths[:min(len(paths), limit)], nil
}

// users are those that policies name, root, and the users of this host, as far as there are not too many.
func (v *Volume) users(policies ...*dirpolicy.Policy) []access.Subject {
	names := []string{"root"}
	for _, p := range policies {
		if p == nil || p.Statements == nil {
			continue
		}
		for _, s := range p.Statements.Statements() {
			for _, arn := range s.Principals {
				if _, name, ok := strings.Cut(arn, ":unix/user/"); ok {
					names = append(names, name)
				}
			}
		}
	}
	if passwd, err := os.ReadFile("/etc/passwd"); err == nil {
		for line := range strings.Lines(string(passwd)) {
			name, _, _ := strings.Cut(line, ":")
			names = append(names, name)
		}
	}
	var all []access.Subject
	seen := map[string]bool{}
	for _, name := range names {
		if seen[name] || len(all) == checkUsers {
			continue
		}
		seen[name] = true
		if uid, gids, err := lookUser(name); err == nil {
			all = append(all, v.guard.Subject(uid, gids, ""))
		}
	}
	return all
}

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
