package mount

import (
	"context"
	"fmt"
	"os/user"
	"strconv"
	"time"

	"github.com/kmsfs/kmsfs/fs/access"
	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/audit/trail"
)

// pastEvents bounds the events of the audit log that a check decides anew: about a second of one processor.
const pastEvents = 100_000

// rehearse decides by both policies what was asked for below a directory since a time, the newest first. What was acknowledged before the check is in the log: the check's own record came behind it.
func (v *Volume) rehearse(ctx context.Context, swap *access.Swap, since time.Time) (access.Past, error) {
	r := swap.Rehearse(v.formerUser)
	dir, stream := v.auditStream()
	q := trail.Query{Since: since, Path: swap.Dir, Sealed: true}
	cut, err := trail.Recent(ctx, dir, stream, q, pastEvents, func(f trail.Found) error {
		r.Add(f.Event)
		return nil
	})
	if err != nil {
		return access.Past{}, err
	}
	out := r.Result()
	out.Since, out.Cut = since.UTC(), cut
	out.Unseen = v.unseen(swap, &out)
	return out, nil
}

// formerUser is the user of a number, with the groups that it has on this host now, and a group that it had.
func (v *Volume) formerUser(uid, gid uint32) access.Subject {
	gids := []uint32{gid}
	if u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10)); err == nil {
		if groups, err := groupsOf(u); err == nil {
			gids = append(gids, groups...)
		}
	}
	return v.guard.Subject(uid, gids, "")
}

// unseen says what the log could not show.
func (v *Volume) unseen(swap *access.Swap, past *access.Past) []string {
	out := []string{}
	say := func(when bool, format string, args ...any) {
		if when {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	level := v.guard.Level(swap.Zone)
	say(level == audit.LevelDenied, "the directory's audit level is denied: what is allowed there is not recorded, and so not what would be newly denied")
	say(swap.Was == nil && level == audit.LevelAccess, "changes of attributes are recorded at level full only where there is no policy")
	say(swap.Next.StrictMetadata && (swap.Was == nil || !swap.Was.StrictMetadata), "lookups, stat and readlink, which metadata: strict decides, were not recorded")
	say(past.Sealed > 0, "%d events of the volume are sealed to an auditor's key and cannot be read here", past.Sealed)
	say(past.Undecided > 0, "%d requests cannot be decided anew: the user of that number has another name here now, the key store decides, or it depends on what was not recorded (a program's digest)", past.Undecided)
	say(past.Cut, "there are older events than those that were looked at, about %d", pastEvents)
	return out
}
