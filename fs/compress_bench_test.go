package fs_test

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/fs/fstest"
	"github.com/kmsfs/kmsfs/meta"
)

// TestCompressionSpeed prints what zstd costs, in ratios of one run: sequential reads of what compresses, and writes of what does not, against the
// same on a volume without. It decides nothing: the promised ratios are 0.8 and 0.9 on a machine at rest.
func TestCompressionSpeed(t *testing.T) {
	if !fstest.Long() {
		t.Skip("a measurement, runs with KMSFS_LONG=1")
	}
	const size, rounds = 128 << 20, 7
	noise := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(noise)
	text := sources(t, size)
	plain := fstest.NewMount(t, fstest.Options{BlockSize: meta.DefaultCompressedBlock})
	small := fstest.NewMount(t, fstest.Options{BlockSize: meta.DefaultCompressedBlock, Codec: meta.CodecZstd})
	var reads, cold, writes, textWrites []float64
	for range rounds {
		writes = append(writes, timeWrite(t, plain, noise)/timeWrite(t, small, noise))
		textWrites = append(textWrites, timeWrite(t, plain, text)/timeWrite(t, small, text))
		reads = append(reads, timeRead(t, plain, size, false)/timeRead(t, small, size, false))
		cold = append(cold, timeRead(t, plain, size, true)/timeRead(t, small, size, true))
	}
	for what, ratios := range map[string][]float64{"writes of noise": writes, "writes of text": textWrites,
		"reads of text, lower pages cached": reads, "reads of text from the disk": cold} {
		slices.Sort(ratios)
		t.Logf("%s: %.2f of the speed without (%.2f)", what, ratios[rounds/2], ratios)
	}
}

// sources returns n bytes of Go source.
func sources(t *testing.T, n int) (b []byte) {
	t.Helper()
	for len(b) < n {
		before := len(b)
		files, _ := filepath.Glob(filepath.Join(goSource(t), "*", "*.go"))
		for _, file := range files {
			one, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			b = append(b, one...)
		}
		if len(b) == before {
			t.Fatal("no source tree")
		}
	}
	return b[:n]
}

// timeWrite returns the seconds that writing a new file and its fsync take.
func timeWrite(t *testing.T, m *fstest.Mount, b []byte) float64 {
	t.Helper()
	os.Remove(m.Path("file"))
	f, err := os.Create(m.Path("file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	begin := time.Now()
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	return time.Since(begin).Seconds()
}

// timeRead returns the seconds that reading the file takes which no cache of the mount's holds, nor, with cold, one of the filesystem below.
func timeRead(t *testing.T, m *fstest.Mount, n int, cold bool) float64 {
	t.Helper()
	m.Remount()
	if cold {
		dropPages(t, filepath.Join(m.Volume, "objects"))
	}
	f, err := os.Open(m.Path("file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	begin := time.Now()
	buf := make([]byte, 1<<20)
	if got, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{f}, buf); err != nil || got != int64(n) {
		t.Fatalf("%d bytes, %v", got, err)
	}
	return time.Since(begin).Seconds()
}

// dropPages makes the kernel forget what it caches of the files below dir.
func dropPages(t *testing.T, dir string) {
	t.Helper()
	paths, _ := filepath.Glob(filepath.Join(dir, "*", "*"))
	for _, path := range paths {
		f, err := os.Open(path)
		if err == nil {
			err = errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
