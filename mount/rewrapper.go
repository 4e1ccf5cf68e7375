package mount

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/client"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/mount/superblock"
)

// wrap is one wrap of a key: the ARN of its CMK, "" if it is not known, and the blob.
type wrap struct {
	key  string
	blob []byte
}

// rewrapper wraps keys of a volume anew.
type rewrapper struct {
	v    *Volume
	by   keymgr.Caller // whose rights count
	args rewrapArgs

	keys   *client.Client // key manager of target
	target string         // ARN of the CMK that is named; "": none
}

// rewrap does what args say to the keys of the volume, one after the other.
func (v *Volume) rewrap(ctx context.Context, by keymgr.Caller, args rewrapArgs, report func(Rewrapped) error) error {
	if !v.wraps.rewrapping.TryLock() {
		return fmt.Errorf("%w: keys of the volume are being wrapped anew already", ErrBusy)
	}
	defer v.wraps.rewrapping.Unlock()
	r := &rewrapper{v: v, by: by, args: args, keys: v.keys}
	if args.KeyStore != "" {
		r.keys = client.New(socketOf(args.KeyStore), client.Options{})
		defer r.keys.Close()
	}
	if name := args.To + args.Add + args.Remove; name != "" {
		key, err := r.keys.DescribeKey(ctx, keymgr.Caller{}, name)
		switch {
		case errors.Is(err, keymgr.ErrNotFound) && args.Remove != "" && strings.HasPrefix(name, "arn:"):
			key.ARN = name // of a key that is gone, or in a key store that is
		case err != nil:
			return fmt.Errorf("key %s: %w", name, err)
		}
		r.target = key.ARN
	}
	if err := r.check(ctx); err != nil {
		return err
	}
	zones, err := r.zones(ctx)
	if err != nil {
		return err
	}
	keys := len(zones)
	if args.Inode == 0 {
		keys++
	}
	v.wraps.begin(by, args.Inode, keys)
	defer v.wraps.end()
	told := report
	report = func(one Rewrapped) error {
		v.wraps.step()
		return told(one)
	}
	for _, id := range zones {
		if err := r.zone(ctx, id, report); err != nil {
			return fmt.Errorf("zone %d: %w", id, err)
		}
	}
	if args.Inode == 0 { // last: whatever opens the volume key opens its zones by then
		if err := r.volume(ctx, report); err != nil {
			return fmt.Errorf("volume key: %w", err)
		}
	}
	if err := v.content.Checkpoint(ctx); err != nil { // and with it the anchor: older wraps do not come back
		return fmt.Errorf("anchor the new wraps: %w", err)
	}
	return nil
}

// foreign says whether the key that is named is in another key store than the mount's.
func (r *rewrapper) foreign() bool { return r.keys != r.v.keys }

// check refuses a wrap that could not be used: a zone's under another key store that does not open the volume.
func (r *rewrapper) check(ctx context.Context) error {
	if !r.foreign() || r.args.Add == "" || r.args.Inode == 0 {
		return nil
	}
	_, err := r.keys.GetVolume(ctx, keymgr.Caller{}, r.v.ID)
	if errors.Is(err, keymgr.ErrNotFound) {
		return fmt.Errorf("%w: key store %s does not know the volume yet: add the key to all of it first", ErrUsage, r.args.KeyStore)
	}
	return err
}

// zones lists the zones that are meant.
func (r *rewrapper) zones(ctx context.Context) (ids []meta.ZoneID, err error) {
	if r.args.Inode != 0 {
		a, err := r.v.meta.Getattr(ctx, meta.Ino(r.args.Inode))
		if err != nil {
			return nil, fmt.Errorf("inode %d: %w", r.args.Inode, err)
		}
		return []meta.ZoneID{a.Zone}, nil
	}
	err = r.v.meta.Zones(ctx, func(z *meta.Zone) bool {
		ids = append(ids, z.ID)
		return true
	})
	return ids, err
}

// rewrapTries bounds how often a zone is begun anew because it was moved or changed meanwhile.
const rewrapTries = 5

// errMoved: the zone has other wraps than those that were read.
var errMoved = errors.New("the zone was changed meanwhile")

func (r *rewrapper) zone(ctx context.Context, id meta.ZoneID, report func(Rewrapped) error) (err error) {
	for range rewrapTries {
		var out Rewrapped
		if out, err = r.zoneOnce(ctx, id); err == nil {
			return report(out)
		}
		if errors.Is(err, meta.ErrNotFound) { // dissolved
			return nil
		}
		if !errors.Is(err, errMoved) {
			return err
		}
	}
	return err
}

func (r *rewrapper) zoneOnce(ctx context.Context, id meta.ZoneID) (out Rewrapped, err error) {
	z, err := r.v.meta.Zone(ctx, id)
	if err != nil {
		return out, err
	}
	if z.ByCMK() && r.target != "" {
		return r.stays(ctx, z)
	}
	parent, name, err := r.v.meta.ZonePlace(ctx, z)
	if err != nil {
		return out, err
	}
	encryptionContext := meta.ZoneContext(r.v.ID, id, parent, name)
	next, kept, err := r.zoneWraps(ctx, z.Wraps, encryptionContext)
	if err != nil {
		return out, err
	}
	var former []meta.ZoneWrap // of a key that is being replaced
	if z.Former != nil {
		var also []string
		if former, also, err = r.zoneWraps(ctx, z.Former.Wraps, encryptionContext); err != nil {
			return out, fmt.Errorf("former key: %w", err)
		}
		kept = append(kept, also...)
	}
	now, rev, err := r.v.meta.ChangeZone(ctx, id, nil, func(cur *meta.Zone) error {
		if !sameWraps(cur.Wraps, z.Wraps) || (cur.Former == nil) != (former == nil) {
			return errMoved
		}
		if cur.Wraps = next; former != nil {
			if !sameWraps(cur.Former.Wraps, z.Former.Wraps) {
				return errMoved
			}
			cur.Former = &meta.FormerKey{Wraps: former, Commitment: cur.Former.Commitment}
		}
		return nil
	})
	if err == nil {
		err = r.v.kv.Sync(ctx, rev)
	}
	if err != nil {
		return out, err
	}
	return Rewrapped{What: fmt.Sprintf("zone %d", id), Changed: !sameWraps(now.Wraps, z.Wraps), Wraps: r.v.zoneWrapStatus(ctx, now), Kept: kept}, nil
}

// stays is what becomes of a zone whose CMK wraps the keys of files itself where other CMKs are asked for: nothing.
func (r *rewrapper) stays(ctx context.Context, z *meta.Zone) (out Rewrapped, err error) {
	const why = "wrap: cmk: its key wraps the key of each file, and stays"
	if r.args.Inode != 0 {
		return out, advise(fmt.Errorf("%w: %s", ErrUsage, why), adviseKind+"; kmsfs reencrypt brings files under the newest version of the key")
	}
	return Rewrapped{What: fmt.Sprintf("zone %d", z.ID), Wraps: r.v.zoneWrapStatus(ctx, z), Kept: []string{why}}, nil
}

// zoneWraps does what is asked for to the wraps of one key of a zone.
func (r *rewrapper) zoneWraps(ctx context.Context, wraps []meta.ZoneWrap, encryptionContext keymgr.Context) (next []meta.ZoneWrap, kept []string, err error) {
	var old []wrap
	for _, w := range wraps {
		old = append(old, wrap{w.KeyID, w.Blob})
	}
	fresh, kept, err := r.rewrapped(ctx, old, encryptionContext)
	if err != nil {
		return nil, nil, err
	}
	for _, w := range fresh {
		next = append(next, meta.ZoneWrap{KeyID: w.key, Blob: w.blob})
	}
	return next, kept, nil
}

func sameWraps(a, b []meta.ZoneWrap) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].KeyID != b[i].KeyID || !bytes.Equal(a[i].Blob, b[i].Blob) {
			return false
		}
	}
	return true
}

// rewrapped makes the wraps that are to be out of those there are; kept says why some stayed as they were.
func (r *rewrapper) rewrapped(ctx context.Context, old []wrap, encryptionContext keymgr.Context) (fresh []wrap, kept []string, err error) {
	switch {
	case r.args.Remove != "":
		rest := without(old, r.target)
		if len(rest) == len(old) {
			return old, nil, nil
		}
		if fresh, kept, err = r.renewed(ctx, rest, encryptionContext); err != nil {
			return nil, nil, advise(fmt.Errorf("what is left would not open it: %w", err), "add a wrap under another key first: kmsfs rewrap --add")
		}
		return fresh, kept, nil
	case r.target != "":
		made, err := r.under(ctx, r.target, old, encryptionContext)
		if err != nil {
			return nil, nil, err
		}
		if r.args.To != "" {
			return []wrap{made}, nil, nil
		}
		fresh = append(without(old, r.target), made)
		if len(fresh) > superblock.MaxWraps {
			return nil, nil, fmt.Errorf("%w: there are %d wraps already; remove one first", ErrUsage, len(old))
		}
		return fresh, nil, nil
	default:
		return r.renewed(ctx, old, encryptionContext)
	}
}

func without(all []wrap, key string) (rest []wrap) {
	for _, w := range all {
		if w.key != key {
			rest = append(rest, w)
		}
	}
	return rest
}

// renewed makes each wrap anew under the newest version of its own key. What is in another key store stays; an error if none could be made anew: then none of them is known to open.
func (r *rewrapper) renewed(ctx context.Context, old []wrap, encryptionContext keymgr.Context) (fresh []wrap, kept []string, err error) {
	errs := []error{}
	for _, w := range old {
		made, err := r.reEncrypt(ctx, w, w.key, encryptionContext)
		switch {
		case err == nil:
			fresh = append(fresh, made)
			continue
		case errors.Is(err, keymgr.ErrNotFound) || w.key == "":
			err = errors.New("its key is in another key store, or gone")
		case errors.Is(err, keymgr.ErrKeyUnavailable):
			return nil, nil, err // it may pass
		}
		errs = append(errs, err)
		kept = append(kept, fmt.Sprintf("wrap under %s: %v", w.key, err))
		fresh = append(fresh, w)
	}
	if len(errs) == len(old) {
		return nil, nil, errors.Join(append(errs, errors.New("no wrap opens in this key store"))...)
	}
	return fresh, kept, nil
}

// under makes a wrap under the key out of the first that opens.
func (r *rewrapper) under(ctx context.Context, key string, old []wrap, encryptionContext keymgr.Context) (wrap, error) {
	var errs []error
	for _, w := range old {
		if w.key == "" {
			continue
		}
		move := r.reEncrypt
		if r.foreign() {
			move = r.carry
		}
		made, err := move(ctx, w, key, encryptionContext)
		if err == nil {
			return made, nil
		}
		errs = append(errs, err)
	}
	return wrap{}, errors.Join(errs...)
}

// reEncrypt makes a wrap under another key of the mount's key store; the key that it wraps is not seen.
func (r *rewrapper) reEncrypt(ctx context.Context, w wrap, key string, encryptionContext keymgr.Context) (wrap, error) {
	out, err := r.v.keys.ReEncrypt(ctx, r.by, keymgr.ReEncryptInput{
		Blob: w.blob, SourceKeyID: w.key, SourceContext: encryptionContext, DestinationKeyID: key, DestinationContext: encryptionContext,
	})
	return wrap{out.KeyID, out.Blob}, err
}

// carry makes a wrap under a key of another key store: the key is opened here, by the right to Decrypt, and wrapped there in the daemon's own name.
func (r *rewrapper) carry(ctx context.Context, w wrap, key string, encryptionContext keymgr.Context) (wrap, error) {
	plain, err := r.v.keys.Decrypt(ctx, r.by, keymgr.DecryptInput{Blob: w.blob, KeyID: w.key, Context: encryptionContext})
	defer clear(plain.Plaintext)
	if err != nil {
		return wrap{}, err
	}
	out, err := r.keys.Encrypt(ctx, keymgr.Caller{}, keymgr.EncryptInput{KeyID: key, Plaintext: plain.Plaintext, Context: encryptionContext})
	return wrap{out.KeyID, out.Blob}, err
}

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
