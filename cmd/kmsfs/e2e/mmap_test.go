package e2e

import (
	"bytes"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// TestMmapTruncate writes through a shared mapping, write(2), truncate and hole punching at random, against a slice, and compares after each step and
// after a remount.
func TestMmapTruncate(t *testing.T) {
	r := newRig(t)
	r.Init()
	r.Mount()
	seed := uint64(20240607)
	rounds := 150
	if mounttest.Long() {
		rounds = 5000
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	f, err := os.Create(r.Mnt + "/file")
	if err != nil {
		t.Fatal(err)
	}
	m := mmapModel{t: t, f: f, rng: rng}
	m.truncate(1 << 20)
	for i := range rounds {
		switch k := rng.IntN(10); {
		case k < 4:
			m.mapped()
		case k < 6:
			m.written()
		case k < 8:
			m.truncate(rng.IntN(2 << 20))
		default:
			m.punch()
		}
		if i%10 == 0 {
			m.compare()
		}
	}
	m.compare()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	r.Remount()
	if got := read(t, r.Mnt+"/file"); !bytes.Equal(got, m.model) {
		t.Fatalf("seed %d: differs after remount: %d bytes, want %d", seed, len(got), len(m.model))
	}
	r.Fsck()
}

type mmapModel struct {
	t     *testing.T
	f     *os.File
	rng   *rand.Rand
	model []byte
}

// piece returns a random range of the file; false if the file is empty.
func (m *mmapModel) piece() (off, n int, ok bool) {
	if len(m.model) == 0 {
		return 0, 0, false
	}
	off = m.rng.IntN(len(m.model))
	return off, 1 + m.rng.IntN(min(len(m.model)-off, 40_000)), true
}

func (m *mmapModel) fill(b []byte) {
	for i := range b {
		b[i] = byte(m.rng.Uint32())
	}
}

// mapped changes a piece through a mapping of the whole file, and flushes it half of the time.
func (m *mmapModel) mapped() {
	off, n, ok := m.piece()
	if !ok {
		return
	}
	p, err := unix.Mmap(int(m.f.Fd()), 0, len(m.model), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		m.t.Fatal(err)
	}
	m.fill(m.model[off : off+n])
	copy(p[off:], m.model[off:off+n])
	if m.rng.IntN(2) == 0 {
		if err := unix.Msync(p, unix.MS_SYNC); err != nil {
			m.t.Fatal(err)
		}
	}
	if err := unix.Munmap(p); err != nil {
		m.t.Fatal(err)
	}
}

func (m *mmapModel) written() {
	b := make([]byte, 1+m.rng.IntN(40_000))
	m.fill(b)
	off := m.rng.IntN(2 << 20)
	if _, err := m.f.WriteAt(b, int64(off)); err != nil {
		m.t.Fatal(err)
	}
	if grown := off + len(b); grown > len(m.model) {
		m.model = append(m.model, make([]byte, grown-len(m.model))...)
	}
	copy(m.model[off:], b)
}

func (m *mmapModel) truncate(size int) {
	if err := m.f.Truncate(int64(size)); err != nil {
		m.t.Fatal(err)
	}
	if size <= len(m.model) {
		m.model = bytes.Clone(m.model[:size])
	} else {
		m.model = append(m.model, make([]byte, size-len(m.model))...)
	}
}

func (m *mmapModel) punch() {
	off, n, ok := m.piece()
	if !ok {
		return
	}
	if err := unix.Fallocate(int(m.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(n)); err != nil {
		m.t.Fatal(err)
	}
	clear(m.model[off : off+n])
}

func (m *mmapModel) compare() {
	m.t.Helper()
	got := make([]byte, len(m.model)+10)
	n, _ := m.f.ReadAt(got, 0)
	if !bytes.Equal(got[:n], m.model) {
		m.t.Fatalf("read %d bytes that differ from the model's %d", n, len(m.model))
	}
}
