package meta

import (
	"fmt"
	"iter"
	"math/bits"

	"github.com/kmsfs/kmsfs/blockcrypt"
)

// Recovery collects, while a KV store replays its journal, the blocks whose ciphertext may not have reached its slot before a power cut, and
// repairs their map entries afterwards (docs/FORMAT.md, section 9). It belongs to one goroutine. It needs no zone keys. Its memory is some
// 100 bytes per map row with such blocks, so it is bounded by the journal's size.
//
// A block is in doubt from the record that changes its map entry without bringing an image of it, until a marker of its inode, an image,
// or the entry's removal. Such a block lay in a virgin slot, so its entry was absent before.
type Recovery struct {
	rows  *rowSealer
	files map[Ino]*doubt
}

// doubt is what is in doubt of one inode.
type doubt struct {
	rows  map[uint64]uint32 // map row to the set of entries
	floor uint64            // size that does not depend on them
}

// NewRecovery returns an empty Recovery. rowsKey is not kept.
func NewRecovery(volume VolumeID, rowsKey *blockcrypt.Key) (*Recovery, error) {
	rows, err := newRowSealer(volume, rowsKey)
	if err != nil {
		return nil, fmt.Errorf("prepare recovery: %w", err)
	}
	return &Recovery{rows: rows, files: make(map[Ino]*doubt)}, nil
}

// Pending returns how many blocks Finish will have to verify: 0 after a clean close.
func (r *Recovery) Pending() int {
	n := 0
	for _, f := range r.files {
		for _, set := range f.rows {
			n += bits.OnesCount32(set)
		}
	}
	return n
}

// Replay takes one replayed record: its puts, its deleted keys, and what a key's value was just before it (nil if absent). Records come in
// the order of their commits. Slices are only read during the call. Errors: ErrAuth, ErrCorrupt, before's.
func (r *Recovery) Replay(puts iter.Seq2[[]byte, []byte], deletes [][]byte, before func(key []byte) ([]byte, error)) error {
	rec := replayed{r: r, before: before}
	for key, value := range puts {
		if err := rec.sort(key, value); err != nil {
			return fmt.Errorf("replay: %w", err)
		}
	}
	for _, m := range rec.maps {
		if err := rec.mapRow(m.key, m.value); err != nil {
			return fmt.Errorf("replay: %w", err)
		}
	}
	for _, a := range rec.attrs {
		if err := rec.attr(a.key, a.value); err != nil {
			return fmt.Errorf("replay: %w", err)
		}
	}
	for _, key := range deletes {
		r.deleted(key)
	}
	for _, ino := range rec.markers {
		r.marker(ino)
	}
	return nil
}

// replayed is one record while it is looked at: images first, then maps, sizes, deletions, markers.
type replayed struct {
	r       *Recovery
	before  func([]byte) ([]byte, error)
	images  map[Ino]map[uint64]struct{}
	durable map[mapKey]bool // rows with a marker of their own
	maps    []rowPut
	attrs   []rowPut
	markers []Ino
	doubted map[Ino]bool // inodes with blocks that this record brings into doubt
}

type rowPut struct{ key, value []byte }

func (rec *replayed) sort(key, value []byte) error {
	if len(key) == 0 {
		return fmt.Errorf("empty key: %w", ErrCorrupt)
	}
	switch key[0] {
	case kindMap:
		rec.maps = append(rec.maps, rowPut{key, value})
	case kindAttr:
		rec.attrs = append(rec.attrs, rowPut{key, value})
	case kindMarker:
		return rec.mark(key)
	case kindImage:
		ino, block, ok := ParseImageKey(key)
		if !ok {
			return fmt.Errorf("image key: %w", ErrCorrupt)
		}
		if rec.images == nil {
			rec.images = make(map[Ino]map[uint64]struct{})
		}
		if rec.images[ino] == nil {
			rec.images[ino] = make(map[uint64]struct{})
		}
		rec.images[ino][block] = struct{}{}
		row, i := RowOf(block)
		rec.r.settle(ino, row, 1<<i)
	}
	return nil
}

// mark takes a marker: of an inode, or of one map row in this record.
func (rec *replayed) mark(key []byte) error {
	if ino, row, ok := parseIno8(kindMarker, key); ok {
		if rec.durable == nil {
			rec.durable = make(map[mapKey]bool)
		}
		rec.durable[mapKey{ino, row}] = true
		return nil
	}
	ino, ok := parseIno(kindMarker, key)
	if !ok {
		return fmt.Errorf("marker key: %w", ErrCorrupt)
	}
	rec.markers = append(rec.markers, ino)
	return nil
}

// mapRow compares a row with what it was.
func (rec *replayed) mapRow(key, value []byte) error {
	ino, row, ok := parseIno8(kindMap, key)
	if !ok {
		return fmt.Errorf("map key: %w", ErrCorrupt)
	}
	var old, m MapRow
	if err := rec.decodeBefore(key, &old); err != nil {
		return err
	}
	if err := rec.r.openMap(key, value, &m); err != nil {
		return err
	}
	var certain, direct uint32
	for i := range m {
		if m[i] == old[i] {
			continue
		}
		if _, image := rec.images[ino][row*MapRowBlocks+uint64(i)]; image || !m[i].Present || rec.durable[mapKey{ino, row}] {
			certain |= 1 << i
		} else {
			direct |= 1 << i
		}
	}
	rec.r.settle(ino, row, certain)
	if direct == 0 {
		return nil
	}
	if rec.doubted == nil {
		rec.doubted = make(map[Ino]bool)
	}
	rec.doubted[ino] = true
	return rec.doubt(ino, row, direct)
}

// doubt adds entries that were written directly. The first ones fix the size that the file had without them.
func (rec *replayed) doubt(ino Ino, row uint64, set uint32) error {
	f := rec.r.files[ino]
	if f == nil {
		size, err := rec.sizeBefore(attrKey(ino))
		if err != nil {
			return err
		}
		f = &doubt{rows: make(map[uint64]uint32), floor: size}
		rec.r.files[ino] = f
	}
	f.rows[row] |= set
	return nil
}

// attr follows the size of a file that has blocks in doubt: a change of size without such blocks stands on its own.
func (rec *replayed) attr(key, value []byte) error {
	ino, ok := parseIno(kindAttr, key)
	if !ok {
		return fmt.Errorf("inode key: %w", ErrCorrupt)
	}
	f := rec.r.files[ino]
	if f == nil {
		return nil
	}
	plain, err := rec.r.rows.open(key, value)
	if err != nil {
		return err
	}
	a, err := decodeAttr(ino, plain)
	if err != nil {
		return err
	}
	old, err := rec.sizeBefore(key)
	if err != nil {
		return err
	}
	if a.Size < f.floor || a.Size > old && !rec.doubted[ino] {
		f.floor = a.Size
	}
	return nil
}

func (rec *replayed) sizeBefore(key []byte) (uint64, error) {
	sealed, err := rec.before(key)
	if err != nil || sealed == nil {
		return 0, err
	}
	plain, err := rec.r.rows.open(key, sealed)
	if err != nil {
		return 0, err
	}
	ino, _ := parseIno(kindAttr, key)
	a, err := decodeAttr(ino, plain)
	if err != nil {
		return 0, err
	}
	return a.Size, nil
}

func (rec *replayed) decodeBefore(key []byte, m *MapRow) error {
	sealed, err := rec.before(key)
	if err != nil || sealed == nil {
		return err
	}
	return rec.r.openMap(key, sealed, m)
}

func (r *Recovery) openMap(key, sealed []byte, m *MapRow) error {
	plain, err := r.rows.open(key, sealed)
	if err != nil {
		return err
	}
	return DecodeMapRow(plain, m)
}

// settle takes entries out of doubt.
func (r *Recovery) settle(ino Ino, row uint64, set uint32) {
	f := r.files[ino]
	if f == nil {
		return
	}
	if f.rows[row] &^= set; f.rows[row] == 0 {
		delete(f.rows, row)
	}
	if len(f.rows) == 0 {
		delete(r.files, ino)
	}
}

func (r *Recovery) deleted(key []byte) {
	if ino, row, ok := parseIno8(kindMap, key); ok {
		r.settle(ino, row, ^uint32(0))
	} else if ino, ok := parseIno(kindAttr, key); ok {
		delete(r.files, ino)
	}
}

func (r *Recovery) marker(ino Ino) {
	if ino == 0 {
		clear(r.files)
		return
	}
	delete(r.files, ino)
}
