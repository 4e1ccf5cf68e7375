package powercut

import (
	"fmt"
	"math/rand/v2"

	"golang.org/x/sys/unix"
)

// opKind is what an operation does.
type opKind string

const (
	opCreate   opKind = "create"
	opMkdir    opKind = "mkdir"
	opSymlink  opKind = "symlink"
	opWrite    opKind = "write"
	opTruncate opKind = "truncate"
	opPunch    opKind = "punch"
	opZero     opKind = "zero"
	opRename   opKind = "rename"
	opLink     opKind = "link"
	opUnlink   opKind = "unlink"
	opRmdir    opKind = "rmdir"
	opSetxattr opKind = "setxattr"
	opFsync    opKind = "fsync"
	opFdata    opKind = "fdatasync"
	opFsyncDir opKind = "fsync of the directory"

	// These are for direct targets only.
	opCheckpoint opKind = "checkpoint"
	opReencrypt  opKind = "re-encrypt" // what the tree holds stays
)

// op is one operation. Paths are relative to the root of the volume.
type op struct {
	kind opKind
	path string
	to   string // rename, link: the new name; symlink: the target
	off  int64  // write, punch, zero; truncate: the size
	n    int64  // length in bytes
	seed uint64 // of what is written
}

func (o op) String() string {
	switch o.kind {
	case opWrite, opPunch, opZero:
		return fmt.Sprintf("%s %s: %d at %d", o.kind, o.path, o.n, o.off)
	case opTruncate:
		return fmt.Sprintf("%s %s to %d", o.kind, o.path, o.off)
	case opRename, opLink, opSymlink:
		return fmt.Sprintf("%s %s to %s", o.kind, o.path, o.to)
	}
	return fmt.Sprintf("%s %s", o.kind, o.path)
}

// isSync tells whether the operation changes nothing that can be seen.
func (o op) isSync() bool {
	return o.kind == opReencrypt || o.kind == opFsync || o.kind == opFdata || o.kind == opFsyncDir || o.kind == opCheckpoint
}

// mode returns the mode of fallocate(2).
func (o op) mode() uint32 {
	if o.kind == opPunch {
		return unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	}
	return unix.FALLOC_FL_ZERO_RANGE
}

// data returns what a write writes: bytes that are not zero and belong to this write alone.
func (o op) data() []byte { return pattern(int(o.n), o.seed) }

func pattern(n int, seed uint64) []byte {
	b := make([]byte, n)
	x := seed*0x9e3779b97f4a7c15 + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x) | 1
	}
	return b
}

const xattrName = "user.powercut"

// maxFile bounds the size of files in bytes.
const maxFile = 160 << 10

// picker draws operations that make sense in a state.
type picker struct {
	*rand.Rand
	dir   string // everything happens below it, "" for the root
	names int    // given so far
	seed  uint64
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// mutation draws one operation of kind, false if the state has nothing for it.
func (p *picker) mutation(kind opKind, s *state) (op, bool) {
	files, dirs := s.list(p.dir, kindFile), append(s.list(p.dir, kindDir), p.dir)
	parent := func() string { return dirs[p.IntN(len(dirs))] }
	p.names++
	name := func(prefix string) string { return join(parent(), fmt.Sprintf("%s%d", prefix, p.names)) }
	switch kind {
	case opCreate:
		return op{kind: kind, path: name("f")}, true
	case opMkdir:
		return op{kind: kind, path: name("d")}, true
	case opSymlink:
		return op{kind: kind, path: name("s"), to: fmt.Sprint("target of ", p.names)}, true
	case opRmdir:
		for _, d := range s.list(p.dir, kindDir) {
			if len(s.children(d)) == 0 {
				return op{kind: kind, path: d}, true
			}
		}
		return op{}, false
	case opUnlink:
		files = append(files, s.list(p.dir, kindSymlink)...)
	}
	if len(files) == 0 {
		return op{}, false
	}
	f := files[p.IntN(len(files))]
	size := int64(len(s.file(f).data))
	o := op{kind: kind, path: f}
	switch kind {
	case opRename:
		switch others, dir := s.others(files, f), dirs[p.IntN(len(dirs))]; {
		case p.IntN(2) == 0 && len(others) > 0:
			o.to = others[p.IntN(len(others))]
		case p.IntN(4) == 0 && dir != p.dir:
			o.path, o.to = dir, join(p.dir, fmt.Sprintf("d%d", p.names))
		default:
			o.to = name("r")
		}
	case opLink:
		o.to = name("l")
	case opSetxattr:
		o.seed = p.next()
	case opWrite:
		o.off, o.n, o.seed = p.offset(size), p.length(), p.next()
		if p.IntN(3) == 0 {
			o.off = size // append
		}
		o.n = min(o.n, maxFile-min(o.off, maxFile-1))
		o.off = min(o.off, maxFile-o.n)
	case opTruncate:
		o.off = p.offset(size)
		if p.IntN(4) == 0 {
			o.off = min(size+p.length(), maxFile)
		}
	case opPunch, opZero:
		o.off, o.n = p.offset(size), p.length()
		o.n = min(o.n, maxFile-min(o.off, maxFile-1))
	}
	return o, true
}

func (p *picker) next() uint64 {
	p.seed++
	return p.seed
}

// offset draws a place in a file of size bytes, more often than not at an edge.
func (p *picker) offset(size int64) int64 {
	const block = 4096
	edges := []int64{0, block - 1, block, block + 1, 2 * block, size, max(size-1, 0), size / block * block}
	switch p.IntN(3) {
	case 0:
		return edges[p.IntN(len(edges))]
	case 1:
		return p.Int64N(size/block+2) * block
	}
	return p.Int64N(size + block)
}

func (p *picker) length() int64 {
	const block = 4096
	edges := []int64{1, 100, block - 1, block, block + 1, 2 * block, 3*block + 7}
	if p.IntN(2) == 0 {
		return edges[p.IntN(len(edges))]
	}
	return 1 + p.Int64N(12*block)
}

// sync returns what makes a mutation durable that led to state s, or nothing.
func (p *picker) sync(kind opKind, after op, s *state) (op, bool) {
	path := after.path
	if after.kind == opRename || after.kind == opLink {
		path = after.to
	}
	switch kind {
	case opFsync, opFdata:
		if n := s.file(path); n == nil || n.kind != kindFile {
			return op{kind: opFsyncDir, path: parentOf(path)}, true
		}
		return op{kind: kind, path: path}, true
	case opFsyncDir:
		return op{kind: kind, path: parentOf(path)}, true
	}
	return op{}, false
}

// mutations are the kinds of operations that change something; syncs are what may follow ("" is nothing).
var (
	mutations = []opKind{opCreate, opWrite, opTruncate, opPunch, opZero, opRename, opLink, opUnlink, opMkdir, opRmdir, opSymlink, opSetxattr}
	syncs     = []opKind{opFsync, opFdata, opFsyncDir, ""}
)
