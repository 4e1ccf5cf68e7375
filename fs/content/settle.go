package content

import (
	"context"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/fs/object"
	"github.com/kmsfs/kmsfs/meta"
)

// Settler settles images: it is the local.Settler of a volume, made before the KV store is opened. It needs no row, no cipher and no Engine.
type Settler struct {
	objects *object.Store
	namer   *blockcrypt.ObjectNamer
}

// NewSettler returns the settler of a volume.
func NewSettler(objects *object.Store, namer *blockcrypt.ObjectNamer) *Settler {
	return &Settler{objects: objects, namer: namer}
}

// JournalOnly reports whether rows under key live in the journal only: images and markers.
func (s *Settler) JournalOnly(key []byte) bool { return meta.JournalOnly(key) }

// Settle writes an image into its slot; a marker needs nothing.
func (s *Settler) Settle(ctx context.Context, key, value []byte) error { return errTemp }

// Sync makes all objects durable: what was settled and what was written directly.
func (s *Settler) Sync(ctx context.Context) error { return s.objects.SyncAll() }
