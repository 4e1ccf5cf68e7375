package content

import (
	"encoding/binary"
	"testing"

	"github.com/kmsfs/kmsfs/meta"
)

// TestRowsAhead: one map row that is not cached brings those around it; of a row beside it that is damaged nobody hears who does not ask for it.
func TestRowsAhead(t *testing.T) {
	r := newRig(t, rigOptions{})
	f := r.file()
	const rowBytes = meta.MapRowBlocks * 4096
	if _, err := f.WriteAt(ctx, r.pattern(40*rowBytes, 1), 0, WriteOpts{}); err != nil {
		t.Fatal(err)
	}
	read := func(row uint64) error {
		_, err := f.ReadAt(ctx, make([]byte, 4096), row*rowBytes)
		return err
	}
	missed := func(row uint64, want uint64) {
		t.Helper()
		before := r.eng.CacheCounts()
		if err := read(row); err != nil {
			t.Fatal(err)
		}
		if got := r.eng.CacheCounts().RowMisses - before.RowMisses; got != want {
			t.Errorf("row %d: %d misses, want %d", row, got, want)
		}
	}
	forget := func() { r.eng.rows.removeIf(func(*meta.MapRow) bool { return true }) }
	forget()
	missed(17, 1)
	missed(0, 0)
	missed(31, 0)
	missed(32, 1)
	missed(39, 0)
	forget()
	key := binary.BigEndian.AppendUint64([]byte{'C'}, uint64(f.ino)) // FORMAT.md: the row of a map
	r.flip(binary.BigEndian.AppendUint64(key, 5), 40)
	missed(7, 1)
	if err := read(5); err == nil {
		t.Error("a damaged row was read")
	}
	missed(6, 1)
}
