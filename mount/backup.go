package mount

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/fs/object"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv/local"
	"github.com/kmsfs/kmsfs/mount/backup"
	"github.com/kmsfs/kmsfs/mount/control"
	"github.com/kmsfs/kmsfs/mount/superblock"
)

// BackupConfig says what is copied where.
type BackupConfig struct {
	Source   string // volume directory or mount point
	Target   string // directory of the backup
	KeyStore string
	Secret   SecretSource
}

// BackupResult says what a backup has copied, and how the backup of the key store stands without which it does not open.
type BackupResult struct {
	backup.Result
	KeyStore *KeyStoreBackup `json:"key_store_backup,omitempty"` // nil: not known
}

// Backup brings the backup in a directory up to a volume's state, or makes one there: by the daemon if the volume is mounted, otherwise by opening it
// here. Errors: backup's, and those of OpenVolume.
func Backup(ctx context.Context, cfg BackupConfig, progress func(Progress)) (res BackupResult, err error) {
	if cfg.Target, err = realPath(cfg.Target); err != nil {
		return res, err
	}
	r, err := openRuntime()
	if err != nil {
		return res, err
	}
	if rec, ok := r.serving(cfg.Source); ok {
		if err := separate(cfg.Target, rec.Volume, rec.MountPoint); err != nil {
			return res, err
		}
		err := control.Do(ctx, r.socket(rec.ID), opBackup, backupArgs{cfg.Target}, progressEvents(progress), &res)
		return res, err
	}
	err = offline(ctx, cfg.Source, cfg.KeyStore, cfg.Secret, func(at offlineVolume) error {
		if err := separate(cfg.Target, at.dir); err != nil {
			return err
		}
		v, err := OpenVolume(ctx, at.config(ctx))
		if err != nil {
			return err
		}
		res, err = v.backup(ctx, cfg.Target, progress)
		return errors.Join(err, v.Close(context.WithoutCancel(ctx)))
	})
	return res, err
}

// separate refuses a backup in the volume or its mount, and the reverse.
func separate(target string, places ...string) error {
	for _, place := range places {
		if within(target, place) || within(place, target) {
			return fmt.Errorf("%w: the backup %s and %s lie within each other", ErrUsage, target, place)
		}
	}
	return nil
}

func progressEvents(progress func(Progress)) func(json.RawMessage) error {
	return func(event json.RawMessage) error {
		var p Progress
		if err := json.Unmarshal(event, &p); err != nil {
			return fmt.Errorf("%w: %v", control.ErrProtocol, err)
		}
		progress(p)
		return nil
	}
}

// backup copies an open volume.
func (v *Volume) backup(ctx context.Context, target string, progress func(Progress)) (BackupResult, error) {
	_, raw, err := superblock.Read(v.Dir)
	if err != nil {
		return BackupResult{}, err
	}
	src := backup.Source{
		Volume: v.ID, Superblock: raw, Store: v.kv, Contents: v.content, Objects: v.objects, Namer: v.namer, Structure: v.structure,
	}
	res, err := backup.Run(ctx, src, target, func(bytes uint64) { progress(Progress{Step: "bytes copied", Done: bytes}) })
	return BackupResult{res, v.askBackup(ctx)}, err
}

type backupArgs struct {
	Target string `json:"target"`
}

func (d *daemon) handleBackup(ctx context.Context, call *control.Call) (any, error) {
	var args backupArgs
	if err := call.Args(&args); err != nil {
		return nil, err
	}
	if !filepath.IsAbs(args.Target) {
		return nil, fmt.Errorf("%w: target %q", ErrUsage, args.Target)
	}
	if err := separate(args.Target, d.volume.Dir, d.server.MountPoint(), d.cfg.KeyStore); err != nil {
		return nil, err
	}
	if err := d.flush(); err != nil {
		return nil, err
	}
	told := throttle{}
	return d.volume.backup(ctx, args.Target, func(p Progress) {
		if told.due() {
			_ = call.Emit(p) // a client that has gone ends ctx
		}
	})
}

// RestoreConfig says which backup is unpacked where.
type RestoreConfig struct {
	Backup   string
	Volume   string // a new or empty directory
	KeyStore string
	Secret   SecretSource
}

// RestoreResult says what a restore has made.
type RestoreResult struct {
	Volume   string          `json:"volume"`
	ID       string          `json:"volume_id"`
	Run      uint64          `json:"run"`
	Sequence uint64          `json:"sequence"`
	Rows     uint64          `json:"rows"`
	Bytes    uint64          `json:"bytes"`
	Damaged  []backup.Damage `json:"damaged,omitempty"`

	// Older: the key store knows a later state, so a mount needs --accept-restore.
	Older bool `json:"older"`
}

// Restore makes a volume of a backup in a new or empty directory, compares every block of it with its row, and leaves the anchor as it is. Nothing is
// left when it fails, and what an interrupted one left is cleaned by the next. Errors: backup's, ErrNotEmpty, keymgr's.
func Restore(ctx context.Context, cfg RestoreConfig, progress func(Progress)) (res RestoreResult, err error) {
	m, err := backup.ReadManifest(cfg.Backup)
	if errors.Is(err, backup.ErrNotBackup) {
		return res, advise(err, "name the directory that kmsfs backup wrote")
	}
	if err != nil {
		return res, err
	}
	from, err := resolve(cfg.Backup)
	if err != nil {
		return res, err
	}
	to, err := realPath(cfg.Volume)
	if err != nil {
		return res, err
	}
	if err := separate(from, to); err != nil {
		return res, err
	}
	store, err := keyStoreDir(cfg.KeyStore)
	if err == nil {
		_, err = loadKeyStore(store)
	}
	if err != nil { // before anything is made
		return res, err
	}
	site, err := openSite(ctx, to)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, site.close(err == nil)) }()
	err = offline(ctx, site.dir, store, cfg.Secret, func(at offlineVolume) error {
		u := restorer{at: at, manifest: m, from: from, progress: progress}
		err := u.restore(ctx)
		res = u.res
		return err
	})
	return res, err
}

// restorer carries one restore through its steps.
type restorer struct {
	at       offlineVolume
	manifest *backup.Manifest
	from     string
	progress func(Progress)
	res      RestoreResult
}

func (u *restorer) restore(ctx context.Context) (err error) {
	v := &Volume{Dir: u.at.dir}
	defer func() { err = errors.Join(err, v.unwind(context.WithoutCancel(ctx))) }()
	raw, secrets, err := u.unlock(ctx, v)
	if err != nil {
		return err
	}
	defer secrets.Wipe()
	u.res.Volume, u.res.ID, u.res.Run = v.Dir, v.ID.String(), u.manifest.Run
	err = backup.Unpack(ctx, u.from, u.manifest, v.Dir, func(bytes uint64) {
		u.res.Bytes = bytes
		u.progress(Progress{Step: "bytes copied", Done: bytes})
	})
	if err != nil {
		return err
	}
	if err := u.rows(ctx, v, secrets); err != nil {
		return err
	}
	if u.res.Damaged, err = u.verify(ctx, v, secrets); err != nil {
		return err
	}
	return superblock.Write(v.Dir, raw)
}

// unlock opens the superblock: the key store's copy, which may have later wraps, or the backup's.
func (u *restorer) unlock(ctx context.Context, v *Volume) (raw []byte, secrets *superblock.Secrets, err error) {
	if v.ID, err = blockcrypt.ParseVolumeID(u.manifest.Volume); err != nil {
		return nil, nil, err
	}
	keys := dialKeys(u.at.store)
	defer keys.Close()
	if st, err := keys.Status(ctx); err == nil && slices.Contains(st.Volumes, v.ID.String()) {
		return nil, nil, advise(fmt.Errorf("%w: volume %s is mounted, and a restored one is the same volume", ErrInUse, v.ID), "kmsfs status shows where; unmount it first")
	}
	record, err := keys.GetVolume(ctx, keymgr.Caller{}, v.ID)
	if err != nil {
		return nil, nil, fmt.Errorf("volume %s in the key store: %w", v.ID, err)
	}
	raw = record.Superblock
	if len(raw) == 0 {
		raw = u.manifest.Superblock
	}
	sb, err := superblock.Parse(raw)
	if err != nil {
		return nil, nil, err
	}
	if sb.Volume != v.ID {
		return nil, nil, fmt.Errorf("%w: the superblock is of volume %s", backup.ErrDamaged, sb.Volume)
	}
	secrets, err = v.unlock(ctx, socketOf(u.at.store), sb, raw)
	return raw, secrets, err
}

// rows makes the metadata of the backup's rows, with a journal that goes on from them.
func (u *restorer) rows(ctx context.Context, v *Volume, secrets *superblock.Secrets) error {
	known, err := v.keys.Anchor(ctx, v.ID)
	if err != nil && !errors.Is(err, keymgr.ErrNotFound) {
		return err
	}
	rep, err := local.Rebuild(ctx, local.Options{Dir: v.Dir, Volume: v.ID, Key: secrets.Journal}, local.RebuildOptions{
		AcceptLoss: true, Progress: func(rows uint64) { u.progress(Progress{Step: "rows", Done: rows}) },
	})
	u.res.Rows, u.res.Sequence, u.res.Older = rep.Rows, rep.Sequence, rep.Sequence < known.Sequence
	return err
}

// verify compares every block with its row.
func (u *restorer) verify(ctx context.Context, v *Volume, secrets *superblock.Secrets) ([]backup.Damage, error) {
	structure, err := meta.NewStructure(v.ID, secrets.Rows)
	if err != nil {
		return nil, err
	}
	namer, err := blockcrypt.NewObjectNamer(secrets.Objects)
	if err != nil {
		return nil, err
	}
	objects, err := object.Open(filepath.Join(v.Dir, objectsName), object.Options{})
	if err != nil {
		return nil, err
	}
	defer objects.Close()
	c := backup.Checker{Structure: structure, Namer: namer, Objects: objects}
	return c.Check(ctx, v.Dir, u.manifest.Rows, secrets.Journal, v.ID)
}
