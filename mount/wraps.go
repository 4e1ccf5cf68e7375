package mount

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/client"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/mount/superblock"
)

// volumeWraps is what is known of how a volume's key is wrapped; a rewrap changes it.
type volumeWraps struct {
	rewrapping sync.Mutex // held by the one rewrap at a time

	mu struct {
		sync.Mutex
		record     keymgr.VolumeRecord
		superblock *superblock.Superblock
		version    uint32       // of the CMK that opened the volume key
		running    *rewrapState // nil: keys are not being wrapped anew
	}
}

// rewrapState is how far a rewrap is.
type rewrapState struct {
	by          keymgr.Caller
	inode       uint64 // of a directory; 0: all of the volume
	began       time.Time
	total, done uint64 // keys
}

func (w *volumeWraps) begin(by keymgr.Caller, inode uint64, keys int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.running = &rewrapState{by: by, inode: inode, began: time.Now(), total: uint64(keys)}
}

func (w *volumeWraps) step() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.running.done++
}

func (w *volumeWraps) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.running = nil
}

// running returns how far the rewrap is that runs, if one does.
func (w *volumeWraps) running() (rewrapState, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.running == nil {
		return rewrapState{}, false
	}
	return *w.mu.running, true
}

func (w *volumeWraps) set(record keymgr.VolumeRecord, sb *superblock.Superblock, version uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.record, w.mu.superblock, w.mu.version = record, sb, version
}

func (w *volumeWraps) get() (keymgr.VolumeRecord, *superblock.Superblock, uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.record, w.mu.superblock, w.mu.version
}

// laterRevision reports whether a superblock that is not the key store's copy claims to be a later revision of it: one that a rewrap wrote and did not come to record, or
// that it recorded in another key store. Its MAC says whether that is so.
func laterRevision(sb *superblock.Superblock, raw []byte, record keymgr.VolumeRecord) bool {
	if bytes.Equal(raw, record.Superblock) {
		return false
	}
	known, err := superblock.Parse(record.Superblock)
	return err == nil && sb.Follows(known)
}

// wrapKey returns the ARN of the key of the record that made a blob; "" if it is none of them.
func wrapKey(record keymgr.VolumeRecord, blob []byte) string {
	if len(record.Wraps) == 0 {
		return record.CMK
	}
	material, err := keymgr.MaterialOf(blob)
	if err != nil {
		return ""
	}
	for _, w := range record.Wraps {
		if w.Material == material {
			return w.Key
		}
	}
	return ""
}

// describeWraps says of each wrap in the superblock which key of the record made it.
func describeWraps(sb *superblock.Superblock, record keymgr.VolumeRecord) []keymgr.Wrap {
	var out []keymgr.Wrap
	for _, blob := range sb.Wraps {
		material, _ := keymgr.MaterialOf(blob) // "" stands for what is no blob
		out = append(out, keymgr.Wrap{Key: wrapKey(record, blob), Material: material})
	}
	return out
}

// volumeOpener is by which connections a volume key is opened: under a key that the service manages it takes a front end's, before anything can be proved.
type volumeOpener struct {
	direct *client.Client
	front  *client.Client // nil: direct is a front end's
}

func newVolumeOpener(socket string, id blockcrypt.VolumeID, direct *client.Client) volumeOpener {
	return volumeOpener{direct: direct, front: client.New(socket, client.Options{Volume: id, FrontEndRight: true})}
}

func (o volumeOpener) close() {
	if o.front != nil {
		_ = o.front.Close()
	}
}

// forKey is the connection for a wrap under the key.
func (o volumeOpener) forKey(ctx context.Context, arn string) *client.Client {
	if o.front == nil {
		return o.direct
	}
	if key, err := o.direct.DescribeKey(ctx, keymgr.Caller{}, arn); err == nil && key.Manager == keymgr.ManagedByService {
		return o.front
	}
	return o.direct
}

// openVolumeKey tries the wraps in order. Only keys that the key store knows for the volume count: the file is the attacker's to write.
func openVolumeKey(ctx context.Context, keys volumeOpener, sb *superblock.Superblock, record keymgr.VolumeRecord) (*blockcrypt.Key, uint32, error) {
	var errs []error
	foreign := fmt.Errorf("open the key of volume %s: %w: %w", sb.Volume, keymgr.ErrNotFound, errForeign)
	for _, blob := range sb.Wraps {
		arn := wrapKey(record, blob)
		if arn == "" {
			continue
		}
		out, err := keys.forKey(ctx, arn).Decrypt(ctx, keymgr.Caller{}, keymgr.DecryptInput{Blob: blob, Context: volumeContext(sb.Volume), KeyID: arn})
		if errors.Is(err, keymgr.ErrNotFound) {
			continue // of another key store, or deleted
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("open the key of volume %s: %w", sb.Volume, err))
			continue
		}
		key, err := blockcrypt.KeyFromBytes(out.Plaintext)
		clear(out.Plaintext)
		if err != nil {
			errs = append(errs, fmt.Errorf("open the key of volume %s: %w: %w", sb.Volume, ErrDamaged, err))
			continue
		}
		return key, out.Version, nil
	}
	if len(errs) == 0 {
		return nil, 0, foreign
	}
	return nil, 0, errors.Join(errs...)
}

// WrapStatus is one wrap of a key, for people.
type WrapStatus struct {
	Key     string `json:"key"`               // ARN; "" if this key store does not know it
	Version uint32 `json:"version,omitempty"` // of the key; 0 if it is not known
	State   string `json:"state"`             // the key's, or why it is not known
}

// volumeWrapStatus describes the wraps of the volume key.
func (v *Volume) volumeWrapStatus(ctx context.Context) []WrapStatus {
	record, sb, _ := v.wraps.get()
	var out []WrapStatus
	for _, blob := range sb.Wraps {
		out = append(out, describeWrap(ctx, v.keys, wrapKey(record, blob), blob))
	}
	return out
}

// zoneWrapStatus describes the wraps of a zone's key, and of the one before if it is there still.
func (v *Volume) zoneWrapStatus(ctx context.Context, z *meta.Zone) []WrapStatus {
	var out []WrapStatus
	for _, w := range z.Wraps {
		out = append(out, describeWrap(ctx, v.keys, w.KeyID, w.Blob))
	}
	if z.Former == nil {
		return out
	}
	for _, w := range z.Former.Wraps {
		out = append(out, describeWrap(ctx, v.keys, w.KeyID, w.Blob))
	}
	return out
}

// describeWrap asks the key manager for the key's state and which of its versions the blob names.
func describeWrap(ctx context.Context, keys *client.Client, arn string, blob []byte) WrapStatus {
	st := WrapStatus{Key: arn, State: "its key is in another key store"}
	if arn == "" {
		return st
	}
	key, err := keys.DescribeKey(ctx, keymgr.Caller{}, arn)
	if errors.Is(err, keymgr.ErrNotFound) {
		return st
	}
	if err != nil {
		st.State = err.Error()
		return st
	}
	st.State = key.State
	material, _ := keymgr.MaterialOf(blob)
	for _, version := range key.Versions {
		if version.MaterialID == material {
			st.Version = version.Number
		}
	}
	return st
}
