package mount

import (
	"cmp"
	"context"
	"encoding/json"
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

	Past access.Past `json:"past"` // of the audit log
}

// Bounds of a check.
const (
	checkFiles = 2000
	checkUsers = 200
)

// PolicyCheck refuses what PolicySet would refuse of a policy itself, and says what it would newly allow and deny in a directory: to the users of this host, about the
// files that are there, and of what was asked for since a time, as the audit log has it. Keys and permissions are left out of both, conditions on the program of the first.
func PolicyCheck(ctx context.Context, dir string, source []byte, since time.Time) (out PolicyDiff, err error) {
	changes, past := []access.Change{}, []access.PastChange{}
	err = askEvents(ctx, dir, opPolicyCheck, func(ino uint64) any { return policyArgs{Inode: ino, Policy: source, Since: since} }, func(data json.RawMessage) error {
		var one policyChange
		err := json.Unmarshal(data, &one)
		switch {
		case err != nil:
			return fmt.Errorf("%w: %w", control.ErrProtocol, err)
		case one.Change != nil:
			changes = append(changes, *one.Change)
		case one.Past != nil:
			past = append(past, *one.Past)
		}
		return nil
	}, &out)
	out.Changes, out.Past.Changes = changes, past
	return out, err
}

// policyChange is one of the changes that a check finds; they come before its answer, which has none: all together may be longer than an answer can be.
type policyChange struct {
	Change *access.Change     `json:"change,omitempty"`
	Past   *access.PastChange `json:"past,omitempty"`
}

// emit sends the changes ahead, and takes them out.
func (out *PolicyDiff) emit(call *control.Call) error {
	for i := range out.Changes {
		if err := call.Emit(policyChange{Change: &out.Changes[i]}); err != nil {
			return err
		}
	}
	for i := range out.Past.Changes {
		if err := call.Emit(policyChange{Past: &out.Past.Changes[i]}); err != nil {
			return err
		}
	}
	out.Changes, out.Past.Changes = nil, nil
	return nil
}

func (d *daemon) handlePolicyCheck(ctx context.Context, call *control.Call) (any, error) {
	p, args, err := d.policyCall(call)
	if err != nil {
		return nil, err
	}
	next, err := dirpolicy.Parse(args.Policy, resolver(time.Now()))
	if err != nil {
		return nil, err
	}
	z, err := p.administered(ctx)
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
	swap, err := d.volume.swap(ctx, z, p.dir, next)
	if err != nil {
		return nil, err
	}
	out, err := d.volume.compare(ctx, swap, p.dir)
	if err == nil {
		out.Past, err = d.volume.rehearse(ctx, swap, args.Since)
	}
	if err == nil {
		err = out.emit(call)
	}
	return out, err
}

// swap is a policy in the place of a zone's, for a directory in it.
func (v *Volume) swap(ctx context.Context, z *meta.Zone, dir meta.Ino, next *dirpolicy.Policy) (*access.Swap, error) {
	s := &access.Swap{Was: v.guard.Policy(z.ID), Next: next, Zone: z.ID, Volume: v.ID.String(), Now: time.Now()}
	around, err := v.meta.Path(ctx, z.Dir)
	if err != nil {
		return nil, fmt.Errorf("zone %d: %w", z.ID, err)
	}
	path, err := v.meta.Path(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("inode %d: %w", dir, err)
	}
	s.Around, s.Dir = string(around), string(path)
	return s, nil
}

// compare compares what users of this host may do with what lies in a directory.
func (v *Volume) compare(ctx context.Context, swap *access.Swap, dir meta.Ino) (PolicyDiff, error) {
	files, err := v.pathsBelow(ctx, dir, checkFiles)
	if err != nil {
		return PolicyDiff{}, err
	}
	users := v.users(swap.Next, swap.Was)
	changes := swap.Compare(users, files)
	out := PolicyDiff{Changes: changes, Users: len(users), Files: len(files), Decisions: len(users) * len(files) * int(access.SetAttr)}
	slices.SortFunc(out.Changes, func(a, b access.Change) int {
		return cmp.Or(cmp.Compare(a.Becomes, b.Becomes), cmp.Compare(a.User, b.User), cmp.Compare(a.Action, b.Action))
	})
	for _, c := range changes {
		out.Differ += c.Files
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
