package content

import (
	"errors"
	"syscall"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/fs/codec"
	"github.com/kmsfs/kmsfs/fs/object"
	"github.com/kmsfs/kmsfs/meta"
)

// slotPage is the unit in which slots take room: a block is stored compressed if that saves at least one.
const slotPage = 4096

// pages returns how many bytes of pages n bytes take.
func pages(n int) int { return (n + slotPage - 1) &^ (slotPage - 1) }

// trial remembers how compressing a file's blocks went, so that little time is spent on files that do not yield: after each failure twice as many
// blocks are only looked at.
type trial struct {
	skip, step int
}

// maxSkip is the most blocks that are passed over between two trials.
const maxSkip = 32

// worth tells whether compressing a block should be tried.
func (t *trial) worth(plain []byte) bool {
	if t.skip == 0 {
		return true
	}
	t.skip--
	return codec.Promising(plain)
}

// done notes how a trial went.
func (t *trial) done(saved bool) {
	if saved {
		*t = trial{}
		return
	}
	t.step = min(max(2*t.step, 1), maxSkip)
	t.skip = t.step
}

// compress returns what the file's codec makes of plain, if that is shorter by at least one unit of so many bytes, and otherwise nil. The result
// is on loan. Called with mu held for writing.
func (f *File) compress(params meta.Params, plain []byte, unit int) (loan pooled, coded []byte, err error) {
	if params.Codec == meta.CodecNone || len(plain) <= unit || !f.trial.worth(plain) {
		return pooled{}, nil, nil
	}
	loan, buf := borrow(codec.Room(len(plain)))
	coded, err = f.e.coder.Compress(buf, plain, params.Codec, params.Level)
	saved := err == nil && (len(coded)+unit-1)/unit < (len(plain)+unit-1)/unit
	f.trial.done(saved || err != nil)
	if !saved {
		loan.giveBack()
		return pooled{}, nil, err
	}
	return loan, coded, nil
}

// compressBeside is compress for a block, without the File locked.
func (f *File) compressBeside(params meta.Params, plain []byte) (loan pooled, coded []byte, err error) {
	if len(plain) <= slotPage || !codec.Promising(plain) {
		return pooled{}, nil, nil
	}
	loan, buf := borrow(codec.Room(len(plain)))
	coded, err = f.e.coder.Compress(buf, plain, params.Codec, params.Level)
	if err != nil || pages(len(coded)) >= pages(len(plain)) {
		loan.giveBack()
		return pooled{}, nil, err
	}
	return loan, coded, nil
}

// compressed is what a piece of a write was compressed to.
type compressed struct {
	piece int // that was tried, counted from 1; 0: none
	loan  pooled
	coded []byte // nil: it is stored as it is
}

func (c *compressed) drop() {
	c.loan.giveBack()
	*c = compressed{}
}

// compressed returns what piece i is compressed to, nil if it is to be stored as it is. The result is valid until the next call.
func (w *writer) compressed(i int) ([]byte, error) {
	if w.next.piece == i+1 {
		return w.next.coded, nil
	}
	w.next.drop()
	loan, coded, err := w.f.compress(w.params(), w.pieces[i].plain, slotPage)
	if err != nil {
		return nil, err
	}
	w.next = compressed{i + 1, loan, coded}
	return coded, nil
}

// writeCoded seals a block that was compressed, and writes it to its slot at once.
func (w *writer) writeCoded(block uint64, plain, coded []byte) error {
	cipher, err := w.k.get(w.c.epoch, w.plane.BlockSize)
	if err != nil {
		return err
	}
	loan, buf := borrow(len(coded))
	defer loan.giveBack()
	e, err := w.seal(cipher, buf, plain, coded, block)
	if err != nil {
		return err
	}
	w.c.uses++
	w.c.set(block, w.base(block), e)
	return w.write(buf, block)
}

// readCoded reads a compressed block from its slot. dst begins skip bytes into the block.
func (r *reader) readCoded(c *blockcrypt.BlockCipher, block uint64, e *meta.Entry, dst []byte, skip int) error {
	loan, buf := borrow(int(e.StoredLen))
	defer loan.giveBack()
	if err := r.readSlot(buf, block); err != nil {
		return err
	}
	return placed(dst, skip, int(e.PlainLen), func(plain []byte) error { return r.f.openCoded(c, r.plane.Index(block), e, buf, plain) })
}

// openCoded opens and decompresses a block, given by its index in the object. ciphertext is only read; plain has the block's length.
func (f *File) openCoded(c *blockcrypt.BlockCipher, index uint64, e *meta.Entry, ciphertext, plain []byte) error {
	loan, coded := borrow(len(ciphertext))
	defer loan.giveBack()
	if err := c.OpenCoded(coded, ciphertext, index, sealedOf(e), blockcrypt.Coding{Codec: uint8(e.Codec), Plain: e.PlainLen}); err != nil {
		return err
	}
	return f.e.coder.Decompress(plain, coded, e.Codec)
}

// punchTail makes a hole of the pages of a slot behind n bytes of ciphertext, which a longer version may have left. Where there is no room
// for that, they stay as they are until the block is written again.
func punchTail(obj *object.File, slot int64, n, blockSize int) error {
	n = pages(n)
	if n >= blockSize {
		return nil
	}
	err := obj.Punch(slot+int64(n), int64(blockSize-n))
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return nil
	}
	return err
}

// punchTail is punchTail for a block that was written to its slot. Where it has an image, the slot may hold what a crash brings back, and settling the
// image will do it. Called with mu held for writing.
func (f *File) punchTail(obj *object.File, p meta.Plane, block uint64, e *meta.Entry) error {
	if f.mayHaveImage(block) {
		return nil
	}
	return punchTail(obj, p.Slot(block), int(e.StoredLen), p.BlockSize)
}
