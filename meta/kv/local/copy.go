package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// Copy is a set of export files outside of a store, such as a backup's: files of one state, which its owner lists. It belongs to one goroutine.
type Copy struct {
	dir    string
	key    *blockcrypt.Key
	volume blockcrypt.VolumeID
	files  []exportFile
}

// OpenCopy opens the copy that consists of the files called names in dir; none is the empty state. key is the journal key; it must outlive the copy.
// Errors: kv.ErrCorrupt, also if the files do not go on from each other; fs.ErrNotExist.
func OpenCopy(dir string, names []string, key *blockcrypt.Key, volume blockcrypt.VolumeID) (*Copy, error) {
	c := &Copy{dir: dir, key: key, volume: volume}
	for _, name := range names {
		if filepath.Base(name) != name || !strings.HasSuffix(name, exportSuffix) {
			return nil, fmt.Errorf("file name %q: %w", name, kv.ErrCorrupt)
		}
		f, err := inspectExport(dir, name, key, volume)
		if err != nil {
			return nil, fmt.Errorf("file %s: %w", name, err)
		}
		if f.from != exportEnd(c.files) {
			return nil, fmt.Errorf("file %s does not go on where the one before it ends: %w", name, kv.ErrCorrupt)
		}
		c.files = append(c.files, f)
	}
	return c, nil
}

// OpenCopy is the function of that name with the store's own key: the copy is used as long as a Snapshot is held, and not after Close.
func (s *Store) OpenCopy(dir string, names []string) (*Copy, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.calls.Done()
	return OpenCopy(dir, names, s.journal.key, s.opts.Volume)
}

// Head returns the record at which the copy ends.
func (c *Copy) Head() Head {
	end := exportEnd(c.files)
	return Head{Sequence: end.seq, Tag: end.tag}
}

// Names returns the files, in order.
func (c *Copy) Names() (names []string) {
	for _, f := range c.files {
		names = append(names, f.name)
	}
	return names
}

// Size returns the bytes of the files.
func (c *Copy) Size() (size int64) {
	for _, f := range c.files {
		size += f.size
	}
	return size
}

// Rows calls fn for every row, in the order of keys. Slices are valid during the call. Errors: kv.ErrCorrupt, fn's.
func (c *Copy) Rows(ctx context.Context, fn func(key, value []byte) error) error {
	sources, done, err := openExports(c.dir, c.files, c.key, c.volume)
	if err != nil {
		return err
	}
	defer done()
	return mergeExports(ctx, sources, func(k, v []byte) error {
		if v == nil {
			return nil
		}
		return fn(k, v)
	})
}

// Since calls changed for every row in which the copy and a later state to differ, as Snapshot.Since does.
func (c *Copy) Since(ctx context.Context, to *Snapshot, changed func(key, was, is []byte) error) error {
	sources, done, err := openExports(c.dir, c.files, c.key, c.volume)
	if err != nil {
		return err
	}
	defer done()
	now := to.base.scan(nil, nil)
	defer now.close()
	return differ(ctx, newMerged(sources), now, changed)
}

// Next returns the copy of the state to: the files of c, and one called name with what has changed since, and from time to time fewer and larger ones.
// Files are made, none is changed or removed. changed is called for every row that differs.
func (c *Copy) Next(ctx context.Context, to *Snapshot, name string, changed func(key, was, is []byte) error) (*Copy, error) {
	next := &Copy{dir: c.dir, key: c.key, volume: c.volume, files: c.files}
	h := to.store.exportHeader(to.point)
	h.from = exportEnd(c.files)
	if h.to == h.from {
		return next, nil
	}
	goesOn := h.to.seq > h.from.seq
	if !goesOn { // an older state, or another history: nothing is gone on with
		h.from, next.files = point{}, nil
	}
	sources, done, err := openExports(c.dir, c.files, c.key, c.volume)
	if err != nil {
		return nil, err
	}
	defer done()
	w, err := newExportWriter(c.dir, c.key, c.volume, h)
	if err != nil {
		return nil, err
	}
	now := to.base.scan(nil, nil)
	defer now.close()
	err = differ(ctx, newMerged(sources), now, func(key, was, is []byte) error {
		if goesOn {
			if err := w.add(key, is); err != nil {
				return err
			}
		}
		return changed(key, was, is)
	})
	if err == nil && !goesOn {
		err = to.Since(ctx, nil, func(key, _, is []byte) error { return w.add(key, is) })
	}
	if err != nil {
		w.abandon()
		return nil, err
	}
	if err := w.finish(filepath.Join(c.dir, name+exportSuffix)); err != nil {
		return nil, err
	}
	next.files = append(next.files[:len(next.files):len(next.files)], exportFile{exportHeader: h, name: name + exportSuffix, size: w.size})
	return next, next.merge(ctx, name)
}

// merge replaces the last files by one if that is due.
func (c *Copy) merge(ctx context.Context, name string) error {
	first := dueRun(c.files)
	if first < 0 {
		return nil
	}
	run := c.files[first:]
	h := run[len(run)-1].exportHeader
	h.from = run[0].from
	sources, done, err := openExports(c.dir, run, c.key, c.volume)
	if err != nil {
		return err
	}
	defer done()
	w, err := newExportWriter(c.dir, c.key, c.volume, h)
	if err != nil {
		return err
	}
	err = mergeExports(ctx, sources, func(k, v []byte) error {
		if v == nil && first == 0 {
			return nil
		}
		return w.add(k, v)
	})
	if err != nil {
		w.abandon()
		return err
	}
	merged := exportFile{exportHeader: h, name: name + "-merged" + exportSuffix}
	if err := w.finish(filepath.Join(c.dir, merged.name)); err != nil {
		return err
	}
	merged.size = w.size
	c.files = append(c.files[:first:first], merged)
	return nil
}

// Clean removes the files of the directory that are not the copy's.
func (c *Copy) Clean() error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	for _, f := range c.files {
		keep[f.name] = true
	}
	var errs []error
	for _, e := range entries {
		name := e.Name()
		if !keep[name] && (strings.HasSuffix(name, exportSuffix) || strings.HasSuffix(name, exportTemp)) {
			errs = append(errs, os.Remove(filepath.Join(c.dir, name)))
		}
	}
	return errors.Join(errs...)
}

// merged makes one source of several, of which the first hides the others; deletions are passed over.
type merged struct {
	sources []source
	first   source
	err     error
}

func newMerged(sources []source) *merged {
	m := &merged{sources: sources}
	m.settle()
	return m
}

// settle finds the next row that is there.
func (m *merged) settle() {
	for m.err == nil {
		m.first = lowest(m.sources)
		for _, s := range m.sources {
			if m.err = s.failed(); m.err != nil {
				m.first = nil
				return
			}
		}
		if m.first == nil {
			return
		}
		if _, present, err := m.first.value(); present || err != nil {
			m.err = err
			return
		}
		m.pass()
	}
}

// pass goes past the row at hand in all sources.
func (m *merged) pass() {
	key := m.first.key()
	for _, s := range m.sources {
		if s != m.first && string(s.key()) == string(key) {
			s.next()
		}
	}
	m.first.next()
}

func (m *merged) key() []byte {
	if m.first == nil {
		return nil
	}
	return m.first.key()
}

func (m *merged) value() ([]byte, bool, error) { return m.first.value() }

func (m *merged) next() {
	m.pass()
	m.settle()
}

func (m *merged) failed() error { return m.err }
