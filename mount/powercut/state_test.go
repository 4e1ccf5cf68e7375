package powercut

import (
	"maps"
	"path"
	"slices"
	"strings"
)

type nodeKind string

const (
	kindFile    nodeKind = "file"
	kindDir     nodeKind = "directory"
	kindSymlink nodeKind = "symlink"
)

// node is an inode in one state. It is never changed: a change makes another.
type node struct {
	kind   nodeKind
	data   []byte
	target string
	xattr  string // value of xattrName, "" if it is not set
}

// state is a tree at one moment. It is never changed. The root is not in it.
type state struct {
	names map[string]int // path to inode
	nodes map[int]*node
}

func newState() *state { return &state{names: map[string]int{}, nodes: map[int]*node{}} }

func (s *state) clone() *state { return &state{names: maps.Clone(s.names), nodes: maps.Clone(s.nodes)} }

// file returns the node at path, nil if there is none.
func (s *state) file(path string) *node { return s.nodes[s.names[path]] }

// list returns the paths of one kind below dir, sorted.
func (s *state) list(dir string, kind nodeKind) []string {
	var out []string
	for p, id := range s.names {
		if below(p, dir) && s.nodes[id].kind == kind {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

func (s *state) children(dir string) []string {
	var out []string
	for p := range s.names {
		if parentOf(p) == dir {
			out = append(out, p)
		}
	}
	return out
}

// others returns those of files that are not the inode at path.
func (s *state) others(files []string, path string) []string {
	return slices.DeleteFunc(slices.Clone(files), func(f string) bool { return s.names[f] == s.names[path] })
}

// links returns how many names an inode has.
func (s *state) links(id int) int {
	n := 0
	for _, other := range s.names {
		if other == id {
			n++
		}
	}
	return n
}

func below(p, dir string) bool { return dir == "" || strings.HasPrefix(p, dir+"/") }

func parentOf(p string) string {
	if dir := path.Dir(p); dir != "." {
		return dir
	}
	return ""
}

// after returns the state that an operation makes of s. newID is the inode that it may make.
func (s *state) after(o op, newID int) *state {
	if o.isSync() {
		return s
	}
	next := s.clone()
	switch o.kind {
	case opCreate:
		next.add(o.path, newID, &node{kind: kindFile})
	case opMkdir:
		next.add(o.path, newID, &node{kind: kindDir})
	case opSymlink:
		next.add(o.path, newID, &node{kind: kindSymlink, target: o.to})
	case opLink:
		next.names[o.to] = s.names[o.path]
	case opUnlink, opRmdir:
		next.drop(o.path)
	case opRename:
		if s.names[o.to] != s.names[o.path] || s.names[o.to] == 0 {
			next.drop(o.to)
			next.move(o.path, o.to)
		}
	default:
		changed := *s.file(o.path)
		changed.apply(o)
		next.nodes[s.names[o.path]] = &changed
	}
	return next
}

func (s *state) add(path string, id int, n *node) {
	s.names[path] = id
	s.nodes[id] = n
}

// move renames a name and, if it is a directory, what lies below.
func (s *state) move(from, to string) {
	for p, id := range s.names {
		if p == from || below(p, from) {
			delete(s.names, p)
			s.names[to+p[len(from):]] = id
		}
	}
}

func (s *state) drop(path string) {
	id, ok := s.names[path]
	if !ok {
		return
	}
	delete(s.names, path)
	if s.links(id) == 0 {
		delete(s.nodes, id)
	}
}

// apply changes a node that is not part of a state yet.
func (n *node) apply(o op) {
	switch o.kind {
	case opSetxattr:
		n.xattr = string(pattern(20, o.seed))
	case opWrite:
		n.data = resized(n.data, max(len(n.data), int(o.off+o.n)))
		copy(n.data[o.off:], o.data())
	case opTruncate:
		n.data = resized(n.data, int(o.off))
	case opPunch, opZero:
		size := len(n.data)
		if o.kind == opZero {
			size = max(size, int(o.off+o.n))
		}
		n.data = resized(n.data, size)
		if int(o.off) < size {
			clear(n.data[o.off:min(int(o.off+o.n), size)])
		}
	}
}

// resized returns a copy of b with n bytes, zeros where b ends.
func resized(b []byte, n int) []byte {
	out := make([]byte, n)
	copy(out, b)
	return out
}
