package powercut

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
)

// session is one tree of one target through operations, cuts and checks.
type session struct {
	t      testing.TB
	pick   *picker
	target target
	h      *history
	keep   bool // written files stay open, so that writes may stay in the kernel's cache
}

// step makes one operation. An error of it is returned; the operation may have happened all the same.
func (s *session) step(o op) error {
	s.h.begin(o)
	if s.keep && o.kind == opWrite {
		s.h.cached(o.path)
	}
	if err := s.target.do(o); err != nil {
		return fmt.Errorf("%s: %w", o, err)
	}
	s.h.end()
	return nil
}

// must makes an operation that must succeed.
func (s *session) must(o op) {
	s.t.Helper()
	if err := s.step(o); err != nil {
		s.t.Fatalf("%v\n%s", err, s.h)
	}
}

// Bounds of what prepare leaves, so that trees do not grow from cut to cut.
const (
	fewNames  = 3
	manyNames = 14
)

// prepare sees that there is something to work on and not too much, makes it durable, and begins a new history.
func (s *session) prepare() {
	s.t.Helper()
	s.setKeep(false)
	for len(s.h.now().names) > manyNames {
		s.must(s.removable())
	}
	for len(s.h.now().list(s.pick.dir, kindFile)) < fewNames {
		s.must(s.draw(opCreate))
		s.must(s.draw(opWrite))
	}
	for _, f := range s.h.now().list(s.pick.dir, kindFile) {
		s.must(op{kind: opFsync, path: f})
	}
	s.must(op{kind: opFsyncDir, path: s.pick.dir})
	s.h = newHistory(s.h.now())
}

// setKeep says whether written files stay open from now on.
func (s *session) setKeep(keep bool) {
	s.keep = keep
	if m, ok := s.target.(*mounted); ok {
		m.keep = keep
	}
}

// removable returns the removal of something that holds nothing else.
func (s *session) removable() op {
	now := s.h.now()
	for _, p := range slices.Sorted(maps.Keys(now.names)) {
		switch {
		case p == s.pick.dir:
		case now.file(p).kind != kindDir:
			return op{kind: opUnlink, path: p}
		case len(now.children(p)) == 0:
			return op{kind: opRmdir, path: p}
		}
	}
	panic("nothing to remove")
}

// draw returns an operation of a kind that the state has something for; others are replaced by a new file.
func (s *session) draw(kind opKind) op {
	o, ok := s.pick.mutation(kind, s.h.now())
	if !ok {
		o, _ = s.pick.mutation(opCreate, s.h.now())
	}
	return o
}

// random returns any operation.
func (s *session) random() op {
	kinds := []opKind{opWrite, opWrite, opWrite, opTruncate, opRename}
	kinds = append(kinds, mutations...)
	if len(s.h.now().names) > manyNames {
		return s.removable()
	}
	return s.draw(kinds[s.pick.IntN(len(kinds))])
}

// compare checks what was found after a crash, and goes on from there.
func (s *session) compare(found *observed, err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("read everything: %v\n%s", err, s.h)
	}
	known, err := s.h.check(found.under(s.pick.dir))
	if err != nil {
		s.t.Fatalf("%v\n%s", err, s.h)
	}
	s.h = newHistory(known)
}

// errCut is what operations of a disk without power fail with.
var errCut = errors.New("the power is cut")
