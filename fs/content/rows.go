package content

import (
	"context"
	"fmt"

	"github.com/kmsfs/kmsfs/meta"
)

// noEntries stands for a map row that is absent.
var noEntries meta.MapRow

// mapRows appends the map rows that cover blocks [first, end) to rows. They are shared and must not be changed. Called with mu held: the File is
// the only one to change its rows, so what is cached is what is committed.
func (f *File) mapRows(ctx context.Context, first, end uint64, rows []*meta.MapRow) ([]*meta.MapRow, error) {
	from, _ := meta.RowOf(first)
	to, _ := meta.RowOf(end - 1)
	missing := false
	for row := from; row <= to; row++ {
		m, ok := f.e.rows.get(rowKey{f.ino, row})
		missing = missing || !ok
		rows = append(rows, m)
	}
	if !missing {
		return rows, nil
	}
	err := f.e.meta.View(ctx, func(tx *meta.Tx) error {
		for i := range rows {
			if rows[i] != nil {
				continue
			}
			m, err := tx.MapRow(f.ino, from+uint64(i))
			if err != nil {
				return err
			}
			if err := f.checkRow(from+uint64(i), m); err != nil {
				return fmt.Errorf("map row %d: %w", from+uint64(i), err)
			}
			if m == nil {
				m = &noEntries
			}
			rows[i] = m
			f.e.rows.put(rowKey{f.ino, from + uint64(i)}, m)
		}
		return nil
	})
	return rows, err
}

// checkRow holds an authentic row against the file: no block is longer than the file's. What is stored of one is no longer than the block. Called with
// mu held.
func (f *File) checkRow(row uint64, m *meta.MapRow) error {
	if m == nil {
		return nil
	}
	size := f.st.planeOf(row * meta.MapRowBlocks).BlockSize
	for i := range m {
		if int(m[i].PlainLen) > size {
			return fmt.Errorf("entry %d of %d bytes, block size %d: %w", i, m[i].PlainLen, size, meta.ErrCorrupt)
		}
	}
	return nil
}

// entryIn returns the entry of block among rows that begin with the row of first.
func entryIn(rows []*meta.MapRow, first, block uint64) *meta.Entry {
	from, _ := meta.RowOf(first)
	row, i := meta.RowOf(block)
	return &rows[row-from][i]
}

// mapped is a row read from the store.
type mapped struct {
	row uint64
	m   meta.MapRow
}

// first returns the row's first block.
func (r *mapped) first() uint64 { return r.row * meta.MapRowBlocks }

// rowsIn returns the non-empty rows of [from, to], at most limit, and whether there are more. Called with mu held.
func (f *File) rowsIn(ctx context.Context, from, to uint64, limit int) (rows []mapped, more bool, err error) {
	err = f.e.meta.View(ctx, func(tx *meta.Tx) error {
		var bad error
		err := tx.ScanMap(f.ino, from, func(row uint64, m *meta.MapRow) bool {
			if row > to {
				return false
			}
			if len(rows) == limit {
				more = true
				return false
			}
			if bad = f.checkRow(row, m); bad != nil {
				return false
			}
			rows = append(rows, mapped{row, *m})
			return true
		})
		if err == nil {
			err = bad
		}
		return err
	})
	return rows, more, err
}
