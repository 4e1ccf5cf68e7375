package content

import (
	"context"
	"fmt"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/fs/object"
	"github.com/kmsfs/kmsfs/meta"
)

// Settler settles images: it is the local.Settler of a volume, made before the KV store is opened. It needs no row, no cipher and no Engine.
//
// It never writes to an object that is garbage already: the transaction that makes an object or slot garbage drops its images, and the garbage is
// destroyed only after a checkpoint that includes that transaction.
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

// Settle writes an image into its slot; a marker needs nothing. Settling an image again writes the same bytes.
func (s *Settler) Settle(ctx context.Context, key, value []byte) error {
	ino, block, ok := meta.ParseImageKey(key)
	if !ok {
		if meta.IsMarkerKey(key) {
			return nil
		}
		return fmt.Errorf("settle row of %d bytes key: %w", len(key), meta.ErrCorrupt)
	}
	if err := s.settle(uint64(ino), block, value); err != nil {
		return fmt.Errorf("settle block %d of inode %d: %w", block&^meta.UpperBlock, ino, err)
	}
	return nil
}

func (s *Settler) settle(ino, block uint64, image []byte) error {
	serial, blockSize, ciphertext, err := parseImage(image)
	if err != nil {
		return err
	}
	index := block &^ meta.UpperBlock
	if index > blockcrypt.MaxFileSize/uint64(blockSize) {
		return meta.ErrCorrupt
	}
	id := object.ID(s.namer.ID(ino, serial))
	obj, err := s.objects.Get(id)
	if err != nil {
		if obj, err = s.objects.Create(id); err != nil {
			return err
		}
	}
	defer obj.Release()
	slot := blockcrypt.SlotOff(index, blockSize)
	if err := obj.WriteAt(ciphertext, slot); err != nil {
		return err
	}
	return punchTail(obj, slot, len(ciphertext), blockSize)
}

// Sync makes all objects durable: what was settled and what was written directly.
func (s *Settler) Sync(ctx context.Context) error { return s.objects.SyncAll() }
