package local

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
)

// simFiles is a Files in memory that knows what a power cut would leave, and fails on demand. It stands for
// a disk with a page cache: what was written is visible at once, and durable after Datasync.
type simFiles struct {
	mu    sync.Mutex
	files map[string]*simFile
	disk  map[string]*simFile // names as a power cut leaves them
	free  uint64

	// fault is asked before each operation ("create", "write", "sync", "syncdir"); an error is returned
	// instead of doing it. n counts the operations of all kinds from 1.
	fault func(op string, n int) error
	n     int

	told [][2]int64 // by WriteBack, as [from, to)
}

func newSimFiles() *simFiles {
	return &simFiles{files: map[string]*simFile{}, disk: map[string]*simFile{}, free: 1 << 40}
}

// simFile is one file. Guarded by dir.mu.
type simFile struct {
	dir     *simFiles
	cache   []byte // what reads see
	durable []byte
	pending []simWrite // since the last Datasync
}

type simWrite struct {
	off  int64
	data []byte
}

// step counts an operation and asks for a fault. The caller holds d.mu.
func (d *simFiles) step(op string) error {
	d.n++
	if d.fault != nil {
		return d.fault(op, d.n)
	}
	return nil
}

// setFault changes the fault function.
func (d *simFiles) setFault(fault func(op string, n int) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault, d.n = fault, 0
}

// ops returns how many operations there were since setFault.
func (d *simFiles) ops() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.n
}

// count returns how many files there are.
func (d *simFiles) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.files)
}

func (d *simFiles) List() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.files)), nil
}

func (d *simFiles) Open(name string) (File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, ok := d.files[name]
	if !ok {
		return nil, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
	}
	return f, nil
}

func (d *simFiles) Create(name string) (File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("create"); err != nil {
		return nil, err
	}
	if _, ok := d.files[name]; ok {
		return nil, fmt.Errorf("create %s: %w", name, fs.ErrExist)
	}
	f := &simFile{dir: d}
	d.files[name] = f
	return f, nil
}

func (d *simFiles) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.files, name)
	return nil
}

func (d *simFiles) SyncDir() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("syncdir"); err != nil {
		return err
	}
	d.disk = maps.Clone(d.files)
	return nil
}

func (d *simFiles) Free() (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.free, nil
}

func (d *simFiles) Has(bytes uint64) bool {
	free, _ := d.Free()
	return free >= bytes
}

func (f *simFile) ReadAt(p []byte, off int64) (int, error) {
	f.dir.mu.Lock()
	defer f.dir.mu.Unlock()
	if off >= int64(len(f.cache)) {
		return 0, io.EOF
	}
	n := copy(p, f.cache[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *simFile) WriteAt(p []byte, off int64) (int, error) {
	f.dir.mu.Lock()
	defer f.dir.mu.Unlock()
	if err := f.dir.step("write"); err != nil {
		n := 0
		if !errors.Is(err, syscall.ENOSPC) {
			n = len(p) / 2 // half of it got there
			f.write(p[:n], off)
		}
		return n, err
	}
	f.write(p, off)
	return len(p), nil
}

func (f *simFile) write(p []byte, off int64) {
	f.cache = overwrite(f.cache, p, off)
	f.pending = append(f.pending, simWrite{off, slices.Clone(p)})
}

// overwrite puts p at off, and zeros before it where there was nothing.
func overwrite(b, p []byte, off int64) []byte {
	if need := int(off) + len(p) - len(b); need > 0 {
		b = append(b, make([]byte, need)...)
	}
	copy(b[off:], p)
	return b
}

// WriteBack only takes note: what was written may get to the disk at any time, told or not.
func (f *simFile) WriteBack(off, n int64) {
	f.dir.mu.Lock()
	defer f.dir.mu.Unlock()
	f.dir.told = append(f.dir.told, [2]int64{off, off + n})
}

func (f *simFile) Datasync() error {
	f.dir.mu.Lock()
	defer f.dir.mu.Unlock()
	if err := f.dir.step("sync"); err != nil {
		f.pending = nil // as Linux does: the pages are marked clean, and lost
		return err
	}
	for _, w := range f.pending {
		f.durable = overwrite(f.durable, w.data, w.off)
	}
	f.pending = nil
	return nil
}

// Truncate cuts the file, as it is after a power cut too.
func (f *simFile) Truncate(size int64) error {
	f.dir.mu.Lock()
	defer f.dir.mu.Unlock()
	if err := f.dir.step("truncate"); err != nil {
		return err
	}
	f.cache = f.cache[:min(size, int64(len(f.cache)))]
	f.durable = f.durable[:min(size, int64(len(f.durable)))]
	f.pending = slices.DeleteFunc(f.pending, func(w simWrite) bool { return w.off >= size })
	for i := range f.pending {
		w := &f.pending[i]
		w.data = w.data[:min(int64(len(w.data)), size-w.off)]
	}
	return nil
}

func (f *simFile) Size() (int64, error) {
	f.dir.mu.Lock()
	defer f.dir.mu.Unlock()
	return int64(len(f.cache)), nil
}

func (f *simFile) Close() error { return nil }

const sector = 512

// powerCut returns the directory as a power cut leaves it: each sector of each write that was not synced
// is there or not, and so is each name.
func (d *simFiles) powerCut(r *rand.Rand) *simFiles {
	d.mu.Lock()
	defer d.mu.Unlock()
	left := newSimFiles()
	names := maps.Clone(d.disk)
	for name, f := range d.files {
		if r.IntN(2) == 0 {
			names[name] = f
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		f := names[name]
		if _, ok := d.files[name]; !ok && r.IntN(2) == 0 {
			continue // the removal got there
		}
		b := slices.Clone(f.durable)
		for _, w := range f.pending {
			b = tear(r, b, w)
		}
		left.files[name] = &simFile{dir: left, cache: b, durable: slices.Clone(b)}
	}
	left.disk = maps.Clone(left.files)
	return left
}

// tear applies a write sector by sector: all, none, a front part, or any.
func tear(r *rand.Rand, b []byte, w simWrite) []byte {
	mode := r.IntN(4)
	front := r.IntN(len(w.data)/sector + 2)
	for i := 0; len(w.data) > 0; i++ {
		n := min(len(w.data), sector-int(w.off%sector))
		if mode == 0 || mode == 1 && i < front || mode == 2 && r.IntN(2) == 0 {
			b = overwrite(b, w.data[:n], w.off)
		}
		w.data, w.off = w.data[n:], w.off+int64(n)
	}
	return b
}

// clone returns the directory as the death of the process leaves it: everything written is there.
func (d *simFiles) clone() *simFiles {
	d.mu.Lock()
	defer d.mu.Unlock()
	same := newSimFiles()
	for name, f := range d.files {
		same.files[name] = &simFile{dir: same, cache: slices.Clone(f.cache), durable: slices.Clone(f.durable),
			pending: slices.Clone(f.pending)}
	}
	for name := range d.disk {
		if f, ok := same.files[name]; ok {
			same.disk[name] = f
		}
	}
	return same
}
