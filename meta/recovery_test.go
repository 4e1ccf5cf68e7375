package meta_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"testing"

	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv"
	"github.com/kmsfs/kmsfs/meta/kv/memory"
	"github.com/kmsfs/kmsfs/meta/metatest"
)

// journal is a KV store that remembers the transactions committed since the last checkpoint, as kv/local's journal does.
type journal struct {
	kv.Store
	base    map[string][]byte // rows at the checkpoint
	records []record
}

type record struct {
	puts    map[string][]byte
	deletes [][]byte
}

// recordTxn notes what a transaction writes.
type recordTxn struct {
	kv.Txn
	rec record
}

func (x *recordTxn) Put(k, v []byte) {
	x.rec.puts[string(k)] = bytes.Clone(v)
	x.Txn.Put(k, v)
}

func (x *recordTxn) Delete(k []byte) {
	delete(x.rec.puts, string(k))
	x.rec.deletes = append(x.rec.deletes, bytes.Clone(k))
	x.Txn.Delete(k)
}

func (j *journal) Update(ctx context.Context, id kv.OpID, fn func(kv.Txn) error) (kv.Rev, error) {
	var x *recordTxn
	rev, err := j.Store.Update(ctx, id, func(tx kv.Txn) error {
		x = &recordTxn{Txn: tx, rec: record{puts: map[string][]byte{}}}
		return fn(x)
	})
	if err == nil {
		j.records = append(j.records, x.rec)
	}
	return rev, err
}

func (j *journal) checkpoint(t *testing.T) {
	j.base, j.records = map[string][]byte{}, nil
	for _, r := range rows(t, j.Store, 0) {
		j.base[string(r.key)] = r.value
	}
}

// crashFile is a file whose blocks are written the way the content engine does, with slots that may have been lost.
type crashFile struct {
	*tree
	log   *journal
	ino   meta.Ino
	slots map[uint64]uint32 // block to the CRC of what is in its slot
	crc   uint32
}

func newCrashFile(t *testing.T) *crashFile {
	j := &journal{Store: memory.New()}
	v := &tree{metatest.NewVolumeOn(t, j), t}
	f := &crashFile{tree: v, log: j, slots: map[uint64]uint32{}}
	f.ino = v.file(meta.RootIno, "f").Ino
	j.checkpoint(t)
	return f
}

const blockSize = meta.DefaultBlockSize

func (f *crashFile) do(fn func(tx *meta.Tx, a *meta.Attr) error) {
	f.t.Helper()
	_, err := f.Update(bg, func(tx *meta.Tx) error {
		a, err := tx.Attr(f.ino)
		if err != nil {
			return err
		}
		return fn(tx, a)
	})
	want(f.t, "update", err, nil)
}

// set maps block with a fresh CRC in a transaction.
func (f *crashFile) set(tx *meta.Tx, block uint64) error {
	f.crc++
	if err := putBlock(tx, f.ino, block, byte(f.crc)); err != nil {
		return err
	}
	return nil
}

// direct writes blocks to their slots and then their entries, in one transaction. lost: the slots do not survive.
func (f *crashFile) direct(lost bool, blocks ...uint64) {
	f.t.Helper()
	f.do(func(tx *meta.Tx, _ *meta.Attr) error {
		for _, b := range blocks {
			if err := f.set(tx, b); err != nil {
				return err
			}
			delete(f.slots, b)
			if !lost {
				f.slots[b] = uint32(byte(f.crc))
			}
		}
		return nil
	})
}

// image writes a block through the journal.
func (f *crashFile) image(block uint64) {
	f.t.Helper()
	f.do(func(tx *meta.Tx, _ *meta.Attr) error {
		if err := f.set(tx, block); err != nil {
			return err
		}
		return tx.PutImage(f.ino, block, make([]byte, meta.ImageHeader+blockSize))
	})
}

func (f *crashFile) marker(ino meta.Ino) {
	f.t.Helper()
	_, err := f.Update(bg, func(tx *meta.Tx) error { return tx.PutMarker(ino) })
	want(f.t, "marker", err, nil)
}

// truncate sets the size and drops entries behind it.
func (f *crashFile) truncate(blocks uint64) {
	f.t.Helper()
	f.do(func(tx *meta.Tx, a *meta.Attr) error {
		m, err := tx.MapRow(f.ino, 0)
		if err != nil {
			return err
		}
		for i := int(blocks); m != nil && i < len(m); i++ {
			a.Allocated -= m[i].Allocated()
			m[i] = meta.Entry{}
		}
		if m != nil {
			if err := tx.PutMapRow(f.ino, 0, m); err != nil {
				return err
			}
		}
		a.Size = blocks * blockSize
		return tx.PutAttr(a)
	})
}

// recover replays the journal and repairs, and returns what it did.
func (f *crashFile) recover() meta.RecoveryReport {
	f.t.Helper()
	r, err := meta.NewRecovery(f.ID, f.RowsKey)
	want(f.t, "new recovery", err, nil)
	state := maps.Clone(f.log.base)
	for _, rec := range f.log.records {
		err := r.Replay(func(yield func(k, v []byte) bool) {
			for k, v := range rec.puts {
				if !yield([]byte(k), v) {
					return
				}
			}
		}, rec.deletes, func(key []byte) ([]byte, error) { return state[string(key)], nil })
		want(f.t, "replay", err, nil)
		for _, k := range rec.deletes {
			delete(state, string(k))
		}
		maps.Copy(state, rec.puts)
	}
	pending := r.Pending()
	report, err := r.Finish(bg, f.Open(f.t, meta.Config{}), func(a *meta.Attr, block uint64, e meta.Entry) (bool, error) {
		crc, ok := f.slots[block]
		return ok && crc == e.CRC, nil
	})
	want(f.t, "finish", err, nil)
	if report.Verified+report.Lost > pending || r.Pending() != 0 {
		f.t.Fatalf("%+v, %d blocks were pending, %d are", report, pending, r.Pending())
	}
	f.Store = f.Open(f.t, meta.Config{})
	return report
}

// mapped returns the blocks that have entries.
func (f *crashFile) mapped() (blocks []uint64) {
	f.t.Helper()
	err := f.View(bg, func(tx *meta.Tx) error {
		return tx.ScanMap(f.ino, 0, func(row uint64, m *meta.MapRow) bool {
			for i := range m {
				if m[i].Present {
					blocks = append(blocks, row*meta.MapRowBlocks+uint64(i))
				}
			}
			return true
		})
	})
	want(f.t, "scan map", err, nil)
	return blocks
}

func TestRecovery(t *testing.T) {
	type blocks = []uint64
	for _, c := range []struct {
		what   string
		do     func(f *crashFile)
		mapped blocks
		size   uint64 // in blocks
		report meta.RecoveryReport
	}{
		{"nothing", func(f *crashFile) {}, nil, 0, meta.RecoveryReport{}},
		{"direct, written", func(f *crashFile) { f.direct(false, 0, 1) }, blocks{0, 1}, 2, meta.RecoveryReport{Verified: 2}},
		{"direct, lost", func(f *crashFile) { f.direct(true, 0, 1) }, nil, 0, meta.RecoveryReport{Lost: 2, Files: 1, Shrunk: 1}},
		{"lost behind written", func(f *crashFile) { f.direct(false, 0); f.direct(true, 1) }, blocks{0}, 1, meta.RecoveryReport{Verified: 1, Lost: 1, Files: 1, Shrunk: 1}},
		{"lost before written", func(f *crashFile) { f.direct(true, 0); f.direct(false, 1) }, blocks{1}, 2, meta.RecoveryReport{Verified: 1, Lost: 1, Files: 1}},
		{"lost on both sides", func(f *crashFile) { f.direct(true, 0, 2, 5); f.direct(false, 1) }, blocks{1}, 2, meta.RecoveryReport{Verified: 1, Lost: 3, Files: 1, Shrunk: 1}},
		{"covered by a marker", func(f *crashFile) { f.direct(true, 0); f.marker(f.ino) }, blocks{0}, 1, meta.RecoveryReport{}},
		{"covered by a marker of all", func(f *crashFile) { f.direct(true, 0); f.marker(0) }, blocks{0}, 1, meta.RecoveryReport{}},
		{"marker of another inode", func(f *crashFile) { f.direct(true, 0); f.marker(f.ino + 1) }, nil, 0, meta.RecoveryReport{Lost: 1, Files: 1, Shrunk: 1}},
		{"behind a marker", func(f *crashFile) { f.direct(true, 0); f.marker(f.ino); f.direct(true, 1) }, blocks{0}, 1, meta.RecoveryReport{Lost: 1, Files: 1, Shrunk: 1}},
		{"image", func(f *crashFile) { f.image(0) }, blocks{0}, 1, meta.RecoveryReport{}},
		{"image over direct", func(f *crashFile) { f.direct(true, 0); f.image(0) }, blocks{0}, 1, meta.RecoveryReport{}},
		{"image behind lost", func(f *crashFile) { f.direct(true, 0); f.image(1) }, blocks{1}, 2, meta.RecoveryReport{Lost: 1, Files: 1}},
		{"lost behind image", func(f *crashFile) { f.image(0); f.direct(true, 1) }, blocks{0}, 1, meta.RecoveryReport{Lost: 1, Files: 1, Shrunk: 1}},
		{"punched", func(f *crashFile) { f.direct(true, 0); f.truncate(0) }, nil, 0, meta.RecoveryReport{}},
		{"truncated and grown again", func(f *crashFile) { f.direct(true, 0, 1); f.truncate(1); f.direct(true, 3) }, nil, 0, meta.RecoveryReport{Lost: 2, Files: 1, Shrunk: 1}},
		{"grown without data before", func(f *crashFile) { f.truncate(4); f.direct(true, 5) }, nil, 5, meta.RecoveryReport{Lost: 1, Files: 1, Shrunk: 1}},
		{"sparse before", func(f *crashFile) { f.truncate(4); f.direct(true, 2) }, nil, 4, meta.RecoveryReport{Lost: 1, Files: 1}},
		{"grown without data after", func(f *crashFile) { f.direct(true, 0); f.truncate(8) }, nil, 8, meta.RecoveryReport{Lost: 1, Files: 1}},
		{"size at the checkpoint", func(f *crashFile) { f.direct(false, 0); f.truncate(6); f.log.checkpoint(f.t); f.direct(true, 3, 9) },
			blocks{0}, 6, meta.RecoveryReport{Lost: 2, Files: 1, Shrunk: 1}},
		{"block at the checkpoint", func(f *crashFile) { f.direct(true, 0); f.log.checkpoint(f.t); f.direct(true, 1) },
			blocks{0}, 1, meta.RecoveryReport{Lost: 1, Files: 1, Shrunk: 1}},
		{"several records of one row", func(f *crashFile) { f.direct(true, 0); f.direct(false, 1); f.direct(true, 2) }, blocks{1}, 2, meta.RecoveryReport{Verified: 1, Lost: 2, Files: 1, Shrunk: 1}},
		{"several rows", func(f *crashFile) { f.direct(false, 31, 32); f.direct(true, 64, 200) }, blocks{31, 32}, 64, meta.RecoveryReport{Verified: 2, Lost: 2, Files: 1, Shrunk: 1}},
		{"more rows than one transaction takes", func(f *crashFile) {
			for row := range uint64(600) {
				f.direct(true, row*meta.MapRowBlocks)
			}
		}, nil, 0, meta.RecoveryReport{Lost: 600, Files: 1, Shrunk: 1}},
	} {
		t.Run(c.what, func(t *testing.T) {
			f := newCrashFile(t)
			c.do(f)
			if got := f.recover(); got != c.report {
				t.Errorf("report %+v, want %+v", got, c.report)
			}
			f.expect(c.mapped, c.size)
			// A crash after the repair: the records of the repair are replayed too, and change nothing more.
			if got := f.recover(); got.Files != 0 {
				t.Errorf("second recovery: %+v", got)
			}
			f.expect(c.mapped, c.size)
		})
	}
}

func (f *crashFile) expect(mapped []uint64, size uint64) {
	f.t.Helper()
	got := f.mapped()
	if len(got) != len(mapped) {
		f.t.Fatalf("mapped %v, want %v", got, mapped)
	}
	for i := range got {
		if got[i] != mapped[i] {
			f.t.Fatalf("mapped %v, want %v", got, mapped)
		}
	}
	if a := f.attr(f.ino); a.Size != size*blockSize {
		f.t.Fatalf("size %d, want %d blocks", a.Size, size)
	}
	f.cleanButImages()
}

func TestRecoveryOfRemovedFile(t *testing.T) {
	f := newCrashFile(t)
	f.direct(true, 0)
	_, err := f.Unlink(bg, meta.RootIno, []byte("f"), nil)
	want(t, "unlink", err, nil)
	if got := f.recover(); got != (meta.RecoveryReport{}) {
		t.Fatalf("%+v", got)
	}
	f.clean()
}

func TestRecoveryErrors(t *testing.T) {
	f := newCrashFile(t)
	f.direct(true, 0)
	r, err := meta.NewRecovery(f.ID, f.RowsKey)
	want(t, "new", err, nil)
	none := func([]byte) ([]byte, error) { return nil, nil }
	put := func(k, v []byte) error {
		return r.Replay(func(yield func(k, v []byte) bool) { yield(k, v) }, nil, none)
	}
	rec := f.log.records[0]
	for k, v := range rec.puts {
		bad := bytes.Clone(v)
		bad[0] ^= 1
		if k[0] == 'C' {
			want(t, "map row, changed", put([]byte(k), bad), meta.ErrAuth)
			want(t, "map row, short key", put([]byte(k[:9]), v), meta.ErrCorrupt)
			want(t, "map row", put([]byte(k), v), nil)
		}
	}
	want(t, "marker, short key", put([]byte("M123"), []byte{1}), meta.ErrCorrupt)
	want(t, "image, short key", put([]byte("B123"), []byte{1}), meta.ErrCorrupt)
	broken := errors.New("disk")
	_, err = r.Finish(bg, f.Store, func(*meta.Attr, uint64, meta.Entry) (bool, error) { return false, broken })
	want(t, "verify's error", err, broken)
	if f.attr(f.ino).Size != blockSize {
		t.Fatal("the block was given up for an I/O error")
	}
}
