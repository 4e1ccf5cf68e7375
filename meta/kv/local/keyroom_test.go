package local

import (
	"bytes"
	"unsafe"

	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt"
)

// TestKeysAreLocked: the raw keys of an open store lie in locked memory, all of them, and none is left when it is closed.
func TestKeysAreLocked(t *testing.T) {
	dir := t.TempDir()
	opts := testOptions(dir)
	opts.Export = true
	want := *opts.Key
	if err := Create(ctx, opts); err != nil {
		t.Fatal(err)
	}
	s, err := Open(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	room := s.keys.buf.Bytes()
	for name, k := range map[string]*blockcrypt.Key{"journal": s.journal.key, "checkpoint": s.checkpointKey, "freshness": s.fresh.mac, "export": s.export.key} {
		from, at := uintptr(unsafe.Pointer(&room[0])), uintptr(unsafe.Pointer(&k[0]))
		if at < from || at+blockcrypt.KeySize > from+uintptr(len(room)) {
			t.Errorf("the %s key lies elsewhere", name)
		}
		if *k == (blockcrypt.Key{}) {
			t.Errorf("the %s key is not there", name)
		}
	}
	if !bytes.Equal(s.journal.key[:], want[:]) || s.opts.Key != nil {
		t.Error("the journal's key is another one, or was kept beside")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s.keys.buf.Bytes() != nil {
		t.Error("the keys are still there")
	}
}
