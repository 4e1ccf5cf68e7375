package fs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

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
	// The kernel does not wait until it is told that the file was closed.
	for deadline := time.Now().Add(30 * time.Second); ; {
		err := syncAgain(m.Path("f"))
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("fsync after the file was closed: %v", err)
		}
	}
}

func syncAgain(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
