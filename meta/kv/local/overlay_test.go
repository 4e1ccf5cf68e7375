package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestOverlayBytes: what the rows of an overlay take in memory is counted, and a checkpoint is due when it is too much.
func TestOverlayBytes(t *testing.T) {
	opts := create(t)
	opts.MaxOverlay = 128 << 10
	s := open(t, opts)
	due := func() bool {
		select {
		case <-s.CheckpointDue():
			return true
		default:
			return false
		}
	}
	value := make([]byte, 1000)
	for range 300 { // one row again and again is one row
		put(t, s, "A", string(value))
	}
	if held := s.Stats().OverlayBytes; held < 1000 || held > 4000 || due() {
		t.Errorf("one row of 1,000 bytes takes %d", held)
	}
	n := 0
	for ; !due(); n++ {
		if n > 100 {
			t.Fatalf("no checkpoint is due with %d bytes of rows in memory", s.Stats().OverlayBytes)
		}
		put(t, s, fmt.Sprint("B", n), string(value))
	}
	if n < 40 {
		t.Errorf("a checkpoint is due after %d rows of 1,000 bytes, with a bound of %d", n, opts.MaxOverlay)
	}
	if err := s.Checkpoint(ctx); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.OverlayBytes != 0 || st.OverlayRows != 0 {
		t.Errorf("after a checkpoint %d rows take %d bytes", st.OverlayRows, st.OverlayBytes)
	}
	put(t, s, "C", string(value))
	if due() {
		t.Error("due again after a checkpoint")
	}
	crashed := opts
	crashed.Dir = filepath.Join(t.TempDir(), "vol")
	if err := os.CopyFS(crashed.Dir, os.DirFS(opts.Dir)); err != nil {
		t.Fatal(err)
	}
	before, after := s.Stats(), open(t, crashed).Stats()
	if after.OverlayBytes != before.OverlayBytes || after.OverlayRows != before.OverlayRows {
		t.Errorf("%d rows took %d bytes; after a crash %d take %d", before.OverlayRows, before.OverlayBytes, after.OverlayRows, after.OverlayBytes)
	}
}

// TestOverlayBound: updates wait for a checkpoint when rows take too much memory. If it fails they go on, as long as the journal takes them.
func TestOverlayBound(t *testing.T) {
	opts := create(t)
	opts.MaxOverlay = 128 << 10
	broken := errors.New("no room")
	settler := newSettler()
	settler.before = func(what string) error {
		if what == "sync" {
			return nil
		}
		return broken
	}
	opts.Settler = settler
	s := open(t, opts)
	put(t, s, "B", "settles not")
	value := string(make([]byte, 1000))
	for i := range 400 {
		put(t, s, fmt.Sprint("C", i), value)
	}
	if held := s.Stats().OverlayBytes; held < 400_000 {
		t.Errorf("400 rows of 1,000 bytes take %d", held)
	}
	settler.before = nil
	if err := s.Checkpoint(ctx); err != nil {
		t.Fatal(err)
	}
	made := s.Stats().Checkpoints
	for i := range 400 {
		put(t, s, fmt.Sprint("D", i), value)
		if st := s.Stats(); st.OverlayBytes > 2*opts.MaxOverlay+4000 {
			t.Fatalf("rows take %d bytes, twice %d is the bound", st.OverlayBytes, opts.MaxOverlay)
		}
	}
	if st := s.Stats(); st.Checkpoints == made {
		t.Error("no checkpoint was made")
	}
}
