package transport_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/fs/transport"
)

// batching is a flat that takes several writes at once. It refuses those at refused, and waits for held to be closed, if there is one.
type batching struct {
	*flat
	writes, batches atomic.Int64 // that came in batches of two or more
	refused         atomic.Int64
	held            chan struct{}
}

func (f *batching) WriteBack(cancel <-chan struct{}, batch []transport.WriteBack) {
	if len(batch) > 1 {
		f.writes.Add(int64(len(batch)))
		f.batches.Add(1)
	}
	if f.held != nil {
		f.entered <- struct{}{}
		<-f.held
	}
	for i := range batch {
		w := &batch[i]
		if int64(w.In.Offset) == f.refused.Load() {
			w.Status = fuse.EIO
			continue
		}
		w.Written, w.Status = f.Write(cancel, w.In, w.Data)
	}
}

// Pages that do not lie side by side are written back in batches; each is answered for itself.
func TestWriteBack(t *testing.T) {
	const page, pages, written = 4096, 4096, 1000
	f := &batching{flat: newFlat()}
	f.refused.Store(-1)
	m := mountWith(t, f, transport.Device, transport.Options{}, fuse.CAP_WRITEBACK_CACHE)
	name := filepath.Join(m.dir, "f")
	want := bytes.Repeat([]byte{1}, page*pages)
	if err := os.WriteFile(name, want, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Sync(); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range written {
		at := rng.IntN(pages/2) * 2 * page // never side by side
		b := want[at : at+page]
		for j := range b {
			b[j] = byte(i)
		}
		if _, err := file.WriteAt(b, int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	if err := file.Sync(); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	if !bytes.Equal(f.data[2], want) {
		t.Error("the filesystem has other content")
	}
	f.mu.Unlock()
	if f.batches.Load() == 0 || f.writes.Load() < 3*f.batches.Load() {
		t.Errorf("%d writes in %d batches", f.writes.Load(), f.batches.Load())
	}
	f.refused.Store(6 * page)
	for i := range 20 {
		if _, err := file.WriteAt([]byte("x"), int64(i*2*page)); err != nil {
			t.Fatal(err)
		}
	}
	if err := file.Sync(); !errors.Is(err, unix.EIO) {
		t.Errorf("a refused write: %v", err)
	}
}

// Batches that take long keep nobody waiting, nor do they keep what was taken from the device with them.
func TestSlowBatchesBlockNobody(t *testing.T) {
	f := &batching{flat: newFlat(), held: make(chan struct{})}
	f.refused.Store(-1)
	f.entered = make(chan struct{}, 1000)
	m := mountWith(t, f, transport.Device, transport.Options{}, fuse.CAP_WRITEBACK_CACHE)
	synced := make(chan error, 2)
	for _, name := range []string{"a", "b"} {
		file, err := os.Create(filepath.Join(m.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		for i := range 100 {
			if _, err := file.WriteAt([]byte{1}, int64(i*3*4096)); err != nil {
				t.Fatal(err)
			}
		}
		go func() { synced <- file.Sync() }()
	}
	release := sync.OnceFunc(func() { close(f.held) })
	defer release() // before the files are closed
	<-f.entered
	for i := range 50 {
		asked := make(chan error, 1)
		go func() {
			_, err := os.Stat(filepath.Join(m.dir, fmt.Sprint("none", i)))
			asked <- err
		}()
		select {
		case err := <-asked:
			if !errors.Is(err, os.ErrNotExist) {
				t.Errorf("stat: %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("a request waits for a batch")
		}
	}
	release()
	for range 2 {
		if err := <-synced; err != nil {
			t.Error(err)
		}
	}
}
