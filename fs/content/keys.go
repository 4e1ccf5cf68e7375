package content

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta"
)

// cipherKey names a block cipher: one per file, epoch and block size, of which a file has two while it moves to another.
type cipherKey struct {
	ino   meta.Ino
	epoch uint32
	size  int
}

// cipherEntry is a cached block cipher, usable as long as the zone keys that it was unwrapped with.
type cipherEntry struct {
	cipher *blockcrypt.BlockCipher
	zone   *meta.ZoneKeys
	until  time.Time // of a key that a CMK has wrapped itself; else zero
}

// over says that the key may not be used any more by itself, whatever becomes of the zone's keys.
func (c *cipherEntry) over(now time.Time) bool { return !c.until.IsZero() && !now.Before(c.until) }

// keys holds the block ciphers that one operation uses. They are fetched before the File is locked.
type keys struct {
	key    sizedEpoch // of cipher
	cipher *blockcrypt.BlockCipher
	others map[sizedEpoch]*blockcrypt.BlockCipher
}

// sizedEpoch names a block cipher of one file.
type sizedEpoch struct {
	epoch uint32
	size  int // of a block
}

// get returns the cipher of an epoch for blocks of a size, or the error that makes withKeys fetch it and try again.
func (k *keys) get(epoch uint32, size int) (*blockcrypt.BlockCipher, error) {
	key := sizedEpoch{epoch, size}
	if k.key == key && k.cipher != nil {
		return k.cipher, nil
	}
	if c := k.others[key]; c != nil {
		return c, nil
	}
	return nil, &missingKey{key}
}

func (k *keys) add(key sizedEpoch, c *blockcrypt.BlockCipher) {
	if k.cipher == nil {
		k.key, k.cipher = key, c
		return
	}
	if k.others == nil {
		k.others = map[sizedEpoch]*blockcrypt.BlockCipher{}
	}
	k.others[key] = c
}

// missingKey: an operation met a block of an epoch whose key was not fetched.
type missingKey struct{ key sizedEpoch }

func (m *missingKey) Error() string {
	return fmt.Sprintf("key of epoch %d for blocks of %d bytes was not fetched", m.key.epoch, m.key.size)
}

// errEpochFull: the current block key may not be used as often as the operation needs.
var errEpochFull = errors.New("block key is used up")

// maxDropped is how often an operation begins anew because the key that it was about to use was dropped.
const maxDropped = 16

// withKeys runs op with the keys of the current epoch, and again whenever op stops because it lacks something that cannot be had with the File
// locked: the key of an epoch, a key that is not used up, or the certainty that the file has no capabilities. op locks the File; no lock is held
// while keys are fetched.
func (f *File) withKeys(ctx context.Context, op func(*keys) error) error {
	id := f.zone.Load()
	zone, err := f.zoneKeys(ctx, id)
	if err != nil {
		return err
	}
	var k keys
	key := f.presentKey()
	for dropped := 0; ; {
		if _, err := k.get(key.epoch, key.size); err != nil {
			c, err := f.fetch(ctx, zone, key)
			if errors.Is(err, meta.ErrNotFound) && key.epoch < f.epoch.Load() && dropped < maxDropped { // a re-encryption has come to its end
				dropped++
				key = f.presentKey()
				continue
			}
			if err != nil {
				return err
			}
			k.add(key, c)
		}
		err = op(&k)
		var missing *missingKey
		switch {
		case err == nil:
			return nil
		case errors.As(err, &missing):
			key = missing.key
		case errors.Is(err, errEpochFull):
			if err := f.newEpoch(ctx); err != nil {
				return err
			}
			key = f.presentKey()
		case errors.Is(err, errCapability):
			if err := f.dropCapability(ctx); err != nil {
				return err
			}
			continue
		default:
			return err
		}
		if now := f.zone.Load(); now != id { // moved meanwhile
			if zone, err = f.zoneKeys(ctx, now); err != nil {
				return err
			}
			id = now
		}
		if _, err := k.get(key.epoch, key.size); err == nil {
			return fmt.Errorf("inode %d asks for the key of epoch %d again: %w", f.ino, key.epoch, meta.ErrCorrupt)
		}
	}
}

// presentKey names the cipher that new blocks of the present plane are sealed by.
func (f *File) presentKey() sizedEpoch { return sizedEpoch{f.epoch.Load(), f.BlockSize()} }

// zoneKeys returns the keys of a zone if they may be used now.
func (f *File) zoneKeys(ctx context.Context, id uint64) (*meta.ZoneKeys, error) {
	zone, err := f.e.keys.Zone(ctx, meta.ZoneID(id))
	if err == nil && zone.Valid != nil {
		err = zone.Valid()
	}
	if err != nil {
		return nil, fmt.Errorf("keys of inode %d: %w", f.ino, err)
	}
	return zone, nil
}

// Warm gets the key of the file's current epoch where a CMK has wrapped it itself, in the name of who ctx says (keymgr.CallerOf), so that whoever opens the file is asked for and
// told of a refusal. Elsewhere it does nothing. It blocks while the key manager is asked. Errors: meta.ErrKeyUnavailable, meta.ErrKeyRevoked, meta.ErrAuth.
func (f *File) Warm(ctx context.Context) error {
	zone, err := f.zoneKeys(ctx, f.zone.Load())
	if err != nil || zone.Files == nil {
		return err
	}
	_, err = f.fetch(ctx, zone, f.presentKey())
	return err
}

// fetch returns the block cipher of an epoch, from the cache or by unwrapping the file key.
func (f *File) fetch(ctx context.Context, zone *meta.ZoneKeys, want sizedEpoch) (*blockcrypt.BlockCipher, error) {
	key := cipherKey{f.ino, want.epoch, want.size}
	if entry, ok := f.e.ciphers.get(key); ok && entry.zone == zone && !entry.over(time.Now()) {
		return entry.cipher, nil
	}
	entry := &cipherEntry{zone: zone}
	if zone.Files != nil {
		entry.until = time.Now().Add(zone.Files.TTL())
	}
	c, err := f.unwrap(ctx, want)
	if err != nil {
		return nil, fmt.Errorf("file key of inode %d, epoch %d: %w", f.ino, want.epoch, err)
	}
	entry.cipher = c
	f.e.ciphers.put(key, entry)
	select {
	case f.e.keyHeld <- struct{}{}:
	default:
	}
	return c, nil
}

// unwrap opens the file key, expands it, and checks that it is the one committed to.
func (f *File) unwrap(ctx context.Context, want sizedEpoch) (*blockcrypt.BlockCipher, error) {
	a, err := f.e.meta.Getattr(ctx, f.ino)
	if err != nil {
		return nil, err
	}
	dek, err := f.e.meta.UnwrapDEK(ctx, a, want.epoch)
	if err != nil {
		return nil, err
	}
	defer dek.Wipe()
	id := blockcrypt.FileID{Volume: f.e.meta.Volume(), Inode: uint64(f.ino), Epoch: want.epoch}
	c, err := blockcrypt.NewBlockCipher(dek, id, want.size, blockcrypt.SuiteAES256GCM)
	if err != nil {
		return nil, err
	}
	if err := c.Verify(a.Wrap(want.epoch).Commitment); err != nil {
		return nil, fmt.Errorf("%w: %w", meta.ErrAuth, err)
	}
	return c, nil
}

// newEpoch gives the file a fresh key for all blocks sealed from now on. The File is not locked while keys may be asked for: writers that come in
// between still use the old key, or come here too.
func (f *File) newEpoch(ctx context.Context) error {
	f.rotating.Lock()
	defer f.rotating.Unlock()
	if f.uses.left(f.e.maxUses) >= epochReserve { // somebody else did it
		return nil
	}
	_, err := f.renew(ctx)
	return err
}

// renew gives the file a fresh key, whose epoch it returns. Called with rotating held.
func (f *File) renew(ctx context.Context) (epoch uint32, err error) {
	err = f.e.meta.UpdateWithKeys(ctx, func(tx *meta.Tx) error {
		a, err := tx.Attr(f.ino)
		if err != nil {
			return err
		}
		dek, err := f.e.meta.AddEpoch(tx, a)
		if err != nil {
			return err
		}
		dek.Wipe()
		epoch = a.Epoch
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("new key for inode %d: %w", f.ino, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.uses.start(epoch, 0)
	f.epoch.Store(epoch)
	return epoch, nil
}

// dropInvalidKeys forgets the block ciphers whose zone keys may not be used any more.
func (e *Engine) dropInvalidKeys() {
	now := time.Now()
	e.ciphers.removeIf(func(c *cipherEntry) bool { return c.over(now) || c.zone.Valid != nil && c.zone.Valid() != nil })
}

// DropKeys forgets the block ciphers whose zone keys may not be used any more, at once instead of with the next upkeep.
func (e *Engine) DropKeys() { e.dropInvalidKeys() }

// ForgetKeys forgets the block ciphers of inodes that are gone.
func (e *Engine) ForgetKeys(gone func(meta.Ino) bool) {
	e.ciphers.removeKeys(func(k cipherKey) bool { return gone(k.ino) })
}
