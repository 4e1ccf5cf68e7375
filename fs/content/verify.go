package content

import (
	"errors"
	"fmt"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/fs/object"
	"github.com/kmsfs/kmsfs/meta"
)

// Verifier returns the function that meta.Recovery.Finish asks about each block that was written directly and is covered by no marker: whether
// the slot holds the ciphertext that the entry describes (by length and checksum). A slot or object that is not there is false; only a failure to
// read is an error. It belongs to one goroutine.
func Verifier(objects *object.Store, namer *blockcrypt.ObjectNamer) func(a *meta.Attr, block uint64, entry meta.Entry) (bool, error) {
	return func(a *meta.Attr, block uint64, entry meta.Entry) (bool, error) {
		p, ok := a.PlaneOf(block)
		if !ok || !entry.Present || int(entry.StoredLen) > p.BlockSize {
			return false, nil
		}
		loan, buf := borrow(int(entry.StoredLen))
		defer loan.giveBack()
		obj, err := objects.Get(object.ID(namer.ID(uint64(a.Ino), p.Serial)))
		if err == nil {
			err = obj.ReadAt(buf, p.Slot(block))
			obj.Release()
		}
		switch {
		case err == nil:
			return blockcrypt.Checksum(buf) == entry.CRC, nil
		case errors.Is(err, object.ErrMissing), errors.Is(err, object.ErrTruncated), errors.Is(err, object.ErrHostile):
			return false, nil
		default:
			return false, fmt.Errorf("verify block %d of inode %d: %w", block, a.Ino, err)
		}
	}
}
