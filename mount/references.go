package mount

import (
	"context"
	"fmt"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/mount/control"
)

// References counts what a volume has wrapped by one version of a CMK.
type References struct {
	VolumeKey bool   `json:"volume_key"`
	Zones     uint64 `json:"zones"`     // with a wrap of their key, or of the key before it
	DataKeys  uint64 `json:"data_keys"` // of files, where the policy says wrap: cmk
	First     string `json:"first,omitempty"`
}

// None tells that there is nothing.
func (r References) None() bool { return !r.VolumeKey && r.Zones == 0 && r.DataKeys == 0 }

type referencesArgs struct {
	Material string `json:"material"` // of the version
}

func (d *daemon) handleReferences(ctx context.Context, call *control.Call) (any, error) {
	var args referencesArgs
	if err := call.Args(&args); err != nil {
		return nil, err
	}
	return d.volume.references(ctx, args.Material)
}

// references counts by what each blob says itself, without the key manager. Where it finds none, that is durable on return: no crash brings one back, and whoever was given a blob before
// has put it where it is found. ErrBusy while keys are being wrapped anew.
func (v *Volume) references(ctx context.Context, material string) (r References, err error) {
	if !v.wraps.rewrapping.TryLock() {
		return r, fmt.Errorf("%w: keys of the volume are being wrapped anew", ErrBusy)
	}
	defer v.wraps.rewrapping.Unlock()
	if err := v.meta.Quiesce(ctx); err != nil {
		return r, err
	}
	by := func(blob []byte) bool {
		of, err := keymgr.MaterialOf(blob)
		return err == nil && of == material
	}
	_, sb, _ := v.wraps.get()
	for _, blob := range sb.Wraps {
		r.VolumeKey = r.VolumeKey || by(blob)
	}
	err = v.meta.Zones(ctx, func(z *meta.Zone) bool {
		wraps := z.Wraps
		if z.Former != nil {
			wraps = append(wraps[:len(wraps):len(wraps)], z.Former.Wraps...)
		}
		for _, w := range wraps {
			if by(w.Blob) {
				r.Zones++
				r.first(fmt.Sprintf("zone %d, %s", z.ID, v.pathOr(ctx, z.Dir)))
				break
			}
		}
		return true
	})
	if err == nil {
		err = v.referencesOfFiles(ctx, by, &r)
	}
	if err == nil && r.None() {
		err = v.content.Checkpoint(ctx)
	}
	return r, err
}

func (r *References) first(what string) {
	if r.First == "" {
		r.First = what
	}
}

// referencesOfFiles counts data keys that a CMK has wrapped itself.
func (v *Volume) referencesOfFiles(ctx context.Context, by func([]byte) bool, r *References) error {
	c := &counter{v: v}
	return c.each(ctx, func(_ *meta.Tx, a *meta.Attr) error {
		for i := range a.Wraps {
			if w := &a.Wraps[i]; w.ByCMK() && by([]byte(w.Blob)) {
				r.DataKeys++
				r.first(fmt.Sprintf("inode %d", a.Ino))
			}
		}
		return nil
	})
}
