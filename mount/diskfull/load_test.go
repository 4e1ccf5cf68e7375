package diskfull

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// content is what was acknowledged of a file: its first bytes, by their number and digest.
type content struct {
	size   int64
	digest [sha256.Size]byte
}

// ledger knows what was acknowledged. Safe for concurrent use.
type ledger struct {
	mu    sync.Mutex
	files map[string]content
}

func newLedger() *ledger { return &ledger{files: map[string]content{}} }

func (l *ledger) note(path string, c content) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.files[path] = c
}

func (l *ledger) forget(path string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.files, path)
}

// verify reads everything back, not from the page cache as far as that can be helped.
func (l *ledger) verify() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for path, want := range l.files {
		if err := want.check(path); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (c content) check(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	h := sha256.New()
	if n, err := io.Copy(h, io.LimitReader(f, c.size)); err != nil || n != c.size {
		return fmt.Errorf("%s: %d of %d acknowledged bytes: %w", path, n, c.size, err)
	}
	if !bytes.Equal(h.Sum(nil), c.digest[:]) {
		return fmt.Errorf("%s: the %d acknowledged bytes are others", path, c.size)
	}
	return nil
}

// worker fills the disk until it is told that it is full.
type worker struct {
	dir string
	led *ledger
	rng *rand.Rand
}

// full tells that err says what a full disk has to say.
func full(err error) bool { return errors.Is(err, syscall.ENOSPC) }

// random returns n bytes that do not repeat.
func (w *worker) random(n int) []byte {
	b := make([]byte, n)
	seed := [32]byte{}
	for i := range seed {
		seed[i] = byte(w.rng.Uint32())
	}
	_, _ = rand.NewChaCha8(seed).Read(b)
	return b
}

// run calls one until it fails. nil: the disk is full.
func run(one func(i int) error) error {
	for i := 0; ; i++ {
		if err := one(i); full(err) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// whole writes files of up to max bytes, each synced.
func (w *worker) whole(name string, limit int) error {
	return run(func(i int) error {
		path, b := filepath.Join(w.dir, fmt.Sprintf("%s%d", name, i)), w.random(1+w.rng.IntN(limit))
		if err := writeSynced(path, b); err != nil {
			return err
		}
		w.led.note(path, contentOf(b))
		return nil
	})
}

// writeSynced makes a file.
func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// appended makes one file longer, synced after each piece.
func (w *worker) appended(name string) error {
	path := filepath.Join(w.dir, name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return errAtOnce(err)
	}
	defer f.Close()
	h, size := sha256.New(), int64(0)
	return run(func(int) error {
		b := w.random(1 + w.rng.IntN(50_000))
		if _, err := f.Write(b); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		h.Write(b)
		size += int64(len(b))
		w.led.note(path, content{size, [sha256.Size]byte(h.Sum(nil))})
		return nil
	})
}

// errAtOnce hides that there was no room at all: a worker that begins on a full disk proves nothing, but is no failure.
func errAtOnce(err error) error {
	if full(err) {
		return nil
	}
	return err
}

// mapped writes through mappings, synced with msync.
func (w *worker) mapped(name string) error {
	return run(func(i int) error {
		path, size := filepath.Join(w.dir, fmt.Sprintf("%s%d", name, i)), 1<<20
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := f.Truncate(int64(size)); err != nil {
			return err
		}
		m, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		defer unix.Munmap(m)
		b := w.random(size)
		copy(m, b)
		if err := unix.Msync(m, unix.MS_SYNC); err != nil {
			return err
		}
		w.led.note(path, contentOf(b))
		return nil
	})
}

// streamPace is how long the stream leaves to others after each 64 KiB.
const streamPace = 4 * time.Millisecond

// streamed writes one file without a sync until write(2) says that the disk is full. What it took must fit: that is what a reserve is for.
func (w *worker) streamed(name string) error {
	path := filepath.Join(w.dir, name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return errAtOnce(err)
	}
	defer f.Close()
	h, size := sha256.New(), int64(0)
	err = run(func(int) error {
		time.Sleep(streamPace) // or it would have the whole disk
		b := w.random(64 << 10)
		n, err := f.Write(b)
		h.Write(b[:n])
		size += int64(n)
		return err
	})
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync of %d bytes that write(2) took: %w", size, err)
	}
	w.led.note(path, content{size, [sha256.Size]byte(h.Sum(nil))})
	return nil
}

func contentOf(b []byte) content { return content{int64(len(b)), sha256.Sum256(b)} }
