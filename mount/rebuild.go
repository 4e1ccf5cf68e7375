package mount

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr/keystore"
	"github.com/kmsfs/kmsfs/meta/kv/local"
)

// RebuildConfig says which volume's metadata is made anew.
type RebuildConfig struct {
	Volume   string
	KeyStore string
	Secret   SecretSource

	// AcceptLoss takes the last export where nothing newer can be had; that is recorded as a restore.
	AcceptLoss bool
}

// RebuildResult says what a rebuild has brought back.
type RebuildResult struct {
	Volume   string `json:"volume"`
	ID       string `json:"volume_id"`
	Rows     uint64 `json:"rows"`           // that the export had
	Exported uint64 `json:"exported"`       // record up to which it goes
	Replayed int    `json:"replayed"`       // records of the journal that followed
	Records  uint64 `json:"records"`        // the last one now
	Lost     string `json:"lost,omitempty"` // why what came after the export is lost
	Damaged  string `json:"damaged,omitempty"`
}

// Rebuild makes the metadata of a volume that nobody has open anew, from its export and the journal, and opens the volume once to see that it is whole.
// What cannot be brought back to the state that the key store knows is refused, unless losses are accepted. Errors: ErrInUse, kv.ErrCorrupt,
// kv.ErrRollback, and those of OpenVolume.
func Rebuild(ctx context.Context, cfg RebuildConfig, progress func(Progress)) (res RebuildResult, err error) {
	err = offline(ctx, cfg.Volume, cfg.KeyStore, cfg.Secret, func(at offlineVolume) error {
		res, err = rebuildHere(ctx, at, cfg.AcceptLoss, progress)
		return err
	})
	return res, err
}

// offlineVolume is where a volume that is not mounted, and its keys, are found.
type offlineVolume struct {
	dir, store string
	run        runDir
}

// config is how such a volume is opened.
func (at offlineVolume) config(ctx context.Context) OpenConfig {
	busy := func(id blockcrypt.VolumeID) error { return at.run.whyBusy(ctx, id.String()) }
	return OpenConfig{Dir: at.dir, Socket: socketOf(at.store), Log: slog.New(slog.DiscardHandler), GiveUp: busy, Copied: busy}
}

// offline calls do with a key daemon running, which it ends if it has started it.
func offline(ctx context.Context, volume, keyStore string, secret SecretSource, do func(offlineVolume) error) (err error) {
	at := offlineVolume{}
	if at.dir, err = resolve(volume); err != nil {
		return fmt.Errorf("%w: %w", ErrNotVolume, err)
	}
	if at.store, err = keyStoreDir(keyStore); err != nil {
		return err
	}
	if _, err := keystore.Load(at.store); errors.Is(err, keystore.ErrNone) {
		return noKeyStoreFor(at.dir, at.store)
	}
	if err := secret.absolute(); err != nil {
		return err
	}
	if at.run, err = openRuntime(); err != nil {
		return err
	}
	started, err := startKeyd(ctx, at.store, &secret)
	if err != nil {
		return err
	}
	if started { // what a command started, the command ends
		defer func() { err = errors.Join(err, stopKeyd(context.WithoutCancel(ctx), at.store)) }()
	}
	return do(at)
}

func rebuildHere(ctx context.Context, at offlineVolume, acceptLoss bool, progress func(Progress)) (res RebuildResult, err error) {
	res.Volume = at.dir
	cfg := at.config(ctx)
	cfg.before = func(ctx context.Context, opts local.Options, anchor *anchorer) error {
		opts.Head = anchor.expected()
		rep, err := local.Rebuild(ctx, opts, local.RebuildOptions{AcceptLoss: acceptLoss, Progress: func(rows uint64) {
			progress(Progress{Step: "rows", Done: rows})
		}})
		if err != nil {
			return err
		}
		res.Rows, res.Exported, res.Replayed, res.Records, res.Damaged = rep.Rows, rep.Exported, rep.Replayed, rep.Sequence, rep.Damaged
		if rep.Lost != nil {
			res.Lost = rep.Lost.Error()
			anchor.restore = "rebuilt with --accept-loss"
		}
		return nil
	}
	v, err := OpenVolume(ctx, cfg)
	if err != nil {
		return res, err
	}
	res.ID = v.ID.String()
	err = v.settle(ctx)
	return res, errors.Join(err, v.Close(context.WithoutCancel(ctx)))
}

// Progress is how far a long command is.
type Progress struct {
	Step  string `json:"step"` // what is counted
	Done  uint64 `json:"done"`
	Total uint64 `json:"total,omitempty"` // 0: not known
}
