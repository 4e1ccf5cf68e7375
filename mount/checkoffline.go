package mount

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta"
)

// checkOffline opens the volume here, without mounting it, and checks it. Opening puts right what a crash left, as a mount does.
func checkOffline(ctx context.Context, cfg CheckConfig, report func(Fault) error) (sum CheckSummary, err error) {
	dir, err := resolve(cfg.Target)
	if err != nil {
		return sum, fmt.Errorf("%w: %w", ErrNotVolume, err)
	}
	store, err := keyStoreDir(cfg.KeyStore)
	if err != nil {
		return sum, err
	}
	if err := cfg.Secret.absolute(); err != nil {
		return sum, err
	}
	started, err := startKeyd(ctx, store, &cfg.Secret)
	if err != nil {
		return sum, err
	}
	if started { // what the check started, the check ends
		defer func() { err = errors.Join(err, stopKeyd(context.WithoutCancel(ctx), store)) }()
	}
	restored := 0
	if cfg.Repair {
		if restored, err = repairSuperblock(ctx, store, dir, report); err != nil {
			return sum, err
		}
	}
	sum, err = checkHere(ctx, store, dir, cfg.Repair, report)
	sum.Faults += restored
	sum.Repairs += restored
	return sum, err
}

func checkHere(ctx context.Context, store, dir string, repair bool, report func(Fault) error) (sum CheckSummary, err error) {
	run, err := openRuntime()
	if err != nil {
		return sum, err
	}
	v, err := OpenVolume(ctx, OpenConfig{
		Dir: dir, Socket: socketOf(store), Log: slog.New(slog.DiscardHandler),
		GiveUp: func(id blockcrypt.VolumeID) error { return run.whyBusy(ctx, id.String()) },
		Copied: func(id blockcrypt.VolumeID) error { return run.whyBusy(ctx, id.String()) },
	})
	if err != nil {
		return sum, err
	}
	defer func() {
		closed := v.Close(context.WithoutCancel(ctx))
		if sum.Faults == 0 || ClassOf(closed) != ClassDamaged { // else it says again what was reported
			err = errors.Join(err, closed)
		}
	}()
	unsettled := v.settle(ctx)
	if unsettled != nil && ClassOf(unsettled) != ClassDamaged {
		return sum, unsettled
	}
	// What a crash has lost of space is given back, as a mount does in the background; in a volume that was closed it is a fault.
	sum, err = v.check(ctx, unsettled == nil && (repair || !v.kv.Stats().Recovery.Clean), report)
	if unsettled != nil && err == nil { // the check goes on past what a mount stops at
		sum.Faults++
		err = report(Fault{Where: "volume", What: unsettled.Error()})
	}
	return sum, err
}

// settle carries out what a mount would do first: release what was unlinked but open, checkpoint, destroy what the checkpoint lets go.
func (v *Volume) settle(ctx context.Context) error {
	if err := v.meta.Orphans(ctx, func(ino meta.Ino) error { return v.content.Unlinked(ctx, ino) }); err != nil {
		return fmt.Errorf("release what a crash left without a name: %w", err)
	}
	return v.content.Checkpoint(ctx)
}

// repairSuperblock puts the key store's copy of kmsfs.json back if it is not the same; it returns 1 if it was not.
func repairSuperblock(ctx context.Context, store, dir string, report func(Fault) error) (int, error) {
	lock, err := lockVolume(ctx, dir, func() error { return nil })
	if err != nil {
		return 0, err
	}
	defer lock.release()
	keys := dialKeys(store)
	defer keys.Close()
	wrong, err := restoreSuperblock(ctx, keys, dir)
	if err != nil || wrong == "" {
		return 0, err
	}
	return 1, report(Fault{Where: "kmsfs.json", What: wrong, Fixed: true})
}
