package content

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/fs/codec"
	"github.com/kmsfs/kmsfs/fs/object"
	"github.com/kmsfs/kmsfs/meta"
)

// ReadAt fills p with the bytes from off on and returns how many there were: fewer than len(p) only at the end of the file, 0 behind it, both
// without an error. Holes are zeros. On error the count is 0 and p holds nothing of use.
func (f *File) ReadAt(ctx context.Context, p []byte, off uint64) (int, error) {
	if f.e.isClosed() {
		return 0, ErrClosed
	}
	done := 0
	for done < len(p) && off+uint64(done) < f.Size() {
		chunk := p[done:min(done+maxChunk, len(p))]
		var n int
		err := f.withKeys(ctx, func(k *keys) (err error) {
			n, err = f.readChunk(ctx, k, chunk, off+uint64(done))
			return err
		})
		if err != nil {
			clear(p)
			return 0, fmt.Errorf("read inode %d: %w", f.ino, err)
		}
		done += n
		if n < len(chunk) {
			break
		}
	}
	return done, nil
}

// readChunk reads at most maxChunk bytes.
func (f *File) readChunk(ctx context.Context, k *keys, p []byte, off uint64) (int, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if off >= f.st.size {
		return 0, nil
	}
	n := int(min(uint64(len(p)), f.st.size-off))
	p = p[:n:n] // what lies behind belongs to others
	if f.st.layout == meta.LayoutSlots {
		return n, f.readSlots(ctx, k, p, off)
	}
	plain, err := f.readInline(ctx, k)
	if err != nil {
		return 0, err
	}
	if off < uint64(len(plain)) {
		clear(p[copy(p, plain[off:]):])
	} else {
		clear(p)
	}
	return n, nil
}

// reader is the work space of one readSlots.
type reader struct {
	f     *File
	k     *keys
	plane meta.Plane
	p     []byte // what to fill
	off   uint64 // its offset in the file
	first uint64 // its first block
	rows  []*meta.MapRow
	done  blockSet // blocks that were read from an image
	obj   *object.File

	rowSpace [maxBlocks/meta.MapRowBlocks + 2]*meta.MapRow
	sealed   [maxBlocks]blockcrypt.Sealed
}

var readers = sync.Pool{New: func() any { return new(reader) }}

// readSlots reads from images and slots. Called with mu held.
func (f *File) readSlots(ctx context.Context, k *keys, p []byte, off uint64) error {
	for len(p) > 0 {
		plane := f.st.planeAt(off)
		n := min(uint64(len(p)), plane.To-off)
		if err := f.readPlane(ctx, k, plane, p[:n:n], off); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

// readPlane is readSlots for what lies in one plane.
func (f *File) readPlane(ctx context.Context, k *keys, plane meta.Plane, p []byte, off uint64) error {
	r := readers.Get().(*reader)
	defer readers.Put(r)
	first, end := plane.Range(off, len(p))
	r.f, r.k, r.plane, r.p, r.off, r.first, r.done = f, k, plane, p, off, first, blockSet{}
	defer r.drop()
	r.begin(end)
	rows, err := f.mapRows(ctx, first, end, r.rowSpace[:0])
	if err != nil {
		return err
	}
	r.rows = rows
	if err := r.readImages(ctx, end); err != nil {
		return err
	}
	for block := first; block < end; {
		n, err := r.readRun(block, end)
		if err != nil {
			return fmt.Errorf("block %d: %w", block, damaged(err))
		}
		block += uint64(n)
	}
	return nil
}

// mostBegun is up to how many bytes of a read are begun with before their map rows are read. Longer reads follow each other, and the kernel below reads ahead of them better when it is not told what
// to read: they would take 1.7 times as long.
const mostBegun = 32 << 10

// begin has the disk begin with the slots of a short read where it has first to be read what they hold: where they are follows from their numbers.
func (r *reader) begin(end uint64) {
	from, _ := meta.RowOf(r.first)
	if len(r.p) > mostBegun || r.f.e.rows.has(rowKey{r.f.ino, from}) || r.openObject() != nil { // that there is no object is right if all are holes
		return
	}
	at := r.plane.Slot(r.first)
	r.obj.ReadAhead(at, r.plane.Slot(end)-at)
}

// drop lets go of what must not stay in the pool.
func (r *reader) drop() {
	if r.obj != nil {
		r.obj.Release()
	}
	clear(r.rowSpace[:])
	r.f, r.k, r.p, r.rows, r.obj = nil, nil, nil, nil, nil
}

// entry returns the map entry of a block in range.
func (r *reader) entry(block uint64) *meta.Entry { return entryIn(r.rows, r.first, block) }

// part returns the part of p that block fills, and where in the block it begins.
func (r *reader) part(block uint64) (dst []byte, skip int) {
	start := r.plane.Start(block)
	lo, hi := max(start, r.off), min(start+uint64(r.plane.BlockSize), r.off+uint64(len(r.p)))
	return r.p[lo-r.off : hi-r.off], int(lo - start)
}

// readImages fills in the blocks whose ciphertext is in the journal.
func (r *reader) readImages(ctx context.Context, end uint64) error {
	f := r.f
	maybe := f.res.imagesIn(r.first, end)
	if maybe.empty() && !f.untidy() {
		return nil
	}
	return f.e.meta.View(ctx, func(tx *meta.Tx) error {
		for block := r.first; block < end; block++ {
			e := r.entry(block)
			if !e.Present || !maybe.has(int(block-r.first)) && !f.untidy() {
				continue
			}
			found, err := r.readImage(tx, block, e)
			if err != nil {
				return fmt.Errorf("image of block %d: %w", block, damaged(err))
			}
			if found {
				r.done.add(int(block - r.first))
			}
		}
		return nil
	})
}

func (r *reader) readImage(tx *meta.Tx, block uint64, e *meta.Entry) (found bool, err error) {
	image, err := tx.Image(r.f.ino, block)
	if err != nil || image == nil {
		return false, err
	}
	ciphertext, err := imageOf(r.plane, image, e)
	if err != nil {
		return false, err
	}
	c, err := r.k.get(e.Epoch, r.plane.BlockSize)
	if err != nil {
		return false, err
	}
	dst, skip := r.part(block)
	return true, placed(dst, skip, int(e.PlainLen), func(plain []byte) error {
		if e.Codec != meta.CodecNone {
			return r.f.openCoded(c, r.plane.Index(block), e, ciphertext, plain)
		}
		return c.Open(plain, ciphertext, r.plane.Index(block), sealedOf(e))
	})
}

// readRun reads the longest run of blocks from block on that are all holes, all done, or can be opened together, and returns how many.
func (r *reader) readRun(block, end uint64) (int, error) {
	e := r.entry(block)
	if r.done.has(int(block - r.first)) {
		return 1, nil
	}
	dst, skip := r.part(block)
	if !e.Present {
		clear(dst)
		return 1, nil
	}
	c, err := r.k.get(e.Epoch, r.plane.BlockSize)
	if err != nil {
		return 0, err
	}
	if err := r.openObject(); err != nil {
		return 0, err
	}
	if e.Codec != meta.CodecNone {
		return 1, r.readCoded(c, block, e, dst, skip)
	}
	if skip > 0 || len(dst) < int(e.PlainLen) {
		return 1, r.readPart(c, block, e, dst, skip)
	}
	return r.readWhole(c, block, end)
}

// readPart reads a block of which not all is wanted.
func (r *reader) readPart(c *blockcrypt.BlockCipher, block uint64, e *meta.Entry, dst []byte, skip int) error {
	loan, buf := borrow(int(e.StoredLen))
	defer loan.giveBack()
	if err := r.readSlot(buf, block); err != nil {
		return err
	}
	one := [1]blockcrypt.Sealed{sealedOf(e)}
	if _, err := c.OpenRun(buf, buf, r.plane.Index(block), one[:]); err != nil {
		return err
	}
	clear(dst[copy(dst, buf[min(skip, len(buf)):]):])
	return nil
}

// readWhole reads as many blocks as can be read and opened in place together: each whole, all but the last full, of one epoch.
func (r *reader) readWhole(c *blockcrypt.BlockCipher, block, end uint64) (int, error) {
	first := r.entry(block)
	n, length := 0, 0
	for b := block; b < end; b++ {
		e := r.entry(b)
		dst, _ := r.part(b)
		if !e.Present || e.Epoch != first.Epoch || e.Codec != meta.CodecNone || r.done.has(int(b-r.first)) || len(dst) < int(e.PlainLen) {
			break
		}
		r.sealed[n] = sealedOf(e)
		n, length = n+1, length+int(e.PlainLen)
		if int(e.PlainLen) < r.plane.BlockSize {
			clear(dst[e.PlainLen:])
			break
		}
	}
	at := r.plane.Start(block) - r.off
	buf := r.p[at : at+uint64(length)]
	if err := r.readSlot(buf, block); err != nil {
		return 0, err
	}
	if _, err := c.OpenRun(buf, buf, r.plane.Index(block), r.sealed[:n]); err != nil {
		return 0, err
	}
	return n, nil
}

func (r *reader) openObject() error {
	if r.obj != nil {
		return nil
	}
	obj, err := r.f.e.objects.Get(r.f.e.object(r.f.ino, r.plane.Serial))
	r.obj = obj
	return err
}

func (r *reader) readSlot(buf []byte, block uint64) error {
	return r.obj.ReadAt(buf, r.plane.Slot(block))
}

// readBlock returns the plaintext of one block of a plane in buf, which has the length that the entry says. Called with mu held.
func (f *File) readBlock(ctx context.Context, k *keys, plane meta.Plane, block uint64, buf []byte) error {
	return f.readPlane(ctx, k, plane, buf, plane.Start(block))
}

// placed opens a block of n bytes straight into dst if all of it belongs there, and otherwise takes the way over a buffer. dst begins skip bytes
// into the block; what the block does not fill is zeroed.
func placed(dst []byte, skip, n int, open func(plain []byte) error) error {
	if skip == 0 && len(dst) >= n {
		if err := open(dst[:n:n]); err != nil {
			return err
		}
		clear(dst[n:])
		return nil
	}
	loan, buf := borrow(n)
	defer loan.giveBack()
	if err := open(buf); err != nil {
		return err
	}
	clear(dst[copy(dst, buf[min(skip, n):]):])
	return nil
}

func sealedOf(e *meta.Entry) blockcrypt.Sealed {
	return blockcrypt.Sealed{Nonce: e.Nonce, Tag: e.Tag, CRC: e.CRC}
}

// damaged adds ErrDamaged and meta.ErrAuth to errors that say that stored bytes are not what they should be. Others pass as they are: an I/O error
// below, a key that cannot be had.
func damaged(err error) error {
	for _, sentinel := range [...]error{blockcrypt.ErrAuth, blockcrypt.ErrFormat, blockcrypt.ErrSize, codec.ErrFrame,
		object.ErrMissing, object.ErrTruncated, object.ErrHostile, meta.ErrCorrupt} {
		if errors.Is(err, sentinel) {
			return fmt.Errorf("%w: %w: %w", ErrDamaged, meta.ErrAuth, err)
		}
	}
	if errors.Is(err, meta.ErrAuth) && !errors.Is(err, ErrDamaged) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}
