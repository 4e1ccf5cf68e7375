package mount

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/hsm/awake"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/mount/control"
)

// Operations of the control socket.
const (
	opState  = "state"  // MountStatus without asking the key manager: quick
	opStatus = "status" // MountStatus
	opInfo   = "info"   // infoArgs -> FileInfo
	opRewrap = "rewrap" // rewrapArgs -> events Rewrapped
	opCheck  = "check"  // checkArgs -> events Fault, CheckSummary
	opBackup = "backup" // backupArgs -> events Progress, BackupResult

	opQuarantine = "quarantine" // -> events Quarantined

	opUmount = "umount" // unmounts, and answers when the volume is closed

	opCensus     = "census"     // censusArgs -> Census
	opReferences = "references" // referencesArgs -> References
	opShredPlan  = "shred-plan" // shredArgs -> ShredPlan
	opShred      = "shred"      // shredArgs -> JobStatus
	opReencrypt  = "reencrypt"  // reencryptArgs -> JobStatus
	opJobs       = "jobs"       // []JobStatus
	opJob        = "job"        // jobArgs
	opJobWait    = "job-wait"   // jobArgs -> events JobStatus, JobStatus
)

// Operations on policies.
const (
	opPolicySet    = "policy-set"     // policyArgs -> ZonePolicy
	opPolicyRemove = "policy-remove"  // policyArgs
	opPolicyShow   = "policy-show"    // policyArgs -> ZonePolicy
	opPolicyList   = "policy-list"    // -> []ZonePolicy
	opPolicyCheck  = "policy-check"   // policyArgs -> events policyChange, PolicyDiff
	opLessons      = "policy-lessons" // policyArgs -> []access.Lesson
	opLock         = "lock"           // policyArgs -> Locked
	opUnlock       = "unlock"         // policyArgs -> Locked
	opExplain      = "explain"        // explainArgs -> access.Explanation
)

// askKeys bounds what a status asks the key manager for.
const askKeys = 2 * time.Second

type infoArgs struct {
	Inode uint64 `json:"inode"`
}

type checkArgs struct {
	Repair bool `json:"repair"`
}

func (d *daemon) handlers() map[string]control.Handler {
	return map[string]control.Handler{
		opState:  func(context.Context, *control.Call) (any, error) { return d.state(), nil },
		opStatus: func(ctx context.Context, _ *control.Call) (any, error) { return d.status(ctx), nil },
		opInfo:   d.handleInfo,
		opCheck:  d.handleCheck,

		opQuarantine: d.handleQuarantine,

		opReferences: d.handleReferences,

		opRewrap: d.handleRewrap,
		opBackup: d.handleBackup,
		opUmount: d.handleUmount,

		opPolicySet:    d.handlePolicySet,
		opPolicyRemove: d.handlePolicyRemove,
		opPolicyShow:   d.handlePolicyShow,
		opPolicyList:   d.handlePolicyList,
		opPolicyCheck:  d.handlePolicyCheck,
		opLessons:      d.handleLessons,
		opLock:         d.handleLock,
		opUnlock:       d.handleUnlock,
		opExplain:      d.handleExplain,

		opCensus:    d.handleCensus,
		opShred:     d.handleShred,
		opShredPlan: d.handleShredPlan,
		opReencrypt: d.handleReencrypt,
		opJobs:      d.handleJobs,
		opJob:       d.handleJob,
		opJobWait:   d.handleJobWait,
	}
}

// state is what is known without asking anybody.
func (d *daemon) state() MountStatus {
	v := d.volume
	record, _, version := v.wraps.get()
	st := MountStatus{
		Volume: v.Dir, ID: v.ID.String(), MountPoint: d.server.MountPoint(), State: StateServing, PID: os.Getpid(), Started: v.Started,
		Version: d.cfg.Version, Options: d.cfg.Options, Log: d.cfg.Log, Transport: string(d.server.Transport()), Idle: string(d.server.Idle()),
		Keys: KeyStatus{KeyStore: d.cfg.KeyStore, Key: record.CMK, Version: version},
	}
	s := v.kv.Stats()
	st.Journal = JournalStatus{
		Generation: s.Generation, Records: s.Sequence, Durable: s.Durable, Checkpoint: s.Checkpoint, Bytes: s.JournalBytes,
		Anchored: v.anchor.anchored(), Replayed: s.Recovery.Records,
	}
	if s.ExportBehind != nil {
		st.Warning = fmt.Sprintf("the metadata export is behind, kmsfs rebuild could not bring all back: %v", s.ExportBehind)
	} else {
		st.Warning = locked.SwapRisk()
	}
	if s.Failed != nil {
		st.State, st.Problem = StateFailed, fmt.Sprintf("changes fail until the volume is mounted anew: %v", s.Failed)
	}
	if d.isClosing() {
		st.State = StateClosing
	}
	return st
}

func (d *daemon) status(ctx context.Context) MountStatus {
	st := d.state()
	ctx, cancel := awake.WithTimeout(ctx, askKeys)
	defer cancel()
	st.Zones = d.volume.zoneStates(ctx)
	st.Keys.State = "unknown"
	km, err := d.volume.keys.Status(ctx)
	if err == nil {
		st.Keys.Token, st.Keys.HSM, st.Keys.Backup = describeToken(km.Token), km.Token.HSM, lastBackup(km)
		if km.Token.Kind == hsm.KindKMS {
			st.Keys.Token += fmt.Sprintf("; what it revokes counts here within %v (--key-ttl, or a zone's key_ttl)", d.cfg.KeyTTL)
		}
		if e := km.Emergency; e.Open || !e.Opened.IsZero() {
			st.Warning = "break-glass: " + describeEmergency(e)
		}
		if km.Token.Error != "" {
			st.Problem = "token: " + km.Token.Error
		}
	}
	if err == nil && km.Locked {
		err = keymgr.ErrLocked
	}
	if err == nil {
		var key keymgr.KeyMetadata
		if key, err = d.volume.keys.DescribeKey(ctx, keymgr.Caller{}, st.Keys.Key); err == nil {
			st.Keys.State = key.State
			st.Keys.Wraps = d.volume.volumeWrapStatus(ctx)
		}
	}
	if err != nil {
		st.Keys.State = err.Error()
		if st.Problem == "" {
			st.Problem = fmt.Sprintf("keys: %v", err)
		}
	}
	return st
}

// describeToken names a token for people; an embedded one is never called an HSM.
func describeToken(t keymgr.TokenStatus) string {
	name := t.Kind
	if t.Kind == hsm.KindSoft {
		name = "embedded, not an HSM"
	} else if t.Kind == hsm.KindKMS {
		name = "another key manager, " + t.Label
	} else if t.Label != "" {
		name = fmt.Sprintf("%s token %q, serial %s", t.Kind, t.Label, t.Serial)
	}
	if t.Error != "" {
		name += ", does not answer"
	}
	return name
}

func (d *daemon) handleInfo(ctx context.Context, call *control.Call) (any, error) {
	var args infoArgs
	if err := call.Args(&args); err != nil {
		return nil, err
	}
	return d.volume.info(ctx, meta.Ino(args.Inode))
}

func (d *daemon) handleCheck(ctx context.Context, call *control.Call) (any, error) {
	var args checkArgs
	if err := call.Args(&args); err != nil {
		return nil, err
	}
	if err := d.flush(); err != nil {
		return nil, err
	}
	sum, err := d.volume.check(ctx, checkMode{repair: args.Repair, aside: args.Repair}, func(f Fault) error { return call.Emit(checkEvent{Fault: &f}) }, func(p Progress) {
		_ = call.Emit(checkEvent{Progress: &p}) // a client that has gone ends ctx
	})
	sum.Online = true
	return sum, err
}

// handleUmount answers when the volume is closed, and everything is durable.
func (d *daemon) handleUmount(_ context.Context, _ *control.Call) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := d.unmount(); err != nil {
		return nil, err
	}
	d.setClosing()
	d.quit()
	select {
	case <-d.closed:
		d.mu.Lock()
		defer d.mu.Unlock()
		return struct{}{}, d.mu.closeErr
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the volume to close: %w", ctx.Err())
	}
}

// flush has the kernel write back what it holds dirty: the check, and an unmount by force, see what programs have written.
func (d *daemon) flush() error {
	root, err := os.OpenFile(d.server.MountPoint(), os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("open the mount's root: %w", err)
	}
	defer root.Close()
	if err := unix.Syncfs(int(root.Fd())); err == nil {
		return nil
	}
	// The first call also reports what failed at any time before, such as on a full disk; the programs concerned were told.
	if err := unix.Syncfs(int(root.Fd())); err != nil {
		return fmt.Errorf("write back dirty pages: %w", err)
	}
	return nil
}
