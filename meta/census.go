package meta

import (
	"fmt"
)

// Sealed counts what of a file is sealed under each of its epochs.
type Sealed struct {
	Blocks map[uint32]uint64
	Inline uint32 // epoch of the inline content; 0: there is none
}

// ScanInodes calls fn with at most limit inode rows above after, in ascending order, until it returns false. They are not the transaction's own view: what
// it has changed itself is not seen. A row that does not open ends the scan with ErrAuth or ErrCorrupt.
func (tx *Tx) ScanInodes(after Ino, limit int, fn func(a *Attr) bool) error {
	var failed error
	err := tx.r.Scan(tx.ctx, append(attrKey(after), 0), []byte{kindAttr + 1}, limit, func(k, v []byte) bool {
		ino, ok := parseIno(kindAttr, k)
		if !ok {
			failed = fmt.Errorf("inode key: %w", ErrCorrupt)
			return false
		}
		plain, err := tx.s.rows.open(k, v)
		var a *Attr
		if err == nil {
			a, err = decodeAttr(ino, plain)
		}
		if err != nil {
			failed = fmt.Errorf("inode %d: %w", ino, err)
			return false
		}
		return fn(a)
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("scan inodes: %w", err)
	}
	return nil
}

// SealedUnder counts by epoch what of a file is sealed.
func (tx *Tx) SealedUnder(ino Ino) (s Sealed, err error) {
	s.Blocks = map[uint32]uint64{}
	err = tx.ScanMap(ino, 0, func(_ uint64, m *MapRow) bool {
		for i := range m {
			if m[i].Present {
				s.Blocks[m[i].Epoch]++
			}
		}
		return true
	})
	if err != nil {
		return s, err
	}
	in, err := tx.Inline(ino)
	if in != nil {
		s.Inline = in.Epoch
	}
	return s, err
}
