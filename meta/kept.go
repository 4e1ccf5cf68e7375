package meta

import (
	"context"
	"encoding/binary"
	"fmt"
)

// Limits of a Kept and of how many there may be.
const (
	MaxKept      = 4096
	MaxKeptText  = 1024
	MaxKeptKey   = 1024
	MaxKeptValue = 96 << 10
)

// Kept is the row of something that was found damaged and could not be put right. What is damaged stays where it is, and fails as it did: the row says what
// it is, and holds a copy of the damaged row, so that nothing of it is lost if that is replaced. It has no names: they are known by the inode.
type Kept struct {
	ID             uint64 // from 1
	Found          Time   // when it was first found
	Ino            Ino    // 0: it is not known which
	Offset, Length uint64 // bytes of the file that cannot be read; Length 0: it is not about content
	Where, What    string // as fsck says; Where names it: there is one row for each. At most MaxKeptText bytes
	Key, Value     []byte // of the damaged row, as it lay in the store; empty: it is no row, or could not be read, or is longer than MaxKeptValue
}

func (k *Kept) check() error {
	if k.ID == 0 || k.Found.Nsec > 999999999 || k.Where == "" || len(k.Where) > MaxKeptText || len(k.What) > MaxKeptText ||
		len(k.Key) > MaxKeptKey || len(k.Value) > MaxKeptValue || k.Offset+k.Length < k.Offset {
		return fmt.Errorf("kept %d, of %.80q", k.ID, k.Where)
	}
	return nil
}

func encodeKept(k *Kept) []byte {
	b := appendTime([]byte{rowVersion}, k.Found)
	for _, v := range [...]uint64{uint64(k.Ino), k.Offset, k.Length} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	for _, s := range [...]string{k.Where, k.What, string(k.Key)} {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
	}
	return append(b, k.Value...)
}

func decodeKept(id uint64, b []byte) (*Kept, error) {
	d := newDecoder(b, "kept")
	k := &Kept{ID: id, Found: d.time(), Ino: Ino(d.u64()), Offset: d.u64(), Length: d.u64()}
	k.Where, k.What = string(d.take(int(d.u16()))), string(d.take(int(d.u16())))
	k.Key = append([]byte(nil), d.take(int(d.u16()))...)
	k.Value = append([]byte(nil), d.take(len(d.b))...)
	if err := d.done(); err != nil {
		return nil, err
	}
	if err := k.check(); err != nil {
		return nil, fmt.Errorf("kept row: %w: %w", err, ErrCorrupt)
	}
	return k, nil
}

func (s *Store) openKept(key, sealed []byte) (*Kept, error) {
	id, ok := parseIno(kindKept, key)
	if !ok {
		return nil, fmt.Errorf("kept key: %w", ErrCorrupt)
	}
	plain, err := s.rows.open(key, sealed)
	if err != nil {
		return nil, err
	}
	return decodeKept(uint64(id), plain)
}

// PutKept replaces the row of k.ID; with k.ID 0 it adds one under the next number, which k is given. ErrInvalid for a row outside the limits.
func (s *Store) PutKept(ctx context.Context, k *Kept) error {
	fresh := k.ID == 0
	_, err := s.Update(ctx, func(tx *Tx) error {
		if fresh {
			k.ID = 1
			if err := tx.scanKept(func(other *Kept) bool { k.ID = other.ID + 1; return true }); err != nil {
				return err
			}
		}
		if err := k.check(); err != nil {
			return fmt.Errorf("put %w: %w", err, ErrInvalid)
		}
		key := inoKey(kindKept, Ino(k.ID))
		sealed, err := s.rows.seal(key, encodeKept(k))
		if err == nil {
			tx.w.Put(key, sealed)
		}
		return err
	})
	return err
}

// DeleteKept deletes a row. An absent one is no error.
func (s *Store) DeleteKept(ctx context.Context, id uint64) error {
	_, err := s.Update(ctx, func(tx *Tx) error {
		tx.w.Delete(inoKey(kindKept, Ino(id)))
		return nil
	})
	return err
}

// Kept returns all such rows in the order of their numbers.
func (s *Store) Kept(ctx context.Context) (all []*Kept, err error) {
	err = s.View(ctx, func(tx *Tx) error {
		return tx.scanKept(func(k *Kept) bool {
			all = append(all, k)
			return true
		})
	})
	return all, err
}

func (tx *Tx) scanKept(fn func(*Kept) bool) error {
	return scanRows(tx, kindKept, "kept rows", tx.s.openKept, fn)
}

// scanRows opens each row of a kind in the order of their keys and calls fn with it until it returns false. what names them in errors.
func scanRows[T any](tx *Tx, kind byte, what string, open func(key, sealed []byte) (T, error), fn func(T) bool) error {
	var failed error
	err := tx.r.Scan(tx.ctx, []byte{kind}, []byte{kind + 1}, 0, func(key, sealed []byte) bool {
		var row T
		if row, failed = open(key, sealed); failed != nil {
			return false
		}
		return fn(row)
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("scan %s: %w", what, err)
	}
	return nil
}

// RawRow returns a row as it lies in the store, whether or not it opens; nil if it is absent. kv.ErrTampered and others where it cannot be read.
func (s *Store) RawRow(ctx context.Context, key []byte) (value []byte, err error) {
	err = s.View(ctx, func(tx *Tx) error {
		v, err := tx.get(key)
		value = append([]byte(nil), v...)
		return err
	})
	return value, err
}
