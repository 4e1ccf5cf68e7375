package mount

import (
	"context"
	"errors"
	"fmt"

	"github.com/kmsfs/kmsfs/keymgr/client"
	"github.com/kmsfs/kmsfs/meta"
)

// checkOffline opens the volume here, without mounting it, and checks it. Opening puts right what a crash left, as a mount does.
func checkOffline(ctx context.Context, cfg CheckConfig, report func(Fault) error) (sum CheckSummary, err error) {
	restored := 0
	err = offline(ctx, cfg.Target, cfg.KeyStore, cfg.Secret, func(at offlineVolume) error {
		if cfg.Repair {
			if restored, err = repairSuperblock(ctx, at.store, at.dir, report); err != nil {
				return err
			}
		}
		sum, err = checkHere(ctx, at, cfg, report)
		return err
	})
	sum.Faults += restored
	sum.Repairs += restored
	return sum, err
}

func checkHere(ctx context.Context, at offlineVolume, cfg CheckConfig, report func(Fault) error) (sum CheckSummary, err error) {
	open := at.config(ctx)
	open.checking = true
	v, err := OpenVolume(ctx, open)
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
	mode := checkMode{repair: unsettled == nil && (cfg.Repair || !v.kv.Stats().Recovery.Clean), aside: cfg.Repair}
	sum, err = v.check(ctx, mode, report, cfg.progress)
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
	reportViolation(ctx, keys, client.Violation{Path: dir, Code: "Damaged", Message: "kmsfs.json " + wrong}, nil)
	return 1, report(Fault{Where: "kmsfs.json", What: wrong, Fixed: true})
}
