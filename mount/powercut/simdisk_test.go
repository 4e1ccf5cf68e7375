package powercut

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"sync"
	"syscall"

	"github.com/kmsfs/kmsfs/fs/object"
	"github.com/kmsfs/kmsfs/meta/kv/local"
)

// simDisk is a filesystem in memory that knows what a power cut would leave: what was written, made or removed is seen at once, and durable after it was
// synced. The journal of a volume lies in its directory "journal", the objects in "objects". It fails on demand.
type simDisk struct {
	mu    sync.Mutex
	now   map[string]*simFile // by path; directories are nil
	saved map[string]*simFile // as far as it is durable
	moves []simMove           // of names, not durable yet, oldest first

	steps int                            // operations so far
	fault func(step int, op simOp) error // asked before each operation; its error is returned instead
	dark  bool                           // the power is cut
}

// simOp names an operation: what, and on which path.
type simOp struct{ what, path string }

// The operations of a simDisk that change something or make it durable.
const (
	simCreate   = "create"
	simMkdir    = "mkdir"
	simUnlink   = "unlink"
	simWrite    = "write"
	simTruncate = "truncate"
	simPunch    = "punch"
	simSync     = "sync"
	simSyncDir  = "sync a directory"
	simSyncAll  = "sync everything"
)

// simMove is a change of one name: to file, a directory, or nothing.
type simMove struct {
	path string
	gone bool
	file *simFile // nil for a directory
}

// simFile is a file. It is guarded by its disk's mutex.
type simFile struct {
	now, saved []byte
	changes    []simChange // since the last sync
}

// simChange is one change of content.
type simChange struct {
	what string
	off  int64 // truncate: the size
	data []byte
	n    int64 // punch
}

const sector = 512

func newSimDisk() *simDisk {
	d := &simDisk{now: map[string]*simFile{}, saved: map[string]*simFile{}}
	for _, dir := range []string{"journal", "objects"} {
		d.now[dir], d.saved[dir] = nil, nil
	}
	return d
}

// step counts an operation and asks whether it fails. Called with mu held.
func (d *simDisk) step(what, path string) error {
	if d.dark {
		return syscall.EIO
	}
	d.steps++
	if d.fault == nil {
		return nil
	}
	err := d.fault(d.steps, simOp{what, path})
	if d.dark {
		return syscall.EIO
	}
	return err
}

// onStep changes what is asked before each operation, and counts from 0 again.
func (d *simDisk) onStep(fault func(step int, op simOp) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault, d.steps = fault, 0
}

func (d *simDisk) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.steps
}

// copy returns the disk as the death of all processes leaves it: everything that was written is seen, and no more of it is durable.
func (d *simDisk) copy() *simDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	files := map[*simFile]*simFile{nil: nil}
	twin := func(f *simFile) *simFile {
		if _, ok := files[f]; !ok {
			files[f] = &simFile{now: slices.Clone(f.now), saved: slices.Clone(f.saved), changes: slices.Clone(f.changes)}
		}
		return files[f]
	}
	same := newSimDisk()
	for p, f := range d.now {
		same.now[p] = twin(f)
	}
	for p, f := range d.saved {
		same.saved[p] = twin(f)
	}
	for _, m := range d.moves {
		m.file = twin(m.file)
		same.moves = append(same.moves, m)
	}
	return same
}

// loss says how much of what is not durable a power cut takes: everything, nothing, what came after some point, or any of it.
type loss struct {
	rng  *rand.Rand
	mode int
}

func newLoss(rng *rand.Rand) *loss { return &loss{rng, rng.IntN(4)} }

// kept says for each of n changes in their order whether it got to the disk.
func (l *loss) kept(n int) func(i int) bool {
	until := l.rng.IntN(n + 1)
	return func(i int) bool {
		switch l.mode {
		case 0:
			return false
		case 1:
			return true
		case 2:
			return i < until
		}
		return l.rng.IntN(2) == 0
	}
}

// after returns the disk as a power cut leaves it.
func (d *simDisk) after(rng *rand.Rand) *simDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := newLoss(rng)
	names := maps.Clone(d.saved)
	kept := l.kept(len(d.moves))
	for i, m := range d.moves {
		switch {
		case !kept(i):
		case m.gone:
			delete(names, m.path)
		default:
			names[m.path] = m.file
		}
	}
	left := newSimDisk()
	files := map[*simFile]*simFile{}
	for _, p := range slices.Sorted(maps.Keys(names)) {
		if _, ok := names[path.Dir(p)]; !ok && path.Dir(p) != "." {
			continue // what lies in a directory that was lost is lost
		}
		f := names[p]
		if f != nil && files[f] == nil {
			b := f.after(l)
			files[f] = &simFile{now: b, saved: slices.Clone(b)}
		}
		left.now[p], left.saved[p] = files[f], files[f]
	}
	return left
}

// after returns the content that a power cut leaves: each change is there or not, a write by sectors.
func (f *simFile) after(l *loss) []byte {
	b := slices.Clone(f.saved)
	kept := l.kept(len(f.changes))
	for i, c := range f.changes {
		whole := kept(i)
		if c.what == simWrite && l.mode == 3 {
			b = tear(l.rng, b, c)
		} else if whole {
			b = c.on(b)
		} else if c.what == simWrite && l.mode == 2 && l.rng.IntN(2) == 0 {
			c.data = c.data[:l.rng.IntN(len(c.data)/sector+1)*sector] // it was on its way
			b = c.on(b)
			break
		}
	}
	return b
}

// on applies a change.
func (c simChange) on(b []byte) []byte {
	switch c.what {
	case simWrite:
		if need := int(c.off) + len(c.data); need > len(b) {
			b = append(b, make([]byte, need-len(b))...)
		}
		copy(b[c.off:], c.data)
	case simTruncate:
		b = resized(b, int(c.off))
	case simPunch:
		if from := min(int(c.off), len(b)); from < len(b) {
			clear(b[from:min(int(c.off+c.n), len(b))])
		}
	}
	return b
}

// tear applies a write by sectors: none, all, those at the front, or any.
func tear(rng *rand.Rand, b []byte, c simChange) []byte {
	mode, front := rng.IntN(4), rng.IntN(len(c.data)/sector+2)
	for i := 0; len(c.data) > 0; i++ {
		n := min(len(c.data), sector-int(c.off%sector))
		if mode == 1 || mode == 2 && i < front || mode == 3 && rng.IntN(2) == 0 {
			b = simChange{what: simWrite, off: c.off, data: c.data[:n]}.on(b)
		}
		c.data, c.off = c.data[n:], c.off+int64(n)
	}
	return b
}

// change makes a change of content. Called with mu held.
func (f *simFile) change(c simChange) {
	f.now = c.on(f.now)
	f.changes = append(f.changes, c)
}

// save makes the content durable. Called with mu held.
func (f *simFile) save() {
	for _, c := range f.changes {
		f.saved = c.on(f.saved)
	}
	f.changes = nil
}

// move changes a name. Called with mu held.
func (d *simDisk) move(m simMove) {
	if m.gone {
		delete(d.now, m.path)
	} else {
		d.now[m.path] = m.file
	}
	d.moves = append(d.moves, m)
}

// saveNames makes the names durable for which in is true. Called with mu held.
func (d *simDisk) saveNames(in func(path string) bool) {
	var rest []simMove
	for _, m := range d.moves {
		switch {
		case !in(m.path):
			rest = append(rest, m)
		case m.gone:
			delete(d.saved, m.path)
		default:
			d.saved[m.path] = m.file
		}
	}
	d.moves = rest
}

func (d *simDisk) create(p string) (*simHandle, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.now[path.Dir(p)]; !ok {
		return nil, syscall.ENOENT
	}
	if _, ok := d.now[p]; ok {
		return nil, syscall.EEXIST
	}
	if err := d.step(simCreate, p); err != nil {
		return nil, err
	}
	f := &simFile{}
	d.move(simMove{path: p, file: f})
	return &simHandle{d, f, p}, nil
}

func (d *simDisk) open(p string) (*simHandle, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, ok := d.now[p]
	switch {
	case d.dark:
		return nil, syscall.EIO
	case !ok:
		return nil, syscall.ENOENT
	case f == nil:
		return nil, syscall.EISDIR
	}
	return &simHandle{d, f, p}, nil
}

func (d *simDisk) mkdir(p string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.now[p]; ok {
		return syscall.EEXIST
	}
	if err := d.step(simMkdir, p); err != nil {
		return err
	}
	d.move(simMove{path: p})
	return nil
}

func (d *simDisk) unlink(p string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f, ok := d.now[p]; !ok || f == nil {
		return syscall.ENOENT
	}
	if err := d.step(simUnlink, p); err != nil {
		return err
	}
	d.move(simMove{path: p, gone: true})
	return nil
}

func (d *simDisk) list(dir string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for p := range d.now {
		if path.Dir(p) == dir {
			names = append(names, path.Base(p))
		}
	}
	slices.Sort(names)
	return names
}

func (d *simDisk) syncDir(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(simSyncDir, dir); err != nil {
		return err
	}
	d.saveNames(func(p string) bool { return path.Dir(p) == dir })
	return nil
}

// syncAll makes everything durable. If it fails, any of it was lost on the way, and the next one will not know.
func (d *simDisk) syncAll() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.step(simSyncAll, "")
	for _, f := range d.now {
		switch {
		case f == nil:
		case err == nil:
			f.save()
		case !d.dark:
			f.changes = nil
		}
	}
	if err == nil {
		d.saveNames(func(string) bool { return true })
	}
	return err
}

// simHandle is an open file.
type simHandle struct {
	d    *simDisk
	f    *simFile
	path string
}

// read reads as pread does.
func (h *simHandle) read(p []byte, off int64) (int, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if h.d.dark {
		return 0, syscall.EIO
	}
	if off >= int64(len(h.f.now)) {
		return 0, nil
	}
	return copy(p, h.f.now[off:]), nil
}

// write writes all of p. If it fails and the disk is not full, half of it got there.
func (h *simHandle) write(p []byte, off int64) error {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	err := h.d.step(simWrite, h.path)
	if err != nil {
		if h.d.dark || errors.Is(err, syscall.ENOSPC) {
			return err
		}
		p = p[:len(p)/2]
	}
	if len(p) > 0 {
		h.f.change(simChange{what: simWrite, off: off, data: slices.Clone(p)})
	}
	return err
}

// WriteBack does nothing: that some of a file's changes reach the disk before it is synced is what every cut tries.
func (h *simHandle) WriteBack(off, n int64) {}

// ReadAhead does nothing: everything is in memory.
func (h *simHandle) ReadAhead(off, n int64) {}

// Datasync makes the content durable. If it fails, what was written is lost, and the next one will not know: that is what Linux does.
func (h *simHandle) Datasync() error {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if err := h.d.step(simSync, h.path); err != nil {
		if !h.d.dark {
			h.f.changes = nil
		}
		return err
	}
	h.f.save()
	return nil
}

func (h *simHandle) apply(what string, c simChange) error {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if err := h.d.step(what, h.path); err != nil {
		return err
	}
	c.what = what
	h.f.change(c)
	return nil
}

func (h *simHandle) size() int64 {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	return int64(len(h.f.now))
}

func (h *simHandle) Close() error { return nil }

// simJournal is the disk as the journal sees it.
type simJournal struct{ *simDisk }

var _ local.Files = simJournal{}

func (j simJournal) List() ([]string, error) { return j.list("journal"), nil }

func (j simJournal) Open(name string) (local.File, error) {
	h, err := j.open("journal/" + name)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return journalFile{h}, nil
}

func (j simJournal) Create(name string) (local.File, error) {
	h, err := j.create("journal/" + name)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	return journalFile{h}, nil
}

func (j simJournal) Remove(name string) error { return j.unlink("journal/" + name) }
func (j simJournal) SyncDir() error           { return j.syncDir("journal") }
func (j simJournal) Free() (uint64, error)    { return 1 << 40, nil }
func (j simJournal) Has(uint64) bool          { return true }

type journalFile struct{ *simHandle }

func (f journalFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.read(p, off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

func (f journalFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.write(p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (f journalFile) Size() (int64, error)      { return f.size(), nil }
func (f journalFile) Truncate(size int64) error { return f.apply(simTruncate, simChange{off: size}) }

// simObjects is the disk as the object store sees it.
type simObjects struct{ *simDisk }

var _ object.Lower = simObjects{}

func (o simObjects) OpenFile(p string, create bool) (object.LowerFile, error) {
	do := o.open
	if create {
		do = o.create
	}
	h, err := do("objects/" + p)
	if err != nil {
		return nil, err
	}
	return objectFile{h}, nil
}

func (o simObjects) Mkdir(p string) error   { return o.mkdir("objects/" + p) }
func (o simObjects) Unlink(p string) error  { return o.unlink("objects/" + p) }
func (o simObjects) SyncDir(p string) error { return o.syncDir(path.Join("objects", p)) }
func (o simObjects) SyncAll() error         { return o.syncAll() }
func (o simObjects) Close() error           { return nil }

func (o simObjects) ReadDir(p string, fn func(string) bool) error {
	for _, name := range o.list(path.Join("objects", p)) {
		if !fn(name) {
			break
		}
	}
	return nil
}

func (o simObjects) Space() (object.Space, error) {
	return object.Space{Total: 1 << 40, Free: 1 << 40, Avail: 1 << 40, Files: 1 << 30, FilesFree: 1 << 30, MaxFileSize: 1 << 43}, nil
}

type objectFile struct{ *simHandle }

func (f objectFile) ReadAt(p []byte, off int64) (int, error) { return f.read(p, off) }
func (f objectFile) WriteAt(p []byte, off int64) error       { return f.write(p, off) }
func (f objectFile) Punch(off, n int64) error                { return f.apply(simPunch, simChange{off: off, n: n}) }
func (f objectFile) Truncate(size int64) error               { return f.apply(simTruncate, simChange{off: size}) }

func (f objectFile) Stat() (size, allocated int64, err error) { return f.size(), f.size(), nil }
