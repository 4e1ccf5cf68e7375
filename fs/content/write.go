package content

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/fs/object"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// smallWrite is up to how many bytes a write goes into the journal if a sync of its file is expected.
const smallWrite = 128 << 10

// WriteAt writes all of p at off and returns how many bytes were written: all, or with an error those before it. A gap behind the old end
// becomes a hole. mtime and ctime are set, unless opts says otherwise. On return the write survives the death of the process.
//
// Errors: ErrTooLarge, meta.ErrNoSpace or ENOSPC, and those of reading where a block is changed in part.
func (f *File) WriteAt(ctx context.Context, p []byte, off uint64, opts WriteOpts) (int, error) {
	if err := f.writable(off, uint64(len(p))); err != nil {
		return 0, fmt.Errorf("write inode %d: %w", f.ino, err)
	}
	done := 0
	for done < len(p) {
		chunk := p[done:min(done+maxChunk, len(p))]
		n := 0
		err := f.withKeys(ctx, func(k *keys) (err error) {
			n, err = f.writeChunk(ctx, k, chunk, off+uint64(done), opts)
			return err
		})
		if err != nil {
			return done, fmt.Errorf("write inode %d at %d: %w", f.ino, off+uint64(done), err)
		}
		done += n
	}
	return done, nil
}

// writable refuses what no write may do.
func (f *File) writable(off, n uint64) error {
	switch {
	case f.e.cfg.ReadOnly:
		return meta.ErrReadOnly
	case f.e.isClosed():
		return ErrClosed
	case f.e.objects.Failed():
		return object.ErrFailed
	case off > f.e.maxSize || n > f.e.maxSize-off:
		return ErrTooLarge
	}
	return nil
}

// writeChunk writes at most maxChunk bytes, in one transaction, and returns how many: what lies in one plane.
func (f *File) writeChunk(ctx context.Context, k *keys, p []byte, off uint64, opts WriteOpts) (int, error) {
	a := f.sealAhead(k, p, off)
	defer a.drop()
	return f.writeSealed(ctx, k, a, p, off, opts)
}

// writeSealed is writeChunk after some of the blocks may have been sealed.
func (f *File) writeSealed(ctx context.Context, k *keys, a *ahead, p []byte, off uint64, opts WriteOpts) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ready(k); err != nil {
		return 0, err
	}
	c := f.newChange(opts)
	defer c.count()
	if f.st.layout == meta.LayoutSlots {
		c.ahead = a
		plane := f.st.planeAt(off)
		p = p[:min(uint64(len(p)), plane.To-off)]
		c.next.size = max(f.st.size, off+uint64(len(p)))
		return len(p), f.writeSlots(ctx, k, c, plane, p, off, nil)
	}
	c.next.size = max(f.st.size, off+uint64(len(p)))
	old, err := f.readInline(ctx, k)
	if err != nil {
		return 0, err
	}
	if c.next.size > uint64(f.st.params.Inline) {
		f.leaveInline(c)
		return len(p), f.writeSlots(ctx, k, c, c.next.present(), p, off, old)
	}
	plain := make([]byte, max(len(old), int(off)+len(p)))
	copy(plain, old)
	copy(plain[off:], p)
	return len(p), f.writeInline(ctx, k, c, plain)
}

// writeInline replaces the inline content and commits.
func (f *File) writeInline(ctx context.Context, k *keys, c *change, plain []byte) error {
	if err := f.sealInline(k, c, plain); err != nil {
		return err
	}
	return c.commit(ctx)
}

// sealInline adds the new inline content to a change.
func (f *File) sealInline(k *keys, c *change, plain []byte) error {
	if len(plain) == 0 {
		c.noInline = true
		return nil
	}
	params := c.next.params
	cipher, err := k.get(c.epoch, int(params.BlockSize))
	if err != nil {
		return err
	}
	in := meta.Inline{Epoch: c.epoch}
	loan, coded, err := f.compress(params, plain, 1)
	defer loan.giveBack()
	switch {
	case err != nil:
	case coded == nil:
		in.Sealed, err = cipher.SealInline(plain)
	default:
		in.Codec, in.Plain = params.Codec, uint32(len(plain))
		in.Sealed, err = cipher.SealInlineCoded(coded, blockcrypt.Coding{Codec: uint8(in.Codec), Plain: in.Plain})
	}
	if err != nil {
		return err
	}
	c.uses++
	c.inline = &in
	return nil
}

// leaveInline makes a change one to slots of a new object.
func (f *File) leaveInline(c *change) {
	c.next.layout = meta.LayoutSlots
	c.next.serial++
	c.next.allocated = 0
	c.noInline = true
}

// piece is one block of a write.
type piece struct {
	plain []byte // all of its new content
	image bool   // it goes into the journal
}

// writer is the work space of one writeSlots.
type writer struct {
	f     *File
	k     *keys
	c     *change
	plane meta.Plane
	p     []byte
	off   uint64
	first uint64
	old   []byte // what was inline, if the file leaves the inline row
	ahead *ahead // what was sealed of it already; nil: nothing
	rows  []*meta.MapRow
	loans []pooled
	next  compressed // what was tried last

	rowSpace [maxBlocks/meta.MapRowBlocks + 2]*meta.MapRow
	pieces   [maxBlocks]piece
	sealed   [maxBlocks]blockcrypt.Sealed
}

var writers = sync.Pool{New: func() any { return new(writer) }}

// writeSlots writes p at off as blocks of a plane, which is for all of them, and with them old, what was inline and stays, and commits. Called with mu
// held for writing.
func (f *File) writeSlots(ctx context.Context, k *keys, c *change, plane meta.Plane, p []byte, off uint64, old []byte) error {
	err := f.lay(ctx, k, c, plane, p, off, old)
	if err == nil {
		err = c.commit(ctx)
	}
	if err != nil {
		return f.undo(ctx, plane, err)
	}
	f.native = f.native || c.noInline
	return nil
}

// lay is writeSlots but for committing: it adds the blocks to the change, and writes those that go to their slots at once. Called with mu held for writing.
func (f *File) lay(ctx context.Context, k *keys, c *change, plane meta.Plane, p []byte, off uint64, old []byte) (err error) {
	w := writers.Get().(*writer)
	defer writers.Put(w)
	first, end := plane.Range(off, len(p))
	w.f, w.k, w.c, w.plane, w.p, w.off, w.first, w.old = f, k, c, plane, p, off, first, old
	defer w.drop()
	if a := c.ahead; a != nil && a.plane == plane && a.epoch == c.epoch && c.next.params.Codec == meta.CodecNone {
		w.ahead = a
	}
	if w.rows, err = f.rowsFor(ctx, c, first, end, w.rowSpace[:0]); err != nil {
		return err
	}
	pieces := w.pieces[:end-first]
	small := len(p) <= smallWrite && (f.startsInJournal(c.next.size) || f.expectsSync(c.next.size))
	for i := range pieces {
		if pieces[i], err = w.piece(ctx, first+uint64(i), small); err != nil {
			return err
		}
	}
	if err := w.keepOld(end); err != nil {
		return err
	}
	return w.place(pieces)
}

// undo returns err, because of which a write to a plane was not committed, and cuts off what it has written behind the end of the file. Called with mu held for writing.
func (f *File) undo(ctx context.Context, plane meta.Plane, err error) error {
	if errors.Is(err, kv.ErrFailed) { // it may turn out to have been
		return err
	}
	if cut := f.cutLeftover(context.WithoutCancel(ctx), plane.Serial); cut != nil {
		return errors.Join(err, cut)
	}
	return err
}

// rowsFor returns the committed rows of [first, end): none if the file is about to leave the inline row.
func (f *File) rowsFor(ctx context.Context, c *change, first, end uint64, rows []*meta.MapRow) ([]*meta.MapRow, error) {
	if f.st.layout == meta.LayoutSlots {
		return f.mapRows(ctx, first, end, rows)
	}
	from, _ := meta.RowOf(first)
	to, _ := meta.RowOf(end - 1)
	for row := from; row <= to; row++ {
		rows = append(rows, &noEntries)
	}
	return rows, nil
}

// drop lets go of what must not stay in the pool.
func (w *writer) drop() {
	for i := range w.loans {
		w.loans[i].giveBack()
		w.loans[i] = pooled{}
	}
	clear(w.rowSpace[:])
	clear(w.pieces[:])
	w.next.drop()
	w.f, w.k, w.c, w.p, w.old, w.ahead, w.rows, w.loans = nil, nil, nil, nil, nil, nil, nil, w.loans[:0]
}

// piece works out the new content of a block and where it goes.
func (w *writer) piece(ctx context.Context, block uint64, small bool) (piece, error) {
	f := w.f
	e := entryIn(w.rows, w.first, block)
	start := w.plane.Start(block)
	lo, hi := max(start, w.off), min(start+uint64(w.plane.BlockSize), w.off+uint64(len(w.p)))
	src := w.p[lo-w.off : hi-w.off]
	inline := w.inlineOf(block)
	kept := max(int(e.PlainLen), len(inline))
	out := piece{plain: src, image: small || e.Present || len(inline) > 0 || f.st.layout == meta.LayoutSlots && !f.virgin(block)}
	if lo == start && int(hi-start) >= kept {
		return out, nil
	}
	n := max(kept, int(hi-start))
	loan, buf := borrow(n)
	w.loans = append(w.loans, loan)
	clear(buf)
	copy(buf, inline)
	if e.Present {
		if err := f.readBlock(ctx, w.k, w.plane, block, buf[:e.PlainLen]); err != nil {
			return out, err
		}
	}
	copy(buf[lo-start:], src)
	out.plain = buf
	return out, nil
}

// inlineOf returns the part of the old inline content that lies in block.
func (w *writer) inlineOf(block uint64) []byte {
	start := w.plane.Start(block)
	if start >= uint64(len(w.old)) {
		return nil
	}
	return w.old[start:min(start+uint64(w.plane.BlockSize), uint64(len(w.old)))]
}

// keepOld seals the inline content outside of the write, as images: it may have been synced, so it must not depend on a slot that is not.
func (w *writer) keepOld(end uint64) error {
	for block := w.plane.Base; len(w.inlineOf(block)) > 0; block++ {
		if block >= w.first && block < end {
			continue
		}
		if err := w.sealImage(block, w.inlineOf(block)); err != nil {
			return err
		}
	}
	return nil
}

// place seals all pieces: compressed ones and runs of others to the object, and images.
func (w *writer) place(pieces []piece) error {
	for i := 0; i < len(pieces); {
		if pieces[i].image {
			if err := w.sealImage(w.first+uint64(i), pieces[i].plain); err != nil {
				return err
			}
			i++
			continue
		}
		coded, err := w.compressed(i)
		if err != nil {
			return err
		}
		if coded != nil {
			if err := w.writeCoded(w.first+uint64(i), pieces[i].plain, coded); err != nil {
				return err
			}
			i++
			continue
		}
		j := i + 1
		for j < len(pieces) && !pieces[j].image {
			if coded, err = w.compressed(j); err != nil {
				return err
			}
			if coded != nil {
				break
			}
			j++
		}
		if err := w.writeRun(i, j); err != nil {
			return err
		}
		i = j
	}
	return nil
}

// sealImage adds a block to the change as an image.
func (w *writer) sealImage(block uint64, plain []byte) error {
	if w.ahead.has(block) > 0 {
		ciphertext, sealed := w.ahead.from(block, 1)
		image, room := newImage(w.plane.Serial, w.plane.BlockSize, len(ciphertext))
		copy(room, ciphertext)
		w.c.putImage(block, image)
		w.c.set(block, w.base(block), w.entry(sealed[0], len(ciphertext)))
		return nil
	}
	cipher, err := w.k.get(w.c.epoch, w.plane.BlockSize)
	if err != nil {
		return err
	}
	loan, coded, err := w.f.compress(w.params(), plain, slotPage)
	defer loan.giveBack()
	if err != nil {
		return err
	}
	stored := len(plain)
	if coded != nil {
		stored = len(coded)
	}
	image, ciphertext := newImage(w.plane.Serial, w.plane.BlockSize, stored)
	entry, err := w.seal(cipher, ciphertext, plain, coded, block)
	if err != nil {
		return err
	}
	w.c.uses++
	w.c.putImage(block, image)
	w.c.set(block, w.base(block), entry)
	return nil
}

// params returns how content is stored in the plane: blocks of the former one may be too small to be compressed.
func (w *writer) params() meta.Params {
	p := w.c.next.params
	if w.plane.BlockSize < meta.MinCompressedBlock {
		p.Codec = meta.CodecNone
	}
	return p
}

// seal encrypts a block into dst: coded, what it was compressed to, or if that is nil plain.
func (w *writer) seal(cipher *blockcrypt.BlockCipher, dst, plain, coded []byte, block uint64) (meta.Entry, error) {
	if coded == nil {
		sealed, err := cipher.Seal(dst, plain, w.plane.Index(block))
		return w.entry(sealed, len(plain)), err
	}
	codec := w.params().Codec
	sealed, err := cipher.SealCoded(dst, coded, w.plane.Index(block), blockcrypt.Coding{Codec: uint8(codec), Plain: uint32(len(plain))})
	e := w.entry(sealed, len(plain))
	e.Codec, e.StoredLen = codec, uint32(len(coded))
	return e, err
}

// writeRun seals pieces [i, j) and writes them to their slots at once.
func (w *writer) writeRun(i, j int) error {
	block := w.first + uint64(i)
	if n := min(w.ahead.has(block), j-i); n > 0 {
		if err := w.writeAhead(block, n); err != nil || n == j-i {
			return err
		}
		i, block = i+n, block+uint64(n)
	}
	length := (j-i-1)*w.plane.BlockSize + len(w.pieces[j-1].plain)
	loan, buf := borrow(length)
	defer loan.giveBack()
	if err := w.sealRun(buf, i, j); err != nil {
		return err
	}
	return w.write(buf, block)
}

// writeAhead writes n blocks that were sealed already to their slots.
func (w *writer) writeAhead(block uint64, n int) error {
	ciphertext, sealed := w.ahead.from(block, n)
	for i := range sealed {
		b := block + uint64(i)
		w.c.set(b, w.base(b), w.entry(sealed[i], w.plane.BlockSize))
	}
	return w.write(ciphertext, block)
}

// write writes ciphertext to the slots from a block's on.
func (w *writer) write(buf []byte, block uint64) error {
	obj, err := w.f.objectFor(w.plane.Serial)
	if err != nil {
		return err
	}
	defer obj.Release()
	at := w.plane.Slot(block)
	if err := obj.WriteAt(buf, at); err != nil {
		return err
	}
	w.f.res.wrote()
	if off, n := w.f.stream.wrote(w.plane.Serial, at, int64(len(buf))); n > 0 {
		obj.WriteBack(off, n)
	}
	return nil
}

// sealRun seals pieces [i, j) back to back into buf. Those that lie side by side in p are sealed together.
func (w *writer) sealRun(buf []byte, i, j int) error {
	cipher, err := w.k.get(w.c.epoch, w.plane.BlockSize)
	if err != nil {
		return err
	}
	for i < j {
		plain, n := w.together(i, j)
		block := w.first + uint64(i)
		sealed, err := cipher.SealRun(buf[:len(plain)], plain, w.plane.Index(block), w.sealed[:0])
		if err != nil {
			return err
		}
		w.c.uses += uint64(n)
		for x := range sealed {
			b := block + uint64(x)
			w.c.set(b, w.base(b), w.entry(sealed[x], len(w.pieces[i+x].plain)))
		}
		buf, i = buf[len(plain):], i+n
	}
	return nil
}

// together returns the plaintext of piece i and of those behind it, as far as they follow each other in p.
func (w *writer) together(i, j int) (plain []byte, n int) {
	if w.rewritten(i) {
		return w.pieces[i].plain, 1
	}
	n = 1
	for i+n < j && !w.rewritten(i+n) {
		n++
	}
	from := max(w.plane.Start(w.first+uint64(i)), w.off) - w.off
	to := min(w.plane.Start(w.first+uint64(i+n)), w.off+uint64(len(w.p))) - w.off
	return w.p[from:to], n
}

// rewritten tells whether piece i is not simply a part of p.
func (w *writer) rewritten(i int) bool {
	start := max(w.plane.Start(w.first+uint64(i)), w.off) - w.off
	return &w.pieces[i].plain[0] != &w.p[start]
}

// base returns the committed row of a block, nil if it is not among those that were read: then it has no entries.
func (w *writer) base(block uint64) *meta.MapRow {
	from, _ := meta.RowOf(w.first)
	row, _ := meta.RowOf(block)
	if row < from || row-from >= uint64(len(w.rows)) {
		return nil
	}
	return w.rows[row-from]
}

func (w *writer) entry(s blockcrypt.Sealed, n int) meta.Entry { return entryOf(s, w.c.epoch, n) }

// entryOf describes a block of n bytes that is stored as it is.
func entryOf(s blockcrypt.Sealed, epoch uint32, n int) meta.Entry {
	return meta.Entry{Present: true, CRC: s.CRC, Epoch: epoch, PlainLen: uint32(n), StoredLen: uint32(n), Nonce: s.Nonce, Tag: s.Tag}
}

// objectFor returns the inode's object to write to. One that has blocks already is looked for first: it counts as new when it is made.
func (f *File) objectFor(serial uint64) (*object.File, error) {
	id := f.e.object(f.ino, serial)
	if f.st.layout == meta.LayoutSlots && f.st.allocated > 0 {
		obj, err := f.e.objects.Get(id)
		if !errors.Is(err, object.ErrMissing) {
			return obj, err
		}
	}
	return f.e.objects.Create(id)
}
