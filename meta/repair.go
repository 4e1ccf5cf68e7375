package meta

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// RecoveryReport says what Finish did.
type RecoveryReport struct {
	Verified int // blocks whose ciphertext was there
	Lost     int // blocks that became holes again
	Files    int // inodes changed
	Shrunk   int // of these, inodes whose size went back
}

// VerifyFunc reads the slot of a block of a's object and reports whether it holds the ciphertext that e describes, by e.CRC. A missing or
// short object is false, an I/O error is an error.
type VerifyFunc = func(a *Attr, block uint64, e Entry) (bool, error)

// Finish verifies every block that no marker covers. Entries that do not match become holes, as they were before. If nothing but holes is
// left from such a block to the end, the size goes back to the start of the block, but not below what it was before the first block in
// doubt, or at the last change of size without data. Inodes that are gone are skipped. It runs once, after the KV store is open and
// before anything else uses the volume. A crash during Finish is repaired by the next one. Errors: verify's, and those of Update.
func (r *Recovery) Finish(ctx context.Context, s *Store, verify VerifyFunc) (RecoveryReport, error) {
	var report RecoveryReport
	for _, ino := range slices.Sorted(maps.Keys(r.files)) {
		if err := r.finish(ctx, s, ino, verify, &report); err != nil {
			return report, wrapIno("recover blocks", ino, err)
		}
		delete(r.files, ino)
	}
	return report, nil
}

func (r *Recovery) finish(ctx context.Context, s *Store, ino Ino, verify VerifyFunc, report *RecoveryReport) error {
	f := r.files[ino]
	fix := repair{ino: ino, floor: f.floor}
	err := s.View(ctx, func(tx *Tx) error {
		a, err := tx.Attr(ino)
		if err != nil {
			return err
		}
		for _, row := range slices.Sorted(maps.Keys(f.rows)) {
			if err := fix.verifyRow(tx, a, row, f.rows[row], verify, report); err != nil {
				return err
			}
		}
		return fix.plan(tx, a)
	})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil || len(fix.rows) == 0 {
		return err
	}
	report.Files++
	if fix.shrink {
		report.Shrunk++
	}
	return fix.apply(ctx, s)
}

// repair is what has to be done to one inode.
type repair struct {
	ino    Ino
	floor  uint64
	rows   []lostRow // ascending
	shrink bool
	size   uint64 // new size if shrink
}

type lostRow struct {
	row uint64
	set uint32
}

// lost reports whether block is lost.
func (fix *repair) lost(block uint64) bool {
	row, i := RowOf(block)
	at, ok := slices.BinarySearchFunc(fix.rows, row, func(l lostRow, row uint64) int {
		switch {
		case l.row < row:
			return -1
		case l.row > row:
			return 1
		}
		return 0
	})
	return ok && fix.rows[at].set&(1<<i) != 0
}

func (fix *repair) verifyRow(tx *Tx, a *Attr, row uint64, set uint32, verify VerifyFunc, report *RecoveryReport) error {
	m, err := tx.MapRow(fix.ino, row)
	if err != nil || m == nil {
		return err
	}
	lost := lostRow{row: row}
	for i := range m {
		if set&(1<<i) == 0 || !m[i].Present {
			continue
		}
		block := row*MapRowBlocks + uint64(i)
		ok, err := verify(a, block, m[i])
		if err != nil {
			return fmt.Errorf("verify block %d: %w", block, err)
		}
		if ok {
			report.Verified++
		} else {
			report.Lost++
			lost.set |= 1 << i
		}
	}
	if lost.set != 0 {
		fix.rows = append(fix.rows, lost)
	}
	return nil
}

// plan finds the size: the start of the first lost block behind which nothing is left.
func (fix *repair) plan(tx *Tx, a *Attr) error {
	if len(fix.rows) == 0 {
		return nil
	}
	start := func(block uint64) uint64 { // every block in question has a plane: entries belong to one
		p, _ := a.PlaneOf(block)
		return p.Start(block)
	}
	var left uint64 // behind the start of the last block that stays
	for _, p := range a.Planes() {
		from, _ := RowOf(p.Base)
		err := tx.ScanMap(fix.ino, max(from, fix.firstRow(p)), func(row uint64, m *MapRow) bool {
			for i := range m {
				if block := row*MapRowBlocks + uint64(i); m[i].Present && p.Has(block) && !fix.lost(block) {
					left = max(left, p.Start(block)+1)
				}
			}
			return p.Has(row * MapRowBlocks)
		})
		if err != nil {
			return err
		}
	}
	size, found := uint64(0), false
	for _, l := range fix.rows {
		for i := range uint64(MapRowBlocks) {
			block := l.row*MapRowBlocks + i
			if l.set&(1<<i) == 0 || start(block) < left {
				continue
			}
			if at := start(block); !found || at < size {
				size, found = at, true
			}
		}
	}
	if found {
		size = max(size, fix.floor)
		fix.shrink, fix.size = size < a.Size, size
	}
	return nil
}

// firstRow returns the first row of a plane that lost something, 0 if it is none.
func (fix *repair) firstRow(p Plane) uint64 {
	for _, l := range fix.rows {
		if p.Has(l.row * MapRowBlocks) {
			return l.row
		}
	}
	return 0
}

// apply makes holes of lost entries. The size changes with the first ones, so that a crash in between leaves nothing half done: what is
// left is found in doubt again.
func (fix *repair) apply(ctx context.Context, s *Store) error {
	for batch := range slices.Chunk(fix.rows, s.batch) {
		_, err := s.Update(ctx, func(tx *Tx) error {
			a, err := tx.Attr(fix.ino)
			if err != nil {
				return err
			}
			for _, l := range batch {
				if err := fix.clearRow(tx, a, l); err != nil {
					return err
				}
			}
			if fix.shrink && a.Size > fix.size {
				a.Size = fix.size
			}
			return tx.PutAttr(a)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (fix *repair) clearRow(tx *Tx, a *Attr, l lostRow) error {
	m, err := tx.MapRow(fix.ino, l.row)
	if err != nil || m == nil {
		return err
	}
	for i := range m {
		if l.set&(1<<i) == 0 {
			continue
		}
		if gone := m[i].Allocated(); gone > a.Allocated {
			return fmt.Errorf("%d bytes allocated, block takes %d: %w", a.Allocated, gone, ErrCorrupt)
		}
		a.Allocated -= m[i].Allocated()
		m[i] = Entry{}
	}
	return tx.PutMapRow(fix.ino, l.row, m)
}
