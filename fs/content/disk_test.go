package content

import (
	"fmt"
	"io"

	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"syscall"

	"github.com/kmsfs/kmsfs/fs/object"
	"github.com/kmsfs/kmsfs/meta/kv/local"
)

// pageSize is the unit in which a disk writes back.
const pageSize = 4096

// disk is a filesystem that forgets, when the power is cut, what was not synced: any page, any name, any length may be the old or the new one.
type disk struct {
	mu    sync.Mutex
	now   map[string]*inode // names as seen; directories are nil
	saved map[string]*inode // names as durable
}

type inode struct {
	now, saved []byte
	dirty      map[int]bool // pages
}

func newDisk() *disk { return &disk{now: map[string]*inode{}, saved: map[string]*inode{}} }

// cut returns the disk as it may be found after the power was cut now.
func (d *disk) cut(rng *rand.Rand) *disk {
	keepAll, keepNone := rng.IntN(4) == 0, rng.IntN(4) == 0
	return d.cutBy(func() bool { return keepAll || !keepNone && rng.IntN(2) == 0 })
}

// cutBy is cut with coin to say what of that which was not synced is there.
func (d *disk) cutBy(coin func() bool) *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	after := newDisk()
	contents := map[*inode]*inode{} // what became of each
	keep := func(name string, n *inode) {
		if n != nil && contents[n] == nil {
			contents[n] = n.cut(coin)
		}
		after.now[name] = contents[n]
	}
	for name, n := range d.now {
		if old, ok := d.saved[name]; ok && old == n || coin() {
			keep(name, n)
		}
	}
	for name, n := range d.saved {
		if _, taken := after.now[name]; taken {
			continue
		}
		if now, ok := d.now[name]; (!ok || now != n) && coin() {
			keep(name, n)
		}
	}
	for name := range after.now { // what lies in a directory that was lost is lost
		if dir := path.Dir(name); dir != "." {
			if _, ok := after.now[dir]; !ok {
				delete(after.now, name)
			}
		}
	}
	for name, ino := range after.now {
		after.saved[name] = ino
	}
	return after
}

func (n *inode) cut(coin func() bool) *inode {
	data := append([]byte(nil), n.saved...)
	if len(n.now) != len(n.saved) && coin() {
		data = resized(data, len(n.now))
	}
	for page := range n.dirty {
		from, to := page*pageSize, min((page+1)*pageSize, len(n.now), len(data))
		if from < to && coin() {
			copy(data[from:to], n.now[from:to])
		}
	}
	return &inode{now: data, saved: append([]byte(nil), data...), dirty: map[int]bool{}}
}

func resized(b []byte, n int) []byte {
	if n <= len(b) {
		return b[:n]
	}
	return append(b, make([]byte, n-len(b))...)
}

func (n *inode) save() {
	if len(n.saved) != len(n.now) {
		n.saved = resized(n.saved, len(n.now))
	}
	for page := range n.dirty {
		if from := page * pageSize; from < len(n.now) {
			copy(n.saved[from:], n.now[from:min(from+pageSize, len(n.now))])
		}
	}
	clear(n.dirty)
}

func (n *inode) touch(off, count int) {
	for page := off / pageSize; page*pageSize < off+count; page++ {
		n.dirty[page] = true
	}
}

func (d *disk) saveNames(in func(string) bool) {
	for name, ino := range d.now {
		if in(name) {
			d.saved[name] = ino
		}
	}
	for name := range d.saved {
		if _, ok := d.now[name]; in(name) && !ok {
			delete(d.saved, name)
		}
	}
}

func (d *disk) open(name string, create bool) (*inode, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	ino, ok := d.now[name]
	switch {
	case create && ok:
		return nil, syscall.EEXIST
	case create:
		if dir := path.Dir(name); dir != "." {
			if _, ok := d.now[dir]; !ok {
				return nil, syscall.ENOENT
			}
		}
		ino = &inode{dirty: map[int]bool{}}
		d.now[name] = ino
	case !ok || ino == nil:
		return nil, syscall.ENOENT
	}
	return ino, nil
}

func (d *disk) remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.now[name]; !ok {
		return syscall.ENOENT
	}
	delete(d.now, name)
	return nil
}

// handle is an open file of a disk. It is an object.LowerFile; journalFile makes it a local.File.
type handle struct {
	d *disk
	n *inode
}

func (h handle) ReadAt(p []byte, off int64) (int, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if off >= int64(len(h.n.now)) {
		return 0, nil
	}
	return copy(p, h.n.now[off:]), nil
}

func (h handle) WriteAt(p []byte, off int64) error {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if end := int(off) + len(p); end > len(h.n.now) {
		h.n.now = resized(h.n.now, end)
	}
	copy(h.n.now[off:], p)
	h.n.touch(int(off), len(p))
	return nil
}

func (h handle) Datasync() error {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	h.n.save()
	return nil
}

func (h handle) WriteBack(off, n int64) {}

func (h handle) ReadAhead(off, n int64) {}

func (h handle) Punch(off, n int64) error {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if end := min(int(off+n), len(h.n.now)); int(off) < end {
		clear(h.n.now[off:end])
		h.n.touch(int(off), end-int(off))
	}
	return nil
}

func (h handle) Truncate(size int64) error {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	h.n.now = resized(h.n.now, int(size))
	h.n.touch(int(size), pageSize)
	return nil
}

func (h handle) Stat() (size, allocated int64, err error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	return int64(len(h.n.now)), int64(len(h.n.now)), nil
}

func (h handle) Close() error { return nil }

// lowerDisk makes a disk the objects directory.
type lowerDisk struct{ *disk }

func (d lowerDisk) OpenFile(path string, create bool) (object.LowerFile, error) {
	n, err := d.open(path, create)
	return handle{d.disk, n}, err
}

func (d lowerDisk) Mkdir(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.now[path]; ok {
		return syscall.EEXIST
	}
	d.now[path] = nil
	return nil
}

func (d lowerDisk) Unlink(path string) error { return d.remove(path) }

func (d lowerDisk) ReadDir(dir string, fn func(string) bool) error {
	d.mu.Lock()
	var names []string
	for name := range d.now {
		if path.Dir(name) == path.Join(".", dir) {
			names = append(names, path.Base(name))
		}
	}
	d.mu.Unlock()
	for _, name := range names {
		if !fn(name) {
			break
		}
	}
	return nil
}

func (d lowerDisk) SyncDir(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.saveNames(func(name string) bool { return path.Dir(name) == path.Join(".", dir) })
	return nil
}

func (d lowerDisk) SyncAll() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.saveNames(func(string) bool { return true })
	for _, n := range d.now {
		if n != nil {
			n.save()
		}
	}
	return nil
}

func (d lowerDisk) Space() (object.Space, error) {
	return object.Space{Total: 1 << 40, Free: 1 << 40, Avail: 1 << 40, MaxFileSize: 1 << 40}, nil
}

func (d lowerDisk) Close() error { return nil }

// journalDisk makes a disk the journal's directory.
type journalDisk struct{ *disk }

func (d journalDisk) List() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for name := range d.now {
		if !strings.Contains(name, "/") {
			names = append(names, name)
		}
	}
	return names, nil
}

func (d journalDisk) Open(name string) (local.File, error) {
	n, err := d.open(name, false)
	return journalFile{handle{d.disk, n}}, err
}

func (d journalDisk) Create(name string) (local.File, error) {
	n, err := d.open(name, true)
	return journalFile{handle{d.disk, n}}, err
}

func (d journalDisk) Remove(name string) error { return d.remove(name) }

func (d journalDisk) SyncDir() error { return lowerDisk(d).SyncDir("") }

func (d journalDisk) Free() (uint64, error) { return 1 << 40, nil }

func (d journalDisk) Has(uint64) bool { return true }

type journalFile struct{ handle }

func (f journalFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.handle.ReadAt(p, off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

func (f journalFile) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("offset %d", off)
	}
	return len(p), f.handle.WriteAt(p, off)
}

func (f journalFile) Size() (int64, error) {
	size, _, err := f.Stat()
	return size, err
}
