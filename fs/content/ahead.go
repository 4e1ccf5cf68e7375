package content

import (
	"sync"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta"
)

// layout is what has to be known of a File to seal blocks for it before it is locked. Not changed once it is published.
type layout struct {
	present meta.Plane
	plain   bool // blocks are stored as they are, not compressed
}

// publishLayout makes the layout of a committed state known. Called with mu held for writing.
func (f *File) publishLayout(st *state) {
	if st.layout != meta.LayoutSlots {
		f.layout.Store(nil)
		return
	}
	now := layout{st.present(), st.params.Codec == meta.CodecNone}
	if old := f.layout.Load(); old == nil || *old != now {
		f.layout.Store(&now)
	}
}

// ahead is the ciphertext of whole blocks of a write, sealed before the File was locked: so that writes to one file are sealed by as many processors as bring them. It is
// of use only if the plane and the epoch are still those.
type ahead struct {
	plane  meta.Plane
	epoch  uint32
	first  uint64 // block
	loan   pooled
	buf    []byte
	sealed []blockcrypt.Sealed
	space  [maxBlocks]blockcrypt.Sealed
}

var aheads = sync.Pool{New: func() any { return new(ahead) }}

// sealAhead seals the whole blocks of a write of p at off. nil: there are none, or they have to be sealed with the File locked, such as while no use of the key is left that
// the inode's row knows of.
func (f *File) sealAhead(k *keys, p []byte, off uint64) *ahead {
	l, epoch := f.layout.Load(), f.epoch.Load()
	if l == nil || !l.plain || off < l.present.From || off%uint64(l.present.BlockSize) != 0 {
		return nil
	}
	size := l.present.BlockSize
	n := len(p) / size
	cipher, err := k.get(epoch, size)
	if n == 0 || err != nil || !f.uses.takeGranted(epoch, uint64(n), f.e.maxUses) {
		return nil
	}
	a := aheads.Get().(*ahead)
	a.plane, a.epoch, a.first = l.present, epoch, l.present.Block(off)
	a.loan, a.buf = borrow(n * size)
	a.sealed, err = cipher.SealRun(a.buf, p[:n*size], a.plane.Index(a.first), a.space[:0])
	if err != nil {
		a.drop()
		return nil
	}
	return a
}

// drop ends the use of a; nil is nothing.
func (a *ahead) drop() {
	if a == nil {
		return
	}
	a.loan.giveBack()
	a.loan, a.buf, a.sealed = pooled{}, nil, nil
	aheads.Put(a)
}

// has tells of how many blocks from block on there is ciphertext; a may be nil.
func (a *ahead) has(block uint64) int {
	if a == nil || block < a.first || block-a.first >= uint64(len(a.sealed)) {
		return 0
	}
	return len(a.sealed) - int(block-a.first)
}

// from returns the ciphertext of n blocks from block on, which it has, and what proves them.
func (a *ahead) from(block uint64, n int) ([]byte, []blockcrypt.Sealed) {
	i, size := int(block-a.first), a.plane.BlockSize
	return a.buf[i*size : (i+n)*size : (i+n)*size], a.sealed[i : i+n]
}
