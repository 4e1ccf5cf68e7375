package mount

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/fs/access"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/mount/control"
)

// ExplainConfig asks how a request would be decided.
type ExplainConfig struct {
	User    string // name or number; "": the caller
	Program string // path; "": not known
	Action  string
	Path    string // must exist
}

// explainArgs is ExplainConfig as the daemon gets it.
type explainArgs struct {
	Inode   uint64 `json:"inode"`
	User    string `json:"user,omitempty"`
	Program string `json:"program,omitempty"`
	Action  string `json:"action"`
}

// Explain asks the daemon of the mount that holds a file how a request about it would be decided, and why. For another user than oneself it needs the action Admin in
// the file's zone. Errors: ErrUsage (user, action), ErrNotMounted, keymgr.ErrAccessDenied.
func Explain(ctx context.Context, cfg ExplainConfig) (out access.Explanation, err error) {
	return out, askAbout(ctx, cfg.Path, opExplain, func(ino uint64) any {
		return explainArgs{Inode: ino, User: cfg.User, Program: cfg.Program, Action: cfg.Action}
	}, &out)
}

func (d *daemon) handleExplain(ctx context.Context, call *control.Call) (any, error) {
	var args explainArgs
	if err := call.Args(&args); err != nil {
		return nil, err
	}
	action, err := access.ParseAction(args.Action)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUsage, err)
	}
	a, err := d.volume.meta.Getattr(ctx, meta.Ino(args.Inode))
	if err != nil {
		return nil, fmt.Errorf("inode %d: %w", args.Inode, err)
	}
	if args.User == "" {
		args.User = strconv.Itoa(call.Peer.UID)
	}
	uid, gids, err := lookUser(args.User)
	if err != nil {
		return nil, err
	}
	p := d.policyAdmin(call, args.Inode)
	if uid != p.by.UID {
		if err := d.volume.guard.Administer(ctx, p.by, a.Zone); err != nil {
			return nil, err
		}
	}
	return d.volume.guard.Explain(ctx, d.volume.guard.Subject(uid, gids, args.Program), action, access.Target{Zone: a.Zone, Ino: a.Ino})
}

// lookUser returns a user's number and groups, of a name or a number.
func lookUser(name string) (uid uint32, gids []uint32, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			return 0, nil, fmt.Errorf("%w: there is no user %q on this host", ErrUsage, name)
		}
	}
	n, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return 0, nil, fmt.Errorf("uid of %s: %w", name, err)
	}
	gids, err = groupsOf(u)
	return uint32(n), gids, err
}

// groupsOf are the groups of a user, the user's own first.
func groupsOf(u *user.User) (gids []uint32, err error) {
	groups, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("groups of %s: %w", u.Username, err)
	}
	for _, id := range append([]string{u.Gid}, groups...) {
		g, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("groups of %s: %w", u.Username, err)
		}
		gids = append(gids, uint32(g))
	}
	return gids, nil
}

// lastDenialName is an attribute that the root of every mount has for its reader alone: JSON of the latest refusal of whoever reads it.
const lastDenialName = "kmsfs.last-denial"

// LastDenial returns the caller's latest refusal on the mount that holds path. It needs no daemon's socket, so everybody can ask. ErrNoDenial if there was none.
func LastDenial(path string) (out access.Denial, err error) {
	point, err := mountPointOf(path)
	if err != nil {
		return out, err
	}
	buf := make([]byte, 64<<10)
	n, err := unix.Lgetxattr(point, lastDenialName, buf)
	if errors.Is(err, unix.ENODATA) {
		return out, advise(fmt.Errorf("%w on %s by a policy or for a key", ErrNoDenial, point), "permissions and ACLs decide as well; kmsfs explain --action ACTION PATH asks about one request")
	}
	if err != nil {
		return out, fmt.Errorf("ask the mount %s: %w", point, err)
	}
	if err := json.Unmarshal(buf[:n], &out); err != nil {
		return out, fmt.Errorf("answer of the mount %s: %w", point, err)
	}
	return out, nil
}

// mountPointOf returns the mount point of ours that path lies under. What lies at path need not be accessible.
func mountPointOf(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("path %s: %w", path, err)
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	} else if !errors.Is(err, os.ErrPermission) && !errors.Is(err, unix.EKEYREVOKED) && !errors.Is(err, unix.ENOKEY) {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	table, err := mountTable()
	if err != nil {
		return "", err
	}
	best := ""
	for _, m := range table {
		if m.Type == fsType && within(abs, m.Point) && len(m.Point) > len(best) {
			best = m.Point
		}
	}
	if best == "" {
		return "", fmt.Errorf("%w: %s lies in none", ErrNotMounted, path)
	}
	return best, nil
}

// lastDenial answers a read of lastDenialName.
func (v *Volume) lastDenial(by access.Requester, name string) ([]byte, bool) {
	if name != lastDenialName {
		return nil, false
	}
	last, ok := v.guard.LastDenial(by.UID)
	if !ok {
		return nil, true
	}
	raw, err := json.Marshal(last)
	if err != nil {
		return nil, true
	}
	return raw, true
}
