package mount

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/fs"
	"github.com/kmsfs/kmsfs/fs/access"
	"github.com/kmsfs/kmsfs/fs/content"
	"github.com/kmsfs/kmsfs/fs/keyring"
	"github.com/kmsfs/kmsfs/fs/object"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/audit/trail"
	"github.com/kmsfs/kmsfs/keymgr/client"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv/local"
	"github.com/kmsfs/kmsfs/mount/metrics"
	"github.com/kmsfs/kmsfs/mount/superblock"
)

// OpenConfig says which volume to open and how. A key daemon for the key store must be running and unlocked.
type OpenConfig struct {
	Dir           string
	Socket        string // of the key daemon
	ReadOnly      bool   // contents and names; what a crash left behind is put right all the same
	AcceptRestore bool
	KeyTTL        time.Duration
	AuditFailure  string      // AuditRefuse or AuditContinue; "" is AuditRefuse
	AuditLevel    audit.Level // of directories without a policy; "" is audit.LevelAccess
	Log           *slog.Logger

	// SegmentSize and MaxJournal are those of the journal, in bytes; 0: the defaults of meta/kv/local. Small ones suit small volumes.
	SegmentSize, MaxJournal int64

	// Ballast keeps a file that makes room for checkpoints on a full disk. One that is there is used in any case.
	Ballast bool

	Metrics *metrics.Registry // nil: nothing is measured

	// GiveUp is asked while the lock is held by somebody else: why waiting is in vain, or nil.
	GiveUp func(id blockcrypt.VolumeID) error
	// checking opens a volume whose policies do not open: nobody but a check uses it.
	checking bool

	// before is called when the volume is unlocked and its metadata not open yet. nil: nobody asks.
	before func(ctx context.Context, opts local.Options, anchor *anchorer) error

	// Copied is asked when the lock is ours: who uses another directory with this volume id, or nil. nil: nobody knows.
	Copied func(id blockcrypt.VolumeID) error
}

// Volume is an open volume, not mounted. Its parts are built bottom-up by OpenVolume and taken down top-down by Close.
type Volume struct {
	ID       blockcrypt.VolumeID
	Dir      string
	Started  time.Time
	Recovery meta.RecoveryReport

	wraps     volumeWraps
	keys      *client.Client
	ring      *keyring.Keyring
	guard     *access.Guard
	audit     *trail.Log
	counted   *metrics.Audit                                 // in front of audit; nil: nothing is measured
	observe   func(op string, took time.Duration, err error) // of calls of the key manager; nil: nothing is measured
	own       ownMount
	objects   *object.Store
	namer     *blockcrypt.ObjectNamer
	kv        *local.Store
	structure *meta.Structure
	meta      *meta.Store
	content   *content.Engine
	anchor    *anchorer
	log       *slog.Logger

	undo []func(context.Context) error // what Close does, last first
}

// OpenVolume opens a volume: lock, superblock, keys, stores, recovery, content. It may wait some seconds for a daemon that is still closing.
//
// Errors: ErrInUse; superblock.ErrMissing, ErrDamaged, ErrVersion, ErrFeature, ErrAuth; keymgr's; kv.ErrRollback, kv.ErrCorrupt.
func OpenVolume(ctx context.Context, cfg OpenConfig) (v *Volume, err error) {
	v = &Volume{Dir: cfg.Dir, Started: time.Now(), log: cfg.Log}
	if cfg.Metrics != nil {
		v.observe = metrics.NewCalls(cfg.Metrics, "kmsfs_key_call", "Calls of the key manager.", keymgr.Code).Call
	}
	defer func() {
		if err != nil {
			v.refused(context.WithoutCancel(ctx), cfg, err)
			err = errors.Join(err, v.unwind(context.WithoutCancel(ctx)))
			v = nil
		}
	}()
	sb, raw, err := readSuperblock(ctx, cfg.Socket, cfg.Dir)
	if err != nil {
		return v, err
	}
	v.ID = sb.Volume
	if err := v.takeLock(ctx, cfg); err != nil {
		return v, err
	}
	secrets, err := v.unlock(ctx, cfg.Socket, sb, raw)
	if err != nil {
		return v, err
	}
	defer secrets.Wipe()
	if err := v.openStores(ctx, cfg, secrets); err != nil {
		return v, err
	}
	return v, v.openContent(ctx, cfg)
}

func (v *Volume) onClose(fn func(context.Context) error) { v.undo = append(v.undo, fn) }

// unwind undoes what was built, last first, and goes on past errors.
func (v *Volume) unwind(ctx context.Context) error {
	var errs []error
	for i := len(v.undo) - 1; i >= 0; i-- {
		errs = append(errs, v.undo[i](ctx))
	}
	v.undo = nil
	return errors.Join(errs...)
}

// Close makes everything durable and closes the volume, whose files nobody may have open any more.
func (v *Volume) Close(ctx context.Context) error { return v.unwind(ctx) }

func (v *Volume) takeLock(ctx context.Context, cfg OpenConfig) error {
	lock, err := lockVolume(ctx, cfg.Dir, func() error { return cfg.GiveUp(v.ID) })
	if err != nil {
		return err
	}
	v.onClose(func(context.Context) error { return lock.release() })
	if cfg.Copied == nil {
		return nil
	}
	if err := cfg.Copied(v.ID); err != nil {
		return fmt.Errorf("%w: a copy of %s: %w", ErrInUse, cfg.Dir, err)
	}
	return nil
}

// unlock has the volume key opened by the key manager, verifies the superblock with it and returns the keys that the superblock holds.
func (v *Volume) unlock(ctx context.Context, socket string, sb *superblock.Superblock, raw []byte) (*superblock.Secrets, error) {
	keys := client.New(socket, client.Options{})
	defer keys.Close()
	record, err := keys.GetVolume(ctx, keymgr.Caller{}, v.ID)
	if errors.Is(err, keymgr.ErrNotFound) {
		if _, ferr := findRecord(ctx, keys, v.Dir); ferr == nil { // it is the id that was changed
			return nil, notTheCopy(v.Dir)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("volume %s in the key store: %w", v.ID, err)
	}
	newer := laterRevision(sb, raw, record)
	if !newer && !bytes.Equal(raw, record.Superblock) {
		return nil, notTheCopy(v.Dir)
	}
	opener := newVolumeOpener(socket, v.ID, keys)
	defer opener.close()
	key, version, err := openVolumeKey(ctx, opener, sb, record)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	secrets, err := sb.Open(key)
	if err != nil {
		return nil, err
	}
	if err := v.enrol(socket, key); err != nil {
		secrets.Wipe()
		return nil, err
	}
	v.wraps.set(record, sb, version)
	if newer {
		record.Superblock, record.Wraps = raw, describeWraps(sb, record)
	}
	if newer || record.Path != v.Dir {
		record.Path = v.Dir
		if err := v.note(ctx, record, sb, version); err != nil {
			secrets.Wipe()
			return nil, err
		}
	}
	return secrets, nil
}

// enrol makes the volume's client, which proves to the key manager that it has opened the volume.
func (v *Volume) enrol(socket string, volumeKey *blockcrypt.Key) error {
	front, err := blockcrypt.FrontEndKey(volumeKey, v.ID)
	if err != nil {
		return err
	}
	kept, err := locked.FromBytes(front[:]) // it stays as long as the volume is open
	if err != nil {
		return fmt.Errorf("memory for a key: %w", err)
	}
	v.keys = client.New(socket, client.Options{Volume: v.ID, FrontEnd: (*blockcrypt.Key)(kept.Bytes()), Observe: v.observe})
	v.onClose(func(context.Context) error {
		defer kept.Close()
		return v.keys.Close()
	})
	return nil
}

// note tells the key store where the volume is now and what its superblock is: its copy is found by that, should the volume's be lost.
func (v *Volume) note(ctx context.Context, record keymgr.VolumeRecord, sb *superblock.Superblock, version uint32) error {
	if err := v.keys.PutVolume(ctx, keymgr.Caller{}, record); err != nil {
		return fmt.Errorf("record volume %s in the key store: %w", v.ID, err)
	}
	v.wraps.set(record, sb, version)
	return nil
}

func volumeContext(id blockcrypt.VolumeID) keymgr.Context {
	return keymgr.Context{"kmsfs:volume": id.String()}
}

// openStores opens objects, journal and rows, and lets recovery have its say.
func (v *Volume) openStores(ctx context.Context, cfg OpenConfig, secrets *superblock.Secrets) (err error) {
	if v.objects, err = object.Open(filepath.Join(v.Dir, objectsName), object.Options{OnFail: v.failed}); err != nil {
		return fmt.Errorf("open objects: %w", lost(err))
	}
	v.onClose(func(context.Context) error { return v.objects.Close() })
	if v.namer, err = blockcrypt.NewObjectNamer(secrets.Objects); err != nil {
		return err
	}
	if v.structure, err = meta.NewStructure(v.ID, secrets.Rows); err != nil {
		return err
	}
	recovery, err := meta.NewRecovery(v.ID, secrets.Rows)
	if err != nil {
		return err
	}
	if v.anchor, err = openAnchor(ctx, v.keys, v.ID, cfg.AcceptRestore, v.log); err != nil {
		return err
	}
	if cfg.MaxJournal == 0 && cfg.SegmentSize == 0 {
		if cfg.MaxJournal, err = journalFor(v.Dir); err != nil {
			return err
		}
	}
	opts := local.Options{
		Dir: v.Dir, Volume: v.ID, Key: secrets.Journal, Log: v.log, SegmentSize: cfg.SegmentSize, MaxJournal: cfg.MaxJournal, Ballast: cfg.Ballast, Export: true,
	}
	if cfg.before != nil {
		if err := cfg.before(ctx, opts, v.anchor); err != nil {
			return err
		}
	}
	opts.Settler, opts.Replay, opts.Head = content.NewSettler(v.objects, v.namer), replayInto(recovery), v.anchor.expected()
	if v.kv, err = local.Open(ctx, opts); err != nil {
		return rebuildable(v.Dir, fmt.Errorf("open metadata: %w", lost(err)))
	}
	v.kv.Unswept(!v.kv.Stats().Recovery.Clean) // until a sweep has come to its end
	v.onClose(v.closeKV)
	v.ring = keyring.New(keyring.Config{Volume: v.ID, Keys: v.keys, Zone: v.zone, Place: v.place, TTL: cfg.KeyTTL, ZoneTTL: v.keyTTL, Log: v.log})
	v.onClose(func(context.Context) error { v.ring.Close(); return nil })
	if v.meta, err = meta.Open(meta.Config{KV: v.kv, Volume: v.ID, RowsKey: secrets.Rows, Keys: v.ring, Now: fs.Now}); err != nil {
		return err
	}
	if v.Recovery, err = recovery.Finish(ctx, v.meta, content.Verifier(v.objects, v.namer)); err != nil {
		return rebuildable(v.Dir, fmt.Errorf("recover volume: %w", err))
	}
	if err := v.anchor.opened(ctx, v.kv); err != nil {
		return err
	}
	if err := v.openAudit(ctx, cfg); err != nil {
		return err
	}
	err = v.openGuard(ctx, cfg.AuditLevel)
	if cfg.checking && ClassOf(err) == ClassDamaged { // the check says so, row by row
		v.guard, err = nil, nil
	}
	return err
}

// failed makes the rows read-only when the objects have become so: what is written from now on would point to what is not there.
func (v *Volume) failed(cause error) {
	if v.kv != nil {
		v.kv.Fail(cause)
	}
}

// replayInto hands the journal's records to recovery, each package in its own words.
func replayInto(recovery *meta.Recovery) func(local.Record) error {
	return func(r local.Record) error {
		puts := func(yield func(key, value []byte) bool) {
			for _, p := range r.Puts {
				if !yield(p.Key, p.Value) {
					return
				}
			}
		}
		return recovery.Replay(puts, r.Deletes, r.Before)
	}
}

// zone reads a zone's row for the keyring, which is built before the metadata store that uses it. The keys of a locked zone are not opened.
func (v *Volume) zone(ctx context.Context, id meta.ZoneID) (*meta.Zone, error) {
	z, err := v.meta.Zone(ctx, id)
	if err == nil && z.Locked() {
		return nil, fmt.Errorf("zone %d is locked: %w", id, meta.ErrKeyRevoked)
	}
	return z, err
}

// place is where a zone's directory is, for the keyring.
func (v *Volume) place(ctx context.Context, z *meta.Zone) (meta.Ino, string, error) {
	return v.meta.ZonePlace(ctx, z)
}

// syncNames makes all names and attributes durable: what fsync(2) of a directory needs. What was written to files directly is left alone.
func (v *Volume) syncNames(ctx context.Context) error { return v.kv.Sync(ctx, v.meta.LastRev()) }

func (v *Volume) closeKV(ctx context.Context) error {
	if err := v.kv.Close(); err != nil {
		return fmt.Errorf("close metadata: %w", err)
	}
	return v.anchor.closed(ctx, v.kv)
}

func (v *Volume) openContent(ctx context.Context, cfg OpenConfig) (err error) {
	if _, err := v.meta.Zone(ctx, meta.RootZone); err != nil {
		return rebuildable(v.Dir, fmt.Errorf("read the root zone: %w", lost(err)))
	}
	v.content, err = content.New(content.Config{
		Meta: v.meta, Keys: v.ring, KV: &anchoredJournal{v.kv, v.anchor}, Objects: v.objects, Namer: v.namer,
		ReadOnly: cfg.ReadOnly, Log: v.log,
	})
	if err != nil {
		return err
	}
	v.onClose(v.content.Close)
	return nil
}
