package mount

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/keystore"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/mount/control"
)

// RewrapConfig says which keys to wrap anew, and how. At most one of To, Add and Remove is set; with none each wrap is renewed under the newest version of its own key.
type RewrapConfig struct {
	Target string // directory of a mounted volume: all of it; a directory in the mount: its zone
	All    bool   // with a directory: all of the volume
	To     string // CMK that alone wraps afterwards
	Add    string // CMK that wraps as well
	Remove string // CMK that wraps no more
	Deep   bool   // give the zones other keys, too, and wrap the keys of all their files under these, as a job
	CPU    uint8  // percent of the time that the job may take at most; 0: no limit

	KeyStore string       // where Add or Remove is looked for; "": in the mount's
	Secret   SecretSource // of that
}

// Rewrapped is what became of one key.
type Rewrapped struct {
	What    string       `json:"what"` // "volume key", "zone 7"
	Changed bool         `json:"changed"`
	Wraps   []WrapStatus `json:"wraps"`
	Kept    []string     `json:"kept,omitempty"` // why wraps stayed as they were
}

// rewrapArgs is RewrapConfig as the daemon gets it.
type rewrapArgs struct {
	Inode    uint64 `json:"inode,omitempty"` // of a directory; 0: all of the volume
	To       string `json:"to,omitempty"`
	Add      string `json:"add,omitempty"`
	Remove   string `json:"remove,omitempty"`
	Deep     bool   `json:"deep,omitempty"`
	CPU      uint8  `json:"cpu,omitempty"`
	KeyStore string `json:"key_store,omitempty"` // absolute; "": the mount's
}

// Rewrap has the daemon of a mounted volume wrap keys anew, in the name of whoever calls. report is called for each key. It costs as many calls of the key manager as there are
// zones and wraps, and touches no file. With Deep it returns the job that does the rest. Every key has its old wraps until its new ones are durable; what was done before an error stays.
//
// Errors: ErrUsage, ErrNotMounted, ErrBusy (another rewrap runs); keymgr.ErrAccessDenied and others of the key manager.
func Rewrap(ctx context.Context, cfg RewrapConfig, report func(Rewrapped) error) (*JobStatus, error) {
	args, rec, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	if args.KeyStore != "" {
		if err := cfg.Secret.absolute(); err != nil {
			return nil, err
		}
		if err := ensureKeyd(ctx, args.KeyStore, &cfg.Secret); err != nil {
			return nil, err
		}
	}
	r, err := openRuntime()
	if err != nil {
		return nil, err
	}
	var job *JobStatus
	err = control.Do(ctx, r.socket(rec.ID), opRewrap, args, func(event json.RawMessage) error {
		var one Rewrapped
		if err := json.Unmarshal(event, &one); err != nil {
			return fmt.Errorf("%w: %v", control.ErrProtocol, err)
		}
		return report(one)
	}, &job)
	return job, err
}

// resolve finds the mount and what of it is meant.
func (cfg *RewrapConfig) resolve() (args rewrapArgs, rec record, err error) {
	args = rewrapArgs{To: cfg.To, Add: cfg.Add, Remove: cfg.Remove, Deep: cfg.Deep, CPU: cfg.CPU}
	n := 0
	for _, key := range []string{cfg.To, cfg.Add, cfg.Remove} {
		if key != "" {
			n++
		}
	}
	if n > 1 {
		return args, rec, fmt.Errorf("%w: one of --to, --add and --remove at a time", ErrUsage)
	}
	if cfg.KeyStore != "" {
		if cfg.Add == "" && cfg.Remove == "" {
			return args, rec, fmt.Errorf("%w: --keystore says where the key of --add or --remove is", ErrUsage)
		}
		if args.KeyStore, err = filepath.Abs(cfg.KeyStore); err == nil {
			_, err = keystore.Load(args.KeyStore)
		}
		if err != nil {
			return args, rec, err
		}
	}
	return cfg.find(args)
}

// find finds the daemon: by the volume's directory, or by a directory in its mount.
func (cfg *RewrapConfig) find(args rewrapArgs) (rewrapArgs, record, error) {
	r, err := openRuntime()
	if err != nil {
		return args, record{}, err
	}
	if _, err := mountedAt(cfg.Target); err != nil {
		if rec, ok := r.serving(cfg.Target); ok { // the volume's own directory
			return args, rec, nil
		}
	}
	var st unix.Stat_t
	if err := unix.Lstat(cfg.Target, &st); err != nil {
		return args, record{}, fmt.Errorf("%s: %w", cfg.Target, err)
	}
	rec, err := r.holding(&st)
	switch {
	case errors.Is(err, ErrNotMounted):
		return args, rec, advise(fmt.Errorf("%w: %s", ErrNotMounted, cfg.Target), "keys are wrapped anew while the volume is mounted")
	case err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR:
		err = fmt.Errorf("%w: %s is not a directory", ErrUsage, cfg.Target)
	}
	if !cfg.All {
		args.Inode = st.Ino
	}
	return args, rec, err
}

// holding returns the record of the mount that a file lies in.
func (r runDir) holding(st *unix.Stat_t) (record, error) {
	table, err := mountTable()
	if err != nil {
		return record{}, err
	}
	device := fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	for _, m := range table {
		if m.Device != device || m.Type != fsType {
			continue
		}
		rec, ok := r.find(m)
		if !ok {
			return record{}, fmt.Errorf("%w of this user: %s", ErrNotMounted, m.Point)
		}
		return rec, nil
	}
	return record{}, ErrNotMounted
}

// handleRewrap works in the name of the peer, whose rights count: ReEncryptFrom on the key that opens a wrap, ReEncryptTo on the one that makes the new one.
func (d *daemon) handleRewrap(ctx context.Context, call *control.Call) (any, error) {
	var args rewrapArgs
	if err := call.Args(&args); err != nil {
		return nil, err
	}
	if d.cfg.Options.ReadOnly {
		return nil, fmt.Errorf("%w: the volume is mounted read-only", ErrUsage)
	}
	by := keymgr.Caller{UID: call.Peer.UID, GID: call.Peer.GID, PID: call.Peer.PID, Via: keymgr.ViaFileDaemon}
	err := d.volume.rewrap(ctx, by, args, func(r Rewrapped) error { return call.Emit(r) })
	err = errors.Join(err, d.volume.guard.Reload(ctx)) // zones have other keys
	if err != nil || !args.Deep {
		return nil, err
	}
	return d.deepRewrap(ctx, call, args)
}

// deepRewrap submits the job that gives the zones other keys.
func (d *daemon) deepRewrap(ctx context.Context, call *control.Call, args rewrapArgs) (any, error) {
	root, zone := meta.RootIno, meta.ZoneID(0)
	if args.Inode != 0 {
		a, err := d.volume.meta.Getattr(ctx, meta.Ino(args.Inode))
		if err != nil {
			return nil, err
		}
		z, err := d.volume.meta.Zone(ctx, a.Zone)
		if err != nil {
			return nil, err
		}
		root, zone = z.Dir, z.ID
	}
	st, err := d.jobs.Rewrap(ctx, root, zone, uint32(call.Peer.UID), uint32(call.Peer.GID), args.CPU)
	if err != nil {
		return nil, err
	}
	job := d.jobStatus(ctx, st)
	return &job, nil
}
