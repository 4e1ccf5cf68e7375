package content

import (
	"sync"

	"github.com/kmsfs/kmsfs/meta"
)

// residue is what must be remembered about an inode between a change and the sync or checkpoint that settles it, also while nobody has it open.
//
// Images and released slots come in two generations. A checkpoint moves the newer one to the older before it begins and forgets the older one when
// it is done: everything in it was committed before, so it is settled or released for good. What is remembered may be more than what is so, never
// less: an image that is gone already costs a look-up, a slot wrongly held to be in use an image.
type residue struct {
	ino meta.Ino

	mu          sync.Mutex
	images      map[uint64]struct{} // guarded by mu; blocks with an image
	oldImages   map[uint64]struct{} // guarded by mu
	released    ranges              // guarded by mu; slots that lost their entry
	oldReleased ranges              // guarded by mu
	written     uint64              // guarded by mu; direct writes
	synced      uint64              // guarded by mu; how many of them are durable in the object
	elsewhere   bool                // guarded by mu; some were to an object that the file has left since
}

// settledLater records what a committed change left behind.
func (r *residue) settledLater(images, dropped []uint64, released []span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range dropped {
		delete(r.images, b)
		delete(r.oldImages, b)
	}
	for _, b := range images {
		if r.images == nil {
			r.images = map[uint64]struct{}{}
		}
		r.images[b] = struct{}{}
	}
	for _, s := range released {
		r.released.add(s.first, s.end)
	}
}

// wrote counts a direct write. It comes after the write and before its transaction, so that a sync that sees the count covers the bytes, and one
// that sees the transaction sees the count.
func (r *residue) wrote() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.written++
}

// hasImage tells whether block may have an image.
func (r *residue) hasImage(block uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hasImageLocked(block)
}

func (r *residue) hasImageLocked(block uint64) bool {
	if _, ok := r.images[block]; ok {
		return true
	}
	_, ok := r.oldImages[block]
	return ok
}

// imagesIn returns which blocks of [first, end), at most maxBlocks, may have an image.
func (r *residue) imagesIn(first, end uint64) (set blockSet) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range [...]map[uint64]struct{}{r.images, r.oldImages} {
		if uint64(len(m)) < end-first {
			for b := range m {
				if b >= first && b < end {
					set.add(int(b - first))
				}
			}
			continue
		}
		for b := first; b < end; b++ {
			if _, ok := m[b]; ok {
				set.add(int(b - first))
			}
		}
	}
	return set
}

// imagesFrom appends the blocks of [first, end) that may have an image.
func (r *residue) imagesFrom(first, end uint64, out []uint64) []uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	for b := range r.images {
		if b >= first && b < end {
			out = append(out, b)
		}
	}
	for b := range r.oldImages {
		if _, twice := r.images[b]; !twice && b >= first && b < end {
			out = append(out, b)
		}
	}
	return out
}

// isReleased tells whether an older state that a crash could bring back may refer to the slot of block.
func (r *residue) isReleased(block uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.released.has(block) || r.oldReleased.has(block)
}

// unreleased returns the parts of [first, end) to which no older state may refer. Called with the File locked, between checkpoints.
func (r *residue) unreleased(first, end uint64) (parts []span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.released.outside(first, end) {
		parts = append(parts, r.oldReleased.outside(s.first, s.end)...)
	}
	return parts
}

// beginCheckpoint ages what a checkpoint that begins now will settle, and returns how many direct writes it covers.
func (r *residue) beginCheckpoint() (written uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.oldImages) == 0 {
		r.oldImages = r.images
	} else {
		for b := range r.images {
			r.oldImages[b] = struct{}{}
		}
	}
	r.images = nil
	for _, s := range r.released {
		r.oldReleased.add(s.first, s.end)
	}
	r.released = nil
	return r.written
}

// endCheckpoint forgets what the checkpoint settled.
func (r *residue) endCheckpoint(written uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.oldImages, r.oldReleased = nil, nil
	r.reach(written)
}

// reach notes that the first written direct writes are durable. Called with mu held.
func (r *residue) reach(written uint64) {
	if r.synced = max(r.synced, written); r.synced == r.written {
		r.elsewhere = false
	}
}

// left says that the file has left an object that was written to. What it held is durable where it is now.
func (r *residue) left() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.elsewhere = r.written > r.synced
}

// wroteElsewhere tells whether some of the direct writes that are not known to be durable were to an object that the file has left.
func (r *residue) wroteElsewhere() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.elsewhere
}

// unsynced returns the count of direct writes, and whether some are not known to be durable.
func (r *residue) unsynced() (written uint64, dirty bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.written, r.written > r.synced
}

// markSynced notes that the first written direct writes are durable.
func (r *residue) markSynced(written uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reach(written)
}

// forgetWrites says that the object that was written to is garbage, so that there is nothing to sync.
func (r *residue) forgetWrites() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reach(r.written)
}

// empty tells whether there is nothing to remember.
func (r *residue) empty() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.images)+len(r.oldImages)+len(r.released)+len(r.oldReleased) == 0 && r.written == r.synced
}
