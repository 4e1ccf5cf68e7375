package local

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"path/filepath"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// rowSource leaves journal-only rows out of an overlay.
type rowSource struct {
	*overlaySource
	skip func(key []byte) bool
}

func (s *Store) rowsOf(g *generation) source {
	r := &rowSource{newOverlaySource(g, math.MaxUint64, nil, nil), s.journalOnly}
	r.settle()
	return r
}

func (r *rowSource) next() {
	r.overlaySource.next()
	r.settle()
}

// settle passes over what is to be left out.
func (r *rowSource) settle() {
	for k := r.key(); k != nil && r.skip(k); k = r.key() {
		r.overlaySource.next()
	}
}

// exportRows adds the rows of a checkpoint to the export. They are in the journal, durably; the state before them is still the base.
func (s *Store) exportRows(ctx context.Context, f frozen) {
	if s.export == nil {
		return
	}
	s.export.add(ctx, s.exportHeader(f.at), s.exportSize(s.journal.uncoveredOps(f.ops)),
		func() source { return s.rowsOf(f.generation) },
		func() ([]source, func()) {
			below := s.base.scan(nil, nil)
			return []source{s.rowsOf(f.generation), below}, below.close
		})
}

// exportBehind writes the export anew where it is behind the last checkpoint, and no other is due.
func (s *Store) exportBehind(ctx context.Context) {
	if s.export == nil {
		return
	}
	if _, _, behind := s.export.state(); behind == nil {
		return
	}
	s.export.add(ctx, s.exportHeader(s.lastCheckpoint.point), s.exportSize(0), nil,
		func() ([]source, func()) {
			below := s.base.scan(nil, nil)
			return []source{below}, below.close
		})
}

// exportLate tells whether the export is behind because there was no room for it.
func (s *Store) exportLate() bool {
	if s.export == nil {
		return false
	}
	_, _, behind := s.export.state()
	return errors.Is(behind, kv.ErrNoSpace)
}

func (s *Store) exportHeader(to point) exportHeader {
	s.mu.Lock()
	defer s.mu.Unlock()
	return exportHeader{to: to, generation: s.generation, heads: s.heads.before(to.seq)}
}

// exportSize bounds what is written: the changes, or the whole state as Badger's tables take it.
func (s *Store) exportSize(changes int64) int64 {
	if _, _, behind := s.export.state(); behind == nil {
		return changes
	}
	total := changes + memTable(s.opts)
	_ = filepath.WalkDir(metaDir(s.opts), func(path string, e fs.DirEntry, err error) error { // what cannot be seen is not counted
		if err == nil && filepath.Ext(path) == ".sst" {
			if info, err := e.Info(); err == nil {
				total += info.Size()
			}
		}
		return nil
	})
	return total
}

// VerifyExport reads the metadata export from end to end. Errors: why it does not reach the last checkpoint; kv.ErrCorrupt; nil where there is none.
func (s *Store) VerifyExport(ctx context.Context) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.calls.Done()
	if s.export == nil {
		return nil
	}
	return s.export.verify(ctx)
}
