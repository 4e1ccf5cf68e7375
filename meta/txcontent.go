package meta

import (
	"errors"
	"fmt"

	"github.com/kmsfs/kmsfs/blockcrypt"
)

// Image returns the image of a block that is not settled yet, header and ciphertext, or nil. Read-only; valid until the transaction's fn returns.
func (tx *Tx) Image(ino Ino, block uint64) ([]byte, error) {
	v, err := tx.get(ImageKey(ino, block))
	if err != nil {
		return nil, fmt.Errorf("read image of block %d of inode %d: %w", block, ino, err)
	}
	return v, nil
}

// PutImage puts a block's ciphertext into the journal, behind the header for settling (ImageHeader); its map entry is put in the same
// transaction. Ownership of image passes to the transaction. ErrInvalid unless it has ImageHeader+1 to MaxImage bytes.
func (tx *Tx) PutImage(ino Ino, block uint64, image []byte) error {
	if err := tx.writable(); err != nil {
		return err
	}
	if len(image) <= ImageHeader || len(image) > MaxImage {
		return fmt.Errorf("image of %d bytes for block %d of inode %d: %w", len(image), block, ino, ErrInvalid)
	}
	tx.w.Put(ImageKey(ino, block), image)
	return nil
}

// DeleteImage drops an image whose block is no longer mapped. Dropping an absent one is no error.
func (tx *Tx) DeleteImage(ino Ino, block uint64) error {
	if err := tx.writable(); err != nil {
		return err
	}
	tx.w.Delete(ImageKey(ino, block))
	return nil
}

// ScanImages calls fn for every image of ino whose block is in [from, to), in ascending order, until fn returns false. image is
// read-only and valid until the transaction's fn returns.
func (tx *Tx) ScanImages(ino Ino, from, to uint64, fn func(block uint64, image []byte) bool) error {
	if from >= to {
		return nil
	}
	bad := false
	err := tx.r.Scan(tx.ctx, ImageKey(ino, from), ImageKey(ino, to), 0, func(k, v []byte) bool {
		_, block, ok := ParseImageKey(k)
		if !ok {
			bad = true
			return false
		}
		return fn(block, v)
	})
	if err == nil && bad {
		err = ErrCorrupt
	}
	if err != nil {
		return fmt.Errorf("scan images of inode %d: %w", ino, err)
	}
	return nil
}

// Inline is the inline content of a small file.
type Inline struct {
	Epoch  uint32 // key epoch it is sealed under
	Codec  Codec  // that it was compressed by before
	Plain  uint32 // bytes that it decompresses to; 0 without a codec
	Sealed []byte // as BlockCipher.SealInline makes it, or SealInlineCoded
}

// PlainLen returns how many bytes the content is.
func (in *Inline) PlainLen() int {
	if in.Codec != CodecNone {
		return int(in.Plain)
	}
	return len(in.Sealed) - minInline
}

// check holds the rules of inline rows. Its errors carry no sentinel.
func (in *Inline) check() error {
	n := len(in.Sealed)
	switch {
	case in.Epoch == 0, n < minInline, n > maxInline, in.Codec > CodecZstd:
	case in.Codec == CodecNone && in.Plain == 0:
		return nil
	case in.Codec != CodecNone && in.Plain <= blockcrypt.MaxInline && n > minInline && n-minInline < int(in.Plain):
		return nil
	}
	return fmt.Errorf("%d bytes, epoch %d, codec %d for %d bytes", n, in.Epoch, in.Codec, in.Plain)
}

// Inline returns the inline content of ino, or nil if it has none. Sealed is read-only and valid until the transaction's fn returns.
func (tx *Tx) Inline(ino Ino) (*Inline, error) {
	v, err := tx.get(inoKey(kindInline, ino))
	if err != nil || v == nil {
		return nil, wrapIno("read inline content", ino, err)
	}
	in, err := decodeInline(v)
	if err != nil {
		return nil, wrapIno("read inline content", ino, err)
	}
	return in, nil
}

// PutInline replaces the inline content; in.Sealed is copied. ErrInvalid if it is shorter than an empty sealed content, does not fit
// a row, or is not shorter than what it decompresses to.
func (tx *Tx) PutInline(ino Ino, in Inline) error {
	if err := tx.writable(); err != nil {
		return err
	}
	if err := in.check(); err != nil {
		return fmt.Errorf("inline content of inode %d: %w: %w", ino, err, ErrInvalid)
	}
	tx.w.Put(inoKey(kindInline, ino), encodeInline(&in))
	return nil
}

// DeleteInline removes the inline content; removing an absent one is no error.
func (tx *Tx) DeleteInline(ino Ino) error {
	if err := tx.writable(); err != nil {
		return err
	}
	tx.w.Delete(inoKey(kindInline, ino))
	return nil
}

// PutMarker states that everything that transactions up to this one wrote directly to slots of ino (of all inodes if ino is 0) is durable in
// its object. The caller guarantees that no such transaction was committed after it began to sync the object, this one included.
func (tx *Tx) PutMarker(ino Ino) error {
	if err := tx.writable(); err != nil {
		return err
	}
	tx.w.Put(MarkerKey(ino), []byte{rowVersion})
	return nil
}

// PutRowMarker states that what this transaction puts into a map row is durable in its slots already, and says nothing of other blocks.
func (tx *Tx) PutRowMarker(ino Ino, row uint64) error {
	if err := tx.writable(); err != nil {
		return err
	}
	tx.w.Put(rowMarkerKey(ino, row), []byte{rowVersion})
	return nil
}

func wrapIno(op string, ino Ino, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s of inode %d: %w", op, ino, err)
}

// missing turns the absence of a row that another row points to into ErrCorrupt. Other errors stay what they are.
func missing(err error) error {
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w (%v)", ErrCorrupt, err)
	}
	return err
}
