package powercut

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// page is the unit in which content is old or new: what the kernel caches, and the smallest block.
const page = 4096

// history is what was done to a tree since its state was last known, and what of it must survive.
type history struct {
	states []*state // states[0] is the known one, states[i] that after ops[i-1]
	ops    []op
	named  []int   // indexes of states whose names, links or xattrs differ from those before; 0 first
	synced int     // names are not older than this state
	floors []floor // what is known of contents
	late   map[int]bool
	lastID int
}

// floor says that the content of an inode is not older than state from, if names are not older than state when.
type floor struct {
	id, from, when int
}

// newHistory begins one with a known state.
func newHistory(s *state) *history {
	h := &history{states: []*state{s}, named: []int{0}, late: map[int]bool{}}
	for id := range s.nodes {
		h.lastID = max(h.lastID, id)
	}
	return h
}

func (h *history) now() *state { return h.states[len(h.states)-1] }
func (h *history) last() int   { return len(h.states) - 1 }

// begin notes an operation that is about to be made: from now on it may have happened.
func (h *history) begin(o op) {
	before := h.now()
	h.lastID++
	next := before.after(o, h.lastID)
	if id := before.names[o.path]; o.kind == opRename && before.file(o.to) != nil && before.names[o.to] != id && !h.late[id] {
		h.floors = append(h.floors, floor{id, h.last(), len(h.states)})
	}
	h.ops = append(h.ops, o)
	h.states = append(h.states, next)
	switch o.kind {
	case opCreate, opMkdir, opSymlink, opRename, opLink, opUnlink, opRmdir, opSetxattr:
		h.named = append(h.named, h.last())
	}
}

// cached notes that what is written to the inode at path may stay in the kernel's cache, while it is mounted.
func (h *history) cached(path string) { h.late[h.now().names[path]] = true }

// end notes that the last operation was acknowledged.
func (h *history) end() {
	o := h.ops[len(h.ops)-1]
	switch o.kind {
	case opFsync, opFdata:
		id := h.now().names[o.path]
		h.floors = append(h.floors, floor{id: id, from: h.last()})
		h.synced = h.last()
		delete(h.late, id)
	case opFsyncDir:
		h.synced = h.last()
		if o.path == "" { // fsync of the mount's root is a sync of everything
			h.allWritten()
		}
	case opCheckpoint:
		h.synced = h.last()
		h.allWritten()
	}
}

// allWritten says that no content is older than now, but for what is in the kernel's cache.
func (h *history) allWritten() {
	for id := range h.now().nodes {
		if !h.late[id] {
			h.floors = append(h.floors, floor{id: id, from: h.last()})
		}
	}
}

// withAll returns the history as if everything in it had been made durable.
func (h *history) withAll() *history { return h.withFirst(h.last()) }

// withFirst returns the history as if its first n operations had been made durable.
func (h *history) withFirst(n int) *history {
	all := *h
	all.synced = n
	all.floors = slices.Clone(h.floors)
	for id := range h.states[n].nodes {
		if !h.late[id] {
			all.floors = append(all.floors, floor{id: id, from: n})
		}
	}
	return &all
}

// cancel takes back the last operation, which is known to have changed nothing.
func (h *history) cancel() {
	h.ops = h.ops[:len(h.ops)-1]
	gone := h.last()
	h.states = h.states[:gone]
	h.named = slices.DeleteFunc(h.named, func(i int) bool { return i == gone })
	h.floors = slices.DeleteFunc(h.floors, func(f floor) bool { return f.when == gone || f.from == gone })
}

// check compares what was found with every state that is allowed, and returns the found state with the history's inodes.
func (h *history) check(found *observed) (*state, error) {
	var errs []error
	for i := len(h.named) - 1; i >= 0; i-- {
		first, last := h.named[i], h.last()
		if i+1 < len(h.named) {
			last = h.named[i+1] - 1
		}
		if last < h.synced {
			break
		}
		s, err := h.matches(found, first, last)
		if err == nil {
			return s, nil
		}
		errs = append(errs, fmt.Errorf("not after operation %d: %w", first, err))
	}
	return nil, fmt.Errorf("names must be those after operation %d or later:\n%w", h.synced, errors.Join(errs...))
}

// matches compares with the run of states [first, last], which have the same names.
func (h *history) matches(found *observed, first, last int) (*state, error) {
	want := h.states[last]
	ids, err := sameNames(want, found)
	if err != nil {
		return nil, err
	}
	result := want.clone()
	for inode, id := range ids {
		n := want.nodes[id]
		if n.kind != kindFile {
			continue
		}
		from := 0
		for _, f := range h.floors {
			if f.id == id && f.when <= first {
				from = max(from, f.from)
			}
		}
		data := found.data[inode]
		if err := h.allowedData(id, from, last, data); err != nil {
			return nil, fmt.Errorf("content of %s: %w", found.nameOf(inode), err)
		}
		changed := *n
		changed.data = data
		result.nodes[id] = &changed
	}
	return result, nil
}

// sameNames compares all but contents and returns which inode found is which of s.
func sameNames(s *state, found *observed) (map[uint64]int, error) {
	ids := map[uint64]int{}
	for path, id := range s.names {
		e, ok := found.entries[path]
		if !ok {
			return nil, fmt.Errorf("%s is missing", path)
		}
		if other, ok := ids[e.ino]; ok && other != id {
			return nil, fmt.Errorf("%s is the same inode as something else", path)
		}
		ids[e.ino] = id
		n := s.nodes[id]
		if e.kind != n.kind || e.target != n.target || e.xattr != n.xattr {
			return nil, fmt.Errorf("%s is a %s to %q with xattr %x, want a %s to %q with xattr %x", path, e.kind, e.target, e.xattr, n.kind, n.target, n.xattr)
		}
		if links := s.links(id); n.kind == kindFile && e.links != links {
			return nil, fmt.Errorf("%s has %d links, want %d", path, e.links, links)
		}
	}
	if len(ids) != len(s.nodes) {
		return nil, fmt.Errorf("%d inodes, want %d", len(ids), len(s.nodes))
	}
	for path := range found.entries {
		if _, ok := s.names[path]; !ok {
			return nil, fmt.Errorf("%s should not be there", path)
		}
	}
	return ids, nil
}

// allowedData compares content with the states [from, last] of an inode: each page is that of one of them, the size lies between theirs.
func (h *history) allowedData(id, from, last int, got []byte) error {
	var versions [][]byte
	for i := from; i <= last; i++ {
		n := h.states[i].nodes[id]
		if n == nil {
			continue
		}
		if k := len(versions); k == 0 || !bytes.Equal(versions[k-1], n.data) {
			versions = append(versions, n.data)
		}
	}
	lo, hi := len(versions[0]), 0
	exact := false
	for _, v := range versions {
		lo, hi = min(lo, len(v)), max(hi, len(v))
		exact = exact || len(v) == len(got)
	}
	if !exact && (len(got) < lo || len(got) > hi || len(got)%page != 0) {
		return fmt.Errorf("size %d, want %d to %d, one of %d versions since operation %d", len(got), lo, hi, len(versions), from)
	}
	for off := 0; off < len(got); off += page {
		if !anyHas(versions, off, got[off:min(off+page, len(got))]) {
			return fmt.Errorf("page at %d of %d bytes is that of none of %d versions since operation %d", off, len(got), len(versions), from)
		}
	}
	return nil
}

func anyHas(versions [][]byte, off int, got []byte) bool {
	return slices.ContainsFunc(versions, func(v []byte) bool {
		have := v[min(off, len(v)):min(off+len(got), len(v))]
		rest := got[len(have):]
		return bytes.Equal(have, got[:len(have)]) && bytes.Count(rest, []byte{0}) == len(rest)
	})
}

// String lists the operations.
func (h *history) String() string {
	var b strings.Builder
	for i, o := range h.ops {
		fmt.Fprintf(&b, "%4d %s\n", i+1, o)
	}
	return b.String()
}

// observed is a tree as it was found.
type observed struct {
	entries map[string]entry
	data    map[uint64][]byte // content by inode
}

type entry struct {
	ino    uint64
	kind   nodeKind
	links  int
	target string
	xattr  string
}

func newObserved() *observed {
	return &observed{entries: map[string]entry{}, data: map[uint64][]byte{}}
}

func (o *observed) nameOf(ino uint64) string {
	for path, e := range o.entries {
		if e.ino == ino {
			return path
		}
	}
	return "?"
}

// under returns the part of the tree below dir.
func (o *observed) under(dir string) *observed {
	part := &observed{entries: map[string]entry{}, data: o.data}
	for path, e := range o.entries {
		if below(path, dir) {
			part.entries[path] = e
		}
	}
	return part
}
