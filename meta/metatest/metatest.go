// Package metatest makes formatted metadata stores for tests: on a KV store in memory (or one of the test's), with random keys that a fake
// keyring hands out. It knows no key manager. A Keyring is safe for concurrent use.
package metatest

import (
	"context"
	"sync"
	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv"
	"github.com/kmsfs/kmsfs/meta/kv/memory"
)

// Keyring is a meta.Keyring over zone keys in memory. Tests make it fail with Fail.
type Keyring struct {
	mu   sync.Mutex
	keys map[meta.ZoneID]*meta.ZoneKeys
	err  error
}

// Zone implements meta.Keyring.
func (k *Keyring) Zone(_ context.Context, id meta.ZoneID) (*meta.ZoneKeys, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return nil, k.err
	}
	zk := k.keys[id]
	if zk == nil {
		return nil, meta.ErrNotFound
	}
	return zk, nil
}

// Add makes the keys of a zone known.
func (k *Keyring) Add(id meta.ZoneID, zk *meta.ZoneKeys) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys[id] = zk
}

// Fail makes every call return err, until Fail(nil). Handed-out keys become invalid with it.
func (k *Keyring) Fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = err
}

func (k *Keyring) valid() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.err
}

// Volume is a formatted volume's metadata and all its keys.
type Volume struct {
	*meta.Store
	KV      kv.Store
	ID      meta.VolumeID
	RowsKey *blockcrypt.Key
	ZoneKey *blockcrypt.Key // of the root zone
	Keyring *Keyring
}

// NewVolume formats a volume on a KV store in memory. Root belongs to 0:0, mode 0755.
func NewVolume(t testing.TB) *Volume {
	t.Helper()
	store := memory.New()
	t.Cleanup(func() { _ = store.Close() })
	return NewVolumeOn(t, store)
}

// NewVolumeOn formats a volume on an empty KV store, which the caller closes.
func NewVolumeOn(t testing.TB, store kv.Store) *Volume {
	t.Helper()
	v := &Volume{KV: store, RowsKey: newKey(t), ZoneKey: newKey(t)}
	id, err := blockcrypt.NewVolumeID()
	if err != nil {
		t.Fatalf("metatest: %v", err)
	}
	v.ID = id
	zone, err := meta.NewZone(v.ID, meta.RootZone, meta.RootIno, v.ZoneKey)
	if err != nil {
		t.Fatalf("metatest: %v", err)
	}
	zone.Wraps = []meta.ZoneWrap{{KeyID: "test", Blob: []byte("test")}}
	err = meta.Format(context.Background(), meta.FormatConfig{KV: store, Volume: v.ID, RowsKey: v.RowsKey, Zone: zone, Mode: 0o755})
	if err != nil {
		t.Fatalf("metatest: %v", err)
	}
	keys, err := zone.Keys(v.ID, v.ZoneKey)
	if err != nil {
		t.Fatalf("metatest: %v", err)
	}
	v.Keyring = &Keyring{keys: make(map[meta.ZoneID]*meta.ZoneKeys)}
	keys.Valid = v.Keyring.valid
	v.Keyring.Add(meta.RootZone, keys)
	v.Store = v.Open(t, meta.Config{})
	return v
}

// Open returns a new Store over the volume, as after a restart. What cfg leaves empty is the volume's.
func (v *Volume) Open(t testing.TB, cfg meta.Config) *meta.Store {
	t.Helper()
	if cfg.KV == nil {
		cfg.KV = v.KV
	}
	if cfg.Keys == nil {
		cfg.Keys = v.Keyring
	}
	cfg.Volume, cfg.RowsKey = v.ID, v.RowsKey
	s, err := meta.Open(cfg)
	if err != nil {
		t.Fatalf("metatest: %v", err)
	}
	return s
}

func newKey(t testing.TB) *blockcrypt.Key {
	t.Helper()
	k, err := blockcrypt.NewKey()
	if err != nil {
		t.Fatalf("metatest: %v", err)
	}
	return k
}
