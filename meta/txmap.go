package meta

import "fmt"

type mapKey struct {
	ino Ino
	row uint64
}

// txMap is a map row as a transaction sees it.
type txMap struct {
	cur   *MapRow // as it will be, nil if absent
	dirty bool    // put by the transaction; else as read from the store
}

// MapRow returns a private copy of a map row, or nil if all its blocks are holes.
func (tx *Tx) MapRow(ino Ino, row uint64) (*MapRow, error) {
	e, err := tx.loadMap(ino, row)
	if err != nil || e.cur == nil {
		return nil, err
	}
	m := *e.cur
	return &m, nil
}

// PutMapRow replaces a map row, without reading it: two transactions that put one row do not notice each other unless they have read something that the other
// changes, such as the inode's row. A row of holes only is deleted. m is copied. Present entries that differ from the row before and have no
// PutImage in this transaction count as written directly to their slots: recovery verifies these after a power cut, unless a marker
// covers them. ErrInvalid for lengths or codecs that the format does not allow.
func (tx *Tx) PutMapRow(ino Ino, row uint64, m *MapRow) error {
	if err := tx.writable(); err != nil {
		return err
	}
	if err := checkMapRow(m); err != nil {
		return fmt.Errorf("put map row %d of inode %d: %w: %w", row, ino, ErrInvalid, err)
	}
	e := &txMap{dirty: true}
	if !m.Empty() {
		c := *m
		e.cur = &c
	}
	tx.putMap(mapKey{ino, row}, e)
	return nil
}

func (tx *Tx) putMap(id mapKey, e *txMap) {
	if tx.maps == nil {
		tx.maps = make(map[mapKey]*txMap, 4)
	}
	tx.maps[id] = e
}

// DeleteMapRow makes holes of all blocks of a row. Deleting an absent row is no error.
func (tx *Tx) DeleteMapRow(ino Ino, row uint64) error {
	return tx.PutMapRow(ino, row, &MapRow{})
}

// ScanMap calls fn for every map row of ino from fromRow on, in ascending order, until fn returns false. m is reused for the next row. Rows
// put earlier in the same transaction are not seen.
func (tx *Tx) ScanMap(ino Ino, fromRow uint64, fn func(row uint64, m *MapRow) bool) error {
	lo, hi := mapRowKey(ino, fromRow), afterPrefix(inoKey(kindMap, ino))
	var m MapRow
	var failed error
	err := tx.r.Scan(tx.ctx, lo, hi, 0, func(k, v []byte) bool {
		_, row, ok := parseIno8(kindMap, k)
		if !ok {
			failed = fmt.Errorf("map row key of inode %d: %w", ino, ErrCorrupt)
			return false
		}
		if failed = tx.s.openMapRow(k, v, &m); failed != nil {
			return false
		}
		return fn(row, &m)
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("scan map of inode %d: %w", ino, err)
	}
	return nil
}

func (tx *Tx) loadMap(ino Ino, row uint64) (*txMap, error) {
	id := mapKey{ino, row}
	if e := tx.maps[id]; e != nil {
		return e, nil
	}
	key := mapRowKey(ino, row)
	sealed, err := tx.get(key)
	if err != nil {
		return nil, fmt.Errorf("read map row %d of inode %d: %w", row, ino, err)
	}
	e := &txMap{}
	if sealed != nil {
		e.cur = new(MapRow)
		if err := tx.s.openMapRow(key, sealed, e.cur); err != nil {
			return nil, fmt.Errorf("read map row %d of inode %d: %w", row, ino, err)
		}
	}
	tx.putMap(id, e)
	return e, nil
}

// openMapRow opens and decodes a sealed map row into m.
func (s *Store) openMapRow(key, sealed []byte, m *MapRow) error {
	plain, err := s.rows.open(key, sealed)
	if err != nil {
		return err
	}
	return DecodeMapRow(plain, m)
}

// flushMaps seals and puts the changed map rows.
func (tx *Tx) flushMaps() error {
	for id, e := range tx.maps {
		if !e.dirty {
			continue
		}
		key := mapRowKey(id.ino, id.row)
		if e.cur == nil {
			tx.w.Delete(key)
			continue
		}
		sealed, err := tx.s.rows.seal(key, EncodeMapRow(nil, e.cur))
		if err != nil {
			return fmt.Errorf("seal map row %d of inode %d: %w", id.row, id.ino, err)
		}
		tx.w.Put(key, sealed)
	}
	return nil
}
