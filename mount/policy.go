package mount

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/fs/access"
	"github.com/kmsfs/kmsfs/fs/dirpolicy"
	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/audit/trail"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/mount/control"
)

// policyArgs are the arguments of the operations on policies.
type policyArgs struct {
	Inode  uint64 `json:"inode"`
	Policy []byte `json:"policy,omitempty"`
	Rate   uint64 `json:"rate,omitempty"` // of the job, if there is one
	CPU    uint8  `json:"cpu,omitempty"`

	Since time.Time `json:"since,omitzero"` // of requests in the audit log
}

// ZonePolicy describes a zone and its policy.
type ZonePolicy struct {
	Zone       uint64    `json:"zone"`
	Directory  string    `json:"directory"` // from the volume's root
	Own        bool      `json:"own"`       // it is the directory's own; otherwise that of a directory above
	Version    uint64    `json:"version"`   // counts the policies that the zone has had
	Policy     string    `json:"policy"`    // "" for none
	Keys       []string  `json:"keys"`
	BlockSize  uint32    `json:"block_size"`
	Compressed string    `json:"compression"`
	Locked     bool      `json:"locked"`
	Learns     time.Time `json:"learns_until,omitzero"`

	Job *JobStatus `json:"job,omitempty"` // that re-encrypts the directory's files for a policy just set
}

// describe describes a zone.
func (v *Volume) describeZone(ctx context.Context, z *meta.Zone) (ZonePolicy, error) {
	source, version, err := v.meta.Policy(ctx, z.ID)
	if err != nil {
		return ZonePolicy{}, err
	}
	out := ZonePolicy{Zone: uint64(z.ID), Version: version, Policy: string(source), BlockSize: z.BlockSize, Compressed: z.Compression(), Locked: z.Locked()}
	if path, err := v.meta.Path(ctx, z.Dir); err == nil {
		out.Directory = string(path)
	} else {
		out.Directory = fmt.Sprintf("inode %d", z.Dir)
	}
	for _, w := range z.Wraps {
		out.Keys = append(out.Keys, w.KeyID)
	}
	if source != nil {
		if p, err := dirpolicy.Parse(source, dirpolicy.Resolver{}); err == nil && p.Learning(time.Now()) {
			out.Learns = p.Learn
		}
	}
	return out, nil
}

func (d *daemon) handlePolicySet(ctx context.Context, call *control.Call) (any, error) {
	p, args, err := d.policyCall(call)
	if err != nil {
		return nil, err
	}
	z, left, err := p.set(ctx, args.Policy)
	if err != nil {
		return nil, err
	}
	if err := d.volume.recordAdmin(ctx, p.by, audit.PutPolicy, z.ID, fmt.Sprintf("version %d, SHA-256 %x", z.PolicyVersion, z.PolicyHash), nil); err != nil {
		return nil, err
	}
	d.refreshStrict(ctx)
	out, err := d.volume.describeZone(ctx, z)
	out.Own = true
	if err == nil && left.rekey {
		if _, err = d.deepRewrap(ctx, call, rewrapArgs{Inode: uint64(z.Dir), CPU: args.CPU}); err != nil {
			err = advise(fmt.Errorf("the policy counts, but the zone has the key that others have wrapped: %w", err), "kmsfs rewrap --deep DIR does what is left")
		}
	}
	if err == nil && left.reencrypt {
		out.Job, err = d.submitReencrypt(ctx, call.Peer, reencryptArgs{Inode: uint64(z.Dir), Rate: args.Rate, CPU: args.CPU})
		if err != nil {
			err = advise(fmt.Errorf("the policy counts, but the files of the directory are stored as before: %w", err), "kmsfs reencrypt DIR does what is left")
		}
	}
	return out, err
}

func (d *daemon) handlePolicyRemove(ctx context.Context, call *control.Call) (any, error) {
	p, args, err := d.policyCall(call)
	if err != nil {
		return nil, err
	}
	z, _, err := p.zone(ctx)
	reencrypt := false
	if err == nil {
		reencrypt, err = p.remove(ctx)
	}
	if err == nil {
		err = d.volume.recordAdmin(ctx, p.by, audit.DeletePolicy, z.ID, "", nil)
	}
	if err != nil || !reencrypt {
		return nil, err
	}
	job, err := d.submitReencrypt(ctx, call.Peer, reencryptArgs{Inode: args.Inode, Rate: args.Rate, CPU: args.CPU})
	if err != nil {
		err = advise(fmt.Errorf("the policy is gone, but the files of the directory are stored as before: %w", err), "kmsfs reencrypt DIR does what is left")
	}
	return job, err
}

func (d *daemon) handlePolicyShow(ctx context.Context, call *control.Call) (any, error) {
	p, _, err := d.policyCall(call)
	if err != nil {
		return nil, err
	}
	z, own, err := p.zone(ctx)
	if err != nil {
		return nil, err
	}
	out, err := d.volume.describeZone(ctx, z)
	out.Own = own
	return out, err
}

func (d *daemon) handlePolicyList(ctx context.Context, _ *control.Call) (any, error) {
	out := []ZonePolicy{}
	var zones []*meta.Zone
	if err := d.volume.meta.Zones(ctx, func(z *meta.Zone) bool { zones = append(zones, z); return true }); err != nil {
		return nil, err
	}
	for _, z := range zones {
		p, err := d.volume.describeZone(ctx, z)
		if err != nil {
			return nil, err
		}
		p.Own = true
		out = append(out, p)
	}
	return out, nil
}

func (d *daemon) handleLessons(ctx context.Context, call *control.Call) (any, error) {
	p, _, err := d.policyCall(call)
	if err != nil {
		return nil, err
	}
	z, err := p.administered(ctx)
	if err != nil {
		return nil, err
	}
	return d.volume.guard.Recall(z.ID, func(fn func(*audit.Event)) error { return d.volume.learnt(ctx, fn) })
}

// learnt gives fn what this volume's stream of the audit log says was allowed only because a zone learns, as far back as one may learn.
func (v *Volume) learnt(ctx context.Context, fn func(*audit.Event)) error {
	dir, stream := v.auditStream()
	q := trail.Query{Streams: []string{stream}, Since: time.Now().Add(-dirpolicy.MaxLearn), Statement: access.LearntStatement}
	return trail.Search(ctx, dir, q, func(f trail.Found) error {
		fn(f.Event)
		return nil
	})
}

// auditStream is where this volume's events are: the log's directory and the stream.
func (v *Volume) auditStream() (dir, stream string) {
	dir, stream = filepath.Split(v.audit.Dir())
	return filepath.Clean(dir), stream
}

// PolicySet puts a policy on a directory in a mount, in the name of whoever calls. Errors: ErrUsage, ErrNotEmpty, ErrPolicy (its place and reason), ErrNotMounted;
// keymgr.ErrAccessDenied.
// Where files have to be re-encrypted for it, a job does that, within a rate and a share of the time (0: no limit).
func PolicySet(ctx context.Context, dir string, source []byte, rate uint64, cpu uint8) (out ZonePolicy, err error) {
	return out, askAbout(ctx, dir, opPolicySet, func(ino uint64) any { return policyArgs{Inode: ino, Policy: source, Rate: rate, CPU: cpu} }, &out)
}

// PolicyRemove takes the policy of a directory away. If there are files in it, the job that it returns gives them the keys and storage of the directory around, within a rate and a share of
// the time (0: no limit).
func PolicyRemove(ctx context.Context, dir string, rate uint64, cpu uint8) (job *JobStatus, err error) {
	err = askAbout(ctx, dir, opPolicyRemove, func(ino uint64) any { return policyArgs{Inode: ino, Rate: rate, CPU: cpu} }, &job)
	return job, err
}

// PolicyShow returns the policy that counts in a directory.
func PolicyShow(ctx context.Context, dir string) (out ZonePolicy, err error) {
	return out, askAbout(ctx, dir, opPolicyShow, func(ino uint64) any { return policyArgs{Inode: ino} }, &out)
}

// PolicyList describes all zones of the mount that holds path.
func PolicyList(ctx context.Context, path string) (out []ZonePolicy, err error) {
	return out, askAbout(ctx, path, opPolicyList, func(uint64) any { return nil }, &out)
}

// PolicyLessons returns what a learning zone would have denied: since the volume was mounted, and as far as the audit log says it, before.
func PolicyLessons(ctx context.Context, dir string) (out []access.Lesson, err error) {
	return out, askAbout(ctx, dir, opLessons, func(ino uint64) any { return policyArgs{Inode: ino} }, &out)
}

// PolicyParse reads a policy as PolicySet would, without a mount. Errors: *policy.Error.
func PolicyParse(source []byte) error {
	_, err := dirpolicy.Parse(source, resolver(time.Now()))
	return err
}

// askAbout asks the daemon of the mount that holds a file about it.
func askAbout(ctx context.Context, path, op string, args func(ino uint64) any, result any) error {
	return askEvents(ctx, path, op, args, nil, result)
}

// askEvents is askAbout with what the daemon says before its answer.
func askEvents(ctx context.Context, path, op string, args func(ino uint64) any, onEvent func(json.RawMessage) error, result any) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("path %s: %w", path, err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(abs, &st); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	r, err := openRuntime()
	if err != nil {
		return err
	}
	rec, err := r.holding(&st)
	if err != nil {
		return fmt.Errorf("%w: %s", err, path)
	}
	return control.Do(ctx, r.socket(rec.ID), op, args(st.Ino), onEvent, result)
}

// ReadPolicy reads a policy's file, bounded.
func ReadPolicy(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > dirpolicy.MaxSource {
		err = fmt.Errorf("%w: %s has %d bytes, a policy has at most %d", ErrUsage, path, info.Size(), dirpolicy.MaxSource)
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}
