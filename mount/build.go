package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/client"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv/local"
	"github.com/kmsfs/kmsfs/mount/superblock"
)

// builder makes the content of a volume directory.
type builder struct {
	keys    *client.Client
	socket  string
	dir     string
	managed bool        // under the service-managed key
	params  meta.Params // of the root zone

	id         blockcrypt.VolumeID
	cmk, alias string
	front      *client.Client // makes keys under the service-managed key
}

// build makes keys, stores and, last of all, the superblock. What it made in the key store is taken back when it fails.
func (b *builder) build(ctx context.Context) (err error) {
	if b.id, err = blockcrypt.NewVolumeID(); err != nil {
		return err
	}
	if err := b.key(ctx); err != nil {
		return err
	}
	if b.front != nil {
		defer b.front.Close()
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.takeBack(context.WithoutCancel(ctx)))
		}
	}()
	volumeKey, blob, err := b.dataKey(ctx, volumeContext(b.id))
	if err != nil {
		return err
	}
	defer volumeKey.Wipe()
	sb, err := superblock.New(b.id, volumeKey, [][]byte{blob}, time.Now())
	if err != nil {
		return err
	}
	raw, err := sb.Marshal()
	if err != nil {
		return err
	}
	secrets, err := sb.Open(volumeKey)
	if err != nil {
		return err
	}
	defer secrets.Wipe()
	head, err := b.stores(ctx, secrets)
	if err != nil {
		return err
	}
	front, err := blockcrypt.FrontEndKey(volumeKey, b.id)
	if err != nil {
		return err
	}
	defer front.Wipe()
	return b.register(ctx, raw, sb.Created, front, head)
}

// key makes the volume's CMK, or takes the service-managed one. That is used through a front end only: the volume is recorded already, without its place, so that it can have one.
func (b *builder) key(ctx context.Context) (err error) {
	if !b.managed {
		b.cmk, b.alias, err = createCMK(ctx, b.keys, b.dir)
		return err
	}
	key, err := b.keys.ManagedKey(ctx, keymgr.Caller{})
	if err != nil {
		return fmt.Errorf("service-managed key %s: %w", keymgr.ManagedAlias, err)
	}
	b.cmk, b.alias = key.ARN, keymgr.ManagedAlias
	if err := b.keys.PutVolume(ctx, keymgr.Caller{}, keymgr.VolumeRecord{ID: b.id, Name: filepath.Base(b.dir), CMK: b.cmk}); err != nil {
		return fmt.Errorf("register volume %s: %w", b.id, err)
	}
	b.front = client.New(b.socket, client.Options{Volume: b.id, FrontEndRight: true})
	return nil
}

// takeBack leaves an unused key behind that nobody can use by mistake: there is no deletion at once.
func (b *builder) takeBack(ctx context.Context) error {
	if b.managed {
		return nil
	}
	return errors.Join(b.keys.DeleteAlias(ctx, keymgr.Caller{}, b.alias), b.keys.DisableKey(ctx, keymgr.Caller{}, b.cmk))
}

// dataKey has a fresh 256-bit key made under the volume's CMK.
func (b *builder) dataKey(ctx context.Context, context keymgr.Context) (*blockcrypt.Key, []byte, error) {
	keys := b.keys
	if b.front != nil {
		keys = b.front
	}
	made, err := keys.GenerateDataKey(ctx, keymgr.Caller{}, keymgr.GenerateDataKeyInput{KeyID: b.cmk, Bytes: blockcrypt.KeySize, Context: context})
	if err != nil {
		return nil, nil, fmt.Errorf("generate a key under %s: %w", b.alias, err)
	}
	defer clear(made.Plaintext)
	key, err := blockcrypt.KeyFromBytes(made.Plaintext)
	if err != nil {
		return nil, nil, err
	}
	return key, made.Blob, nil
}

// stores makes objects and metadata with an empty root directory, and returns the head of the closed journal.
func (b *builder) stores(ctx context.Context, secrets *superblock.Secrets) (local.Head, error) {
	if err := os.Mkdir(filepath.Join(b.dir, objectsName), 0o700); err != nil {
		return local.Head{}, err
	}
	opts := local.Options{Dir: b.dir, Volume: b.id, Key: secrets.Journal, Export: true}
	if err := local.Create(ctx, opts); err != nil {
		return local.Head{}, err
	}
	store, err := local.Open(ctx, opts)
	if err != nil {
		return local.Head{}, err
	}
	err = b.root(ctx, store, secrets)
	err = errors.Join(err, store.Close())
	return store.Head(), err
}

// root makes the root directory, which belongs to whoever makes the volume, and its zone.
func (b *builder) root(ctx context.Context, store *local.Store, secrets *superblock.Secrets) error {
	zoneKey, blob, err := b.dataKey(ctx, meta.ZoneContext(b.id, meta.RootZone, 0, "/"))
	if err != nil {
		return err
	}
	defer zoneKey.Wipe()
	zone, err := meta.NewZone(b.id, meta.RootZone, meta.RootIno, zoneKey)
	if err != nil {
		return err
	}
	zone.Params = b.params
	zone.Wraps = []meta.ZoneWrap{{KeyID: b.cmk, Blob: blob}}
	mode := uint32(0o700)
	if os.Geteuid() == 0 { // root's mounts are for everybody, as a disk's are
		mode = 0o755
	}
	return meta.Format(ctx, meta.FormatConfig{
		KV: store, Volume: b.id, RowsKey: secrets.Rows, Zone: zone, Mode: mode, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()),
	})
}

// register makes the volume known to the key store and, with the superblock, to everybody.
func (b *builder) register(ctx context.Context, raw []byte, created time.Time, key *blockcrypt.Key, head local.Head) error {
	record := keymgr.VolumeRecord{ID: b.id, Name: filepath.Base(b.dir), Path: b.dir, CMK: b.cmk, Superblock: raw, Created: created, FrontEnd: key}
	if err := b.keys.PutVolume(ctx, keymgr.Caller{}, record); err != nil {
		return fmt.Errorf("register volume %s: %w", b.id, err)
	}
	front := client.New(b.socket, client.Options{Volume: b.id, FrontEnd: key})
	defer front.Close()
	if err := front.AdvanceAnchor(ctx, b.id, anchorOf(head, true)); err != nil {
		return fmt.Errorf("anchor volume %s: %w", b.id, err)
	}
	return superblock.Write(b.dir, raw)
}
