package mount

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/client"
	"github.com/kmsfs/kmsfs/mount/superblock"
)

// volume wraps the volume key anew: the key store learns by which keys, then the next revision of kmsfs.json is written, then the key store's copy, and last the other key store's.
func (r *rewrapper) volume(ctx context.Context, report func(Rewrapped) error) error {
	record, sb, _ := r.v.wraps.get()
	key, version, err := openVolumeKey(ctx, volumeOpener{direct: r.v.keys}, sb, record)
	if err != nil {
		return err
	}
	defer key.Wipe()
	var old []wrap
	for _, blob := range sb.Wraps {
		w := wrap{wrapKey(record, blob), blob}
		if w.key == "" && r.foreign() { // it may be the other key store's
			w.key, err = r.foreignKey(ctx, blob)
		}
		if err != nil {
			return err
		}
		old = append(old, w)
	}
	fresh, kept, err := r.rewrapped(ctx, old, volumeContext(r.v.ID))
	if err != nil {
		return err
	}
	changed := !slices.EqualFunc(fresh, old, func(a, b wrap) bool { return bytes.Equal(a.blob, b.blob) })
	if changed {
		if err := r.writeVolume(ctx, key, record, sb, fresh, version); err != nil {
			return err
		}
	}
	return report(Rewrapped{What: "volume key", Changed: changed, Wraps: r.v.volumeWrapStatus(ctx), Kept: kept})
}

// foreignKey returns the ARN of the target if it made the blob.
func (r *rewrapper) foreignKey(ctx context.Context, blob []byte) (string, error) {
	if st := describeWrap(ctx, r.keys, r.target, blob); st.Version != 0 {
		return r.target, nil
	}
	return "", nil
}

// nextSuperblock is a superblock with other wraps, and what the key store is to know of it.
type nextSuperblock struct {
	sb     *superblock.Superblock
	raw    []byte
	blobs  [][]byte
	record keymgr.VolumeRecord
}

func prepareSuperblock(key *blockcrypt.Key, record keymgr.VolumeRecord, sb *superblock.Superblock, fresh []wrap) (n nextSuperblock, err error) {
	n.record = record
	n.record.Wraps = nil
	for _, w := range fresh {
		material, err := keymgr.MaterialOf(w.blob)
		if err != nil {
			return n, err
		}
		n.blobs, n.record.Wraps = append(n.blobs, w.blob), append(n.record.Wraps, keymgr.Wrap{Key: w.key, Material: material})
	}
	if n.sb, err = sb.WithWraps(key, n.blobs); err != nil {
		return n, err
	}
	n.raw, err = n.sb.Marshal()
	n.record.Superblock = n.raw
	return n, err
}

// announce tells the key store which keys made the wraps of the superblock that is about to be written, beside those of the present one: whichever of the two a crash leaves, it opens.
func (r *rewrapper) announce(ctx context.Context, record keymgr.VolumeRecord, sb *superblock.Superblock, n nextSuperblock) error {
	record.Wraps = append(describeWraps(sb, record), n.record.Wraps...)
	if err := r.v.keys.PutVolume(ctx, keymgr.Caller{}, record); err != nil {
		return fmt.Errorf("announce the wraps of volume %s to the key store: %w", r.v.ID, err)
	}
	return nil
}

func (r *rewrapper) writeVolume(ctx context.Context, key *blockcrypt.Key, record keymgr.VolumeRecord, sb *superblock.Superblock, fresh []wrap, version uint32) error {
	n, err := prepareSuperblock(key, record, sb, fresh)
	if err != nil {
		return err
	}
	if err := r.announce(ctx, record, sb, n); err != nil {
		return err
	}
	if err := superblock.Write(r.v.Dir, n.raw); err != nil {
		return err
	}
	n.record.CMK = r.primary(ctx, n.record)
	if err := r.v.note(ctx, n.record, n.sb, r.versionOf(ctx, n.record.CMK, n.blobs, version)); err != nil {
		return err
	}
	if r.foreign() && r.args.Add != "" {
		return r.introduce(ctx, key, n.record)
	}
	return nil
}

// primary is the key by which the volume goes: the one it has, or else the first that its key store knows.
func (r *rewrapper) primary(ctx context.Context, record keymgr.VolumeRecord) string {
	if any, _ := record.WrappedBy(record.CMK); any {
		return record.CMK
	}
	for _, w := range record.Wraps {
		if _, err := r.v.keys.DescribeKey(ctx, keymgr.Caller{}, w.Key); err == nil {
			return w.Key
		}
	}
	return record.CMK
}

// versionOf is the version of the key that made one of the blobs, or else what it was before.
func (r *rewrapper) versionOf(ctx context.Context, arn string, blobs [][]byte, before uint32) uint32 {
	for _, blob := range blobs {
		if st := describeWrap(ctx, r.v.keys, arn, blob); st.Version != 0 {
			return st.Version
		}
	}
	return before
}

// introduce makes the volume known to another key store, with where its journal stands now: that opens it from there, should this one be lost.
func (r *rewrapper) introduce(ctx context.Context, key *blockcrypt.Key, record keymgr.VolumeRecord) error {
	front, err := blockcrypt.FrontEndKey(key, r.v.ID)
	if err != nil {
		return err
	}
	defer front.Wipe()
	record.CMK, record.FrontEnd = r.target, front
	if err := r.keys.PutVolume(ctx, keymgr.Caller{}, record); err != nil {
		return fmt.Errorf("record volume %s in key store %s: %w", r.v.ID, r.args.KeyStore, err)
	}
	there := client.New(socketOf(r.args.KeyStore), client.Options{Volume: r.v.ID, FrontEnd: front})
	defer there.Close()
	if err := r.v.content.Checkpoint(ctx); err != nil {
		return err
	}
	if err := there.AdvanceAnchor(ctx, r.v.ID, anchorOf(r.v.kv.Head(), false)); err != nil {
		return fmt.Errorf("anchor volume %s in key store %s: %w", r.v.ID, r.args.KeyStore, err)
	}
	return nil
}
