package fs_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/fs"
	"github.com/kmsfs/kmsfs/fs/fstest"
)

// writeMeter counts what is written.
type writeMeter struct{ writes, bytes atomic.Int64 }

func (m *writeMeter) Request(op string, _ time.Duration, _ string) {
	if op == "write" {
		m.writes.Add(1)
	}
}
func (m *writeMeter) Read(int)      {}
func (m *writeMeter) Written(n int) { m.bytes.Add(int64(n)) }

// TestScatteredPages: pages that do not lie side by side, of two files at once, come back as they were written after a remount, and each is counted.
func TestScatteredPages(t *testing.T) {
	const page, pages, writes = 4096, 2048, 1500
	meter := &writeMeter{}
	m := fstest.NewMount(t, fstest.Options{Mount: fs.MountOptions{Meter: meter}})
	rng := rand.New(rand.NewPCG(4, 2))
	names, want := []string{"a", "b"}, [2][]byte{}
	var files [2]*os.File
	for i, name := range names {
		want[i] = bytes.Repeat([]byte{byte(100 + i)}, page*pages)
		mustWrite(t, m.Path(name), want[i])
		f, err := os.OpenFile(m.Path(name), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		files[i] = f
	}
	before, dirty := meter.bytes.Load(), map[[2]int]bool{}
	for n := range writes {
		i, at := n%2, rng.IntN(pages/2)*2*page
		dirty[[2]int{i, at}] = true
		b := want[i][at : at+page]
		for j := range b {
			b[j] = byte(n)
		}
		if _, err := files[i].WriteAt(b, int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range files {
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	if got := meter.bytes.Load() - before; got < int64(len(dirty)*page) || meter.writes.Load() < int64(len(dirty)) {
		t.Errorf("%d bytes in %d writes are counted, %d pages were written", got, meter.writes.Load(), len(dirty))
	}
	m.Remount()
	for i, name := range names {
		if got, err := os.ReadFile(m.Path(name)); err != nil || !bytes.Equal(got, want[i]) {
			t.Errorf("%s: %v, other content", name, err)
		}
	}
}
