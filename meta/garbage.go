package meta

import (
	"fmt"
	"math"
)

// GarbageOp says what is to be destroyed.
type GarbageOp uint8

const (
	// GarbageObject: remove the object of (Ino, Serial). First and Count are 0.
	GarbageObject GarbageOp = 0
	// GarbagePunch: punch the slots of blocks [First, First+Count) of the object. Count is ToEnd for all from First on, where the object is
	// truncated instead.
	GarbagePunch GarbageOp = 1
)

// ToEnd as Garbage.Count means all blocks from First on.
const ToEnd uint64 = math.MaxUint64

// Garbage is something to destroy, but only after a checkpoint that includes the transaction that put it.
type Garbage struct {
	Ino    Ino
	Serial uint64
	Op     GarbageOp
	First  uint64
	Count  uint64
}

func (g *Garbage) check() error {
	switch {
	case g.Ino == 0 || g.Serial == 0,
		g.Op != GarbageObject && g.Op != GarbagePunch,
		g.Op == GarbageObject && (g.First != 0 || g.Count != 0),
		g.Op == GarbagePunch && g.Count == 0,
		g.Op == GarbagePunch && g.Count != ToEnd && g.First+g.Count < g.First:
		return ErrInvalid
	}
	return nil
}

// PutGarbage records something to destroy. Of equal (Ino, Serial, Op, First) the last one stays. ErrInvalid for a record that makes no
// sense.
func (tx *Tx) PutGarbage(g Garbage) error {
	if err := tx.writable(); err != nil {
		return err
	}
	if err := g.check(); err != nil {
		return fmt.Errorf("garbage %+v: %w", g, err)
	}
	key := garbageKey(&g)
	sealed, err := tx.s.rows.seal(key, encodeGarbage(&g))
	if err != nil {
		return err
	}
	tx.w.Put(key, sealed)
	return nil
}

// DeleteGarbage removes a record once it is carried out, or taken back. Removing an absent one is no error.
func (tx *Tx) DeleteGarbage(g Garbage) error {
	if err := tx.writable(); err != nil {
		return err
	}
	tx.w.Delete(garbageKey(&g))
	return nil
}

// ScanGarbage calls fn for every record after the place of after (the zero Garbage: from the first on) in ascending order of (Ino, Serial,
// Op, First) until fn returns false.
func (tx *Tx) ScanGarbage(after Garbage, fn func(Garbage) bool) error {
	lo := []byte{kindGarbage}
	if after.Ino != 0 {
		lo = append(garbageKey(&after), 0)
	}
	var failed error
	err := tx.r.Scan(tx.ctx, lo, []byte{kindGarbage + 1}, 0, func(k, v []byte) bool {
		g, err := tx.s.openGarbage(k, v)
		if err != nil {
			failed = err
			return false
		}
		return fn(g)
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("scan garbage: %w", err)
	}
	return nil
}

func (s *Store) openGarbage(key, sealed []byte) (Garbage, error) {
	g, ok := parseGarbageKey(key)
	if !ok {
		return g, fmt.Errorf("garbage key: %w", ErrCorrupt)
	}
	plain, err := s.rows.open(key, sealed)
	if err != nil {
		return g, err
	}
	if err := decodeGarbage(plain, &g); err != nil {
		return g, err
	}
	return g, nil
}
