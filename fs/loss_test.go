package fs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/kmsfs/kmsfs/fs/fstest"
)

// TestLossIsNotForgotten: after a write from the page cache has failed no fsync succeeds while the file is open, though the kernel reports it once.
func TestLossIsNotForgotten(t *testing.T) {
	m := fstest.NewMount(t, fstest.Options{})
	for i := range 256 { // whatever the object is called, it can't be made
		if err := os.WriteFile(filepath.Join(m.Volume, "objects", fmt.Sprintf("%02x", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Create(m.Path("f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := f.Sync(); !errors.Is(err, syscall.EIO) {
			t.Errorf("fsync %d: %v", i, err)
		}
	}
	f.Close()
	again, err := os.OpenFile(m.Path("f"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := again.Sync(); err != nil {
		t.Errorf("fsync after the file was closed: %v", err)
	}
}
