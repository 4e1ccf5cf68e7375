package fs_test

import (
	"maps"
	"path"
	"slices"
	"strings"
	"syscall"
)

// modelNode is an inode of the model.
type modelNode struct {
	dir    map[string]*modelNode // directories
	target string                // symbolic links
	data   []byte                // regular files
	mode   uint32                // permission bits
	nlink  int
	xattrs map[string]string
}

func newModelDir(mode uint32) *modelNode {
	return &modelNode{dir: map[string]*modelNode{}, mode: mode, nlink: 2, xattrs: map[string]string{}}
}

func newModelFile(mode uint32) *modelNode {
	return &modelNode{mode: mode, nlink: 1, xattrs: map[string]string{}}
}

func (n *modelNode) isDir() bool  { return n.dir != nil }
func (n *modelNode) isLink() bool { return n.target != "" }
func (n *modelNode) isFile() bool { return !n.isDir() && !n.isLink() }

// modelTree is a filesystem as POSIX describes it, in memory. Paths are relative and clean, "." is the root.
type modelTree struct {
	root *modelNode
}

func newModelTree() *modelTree { return &modelTree{newModelDir(0o755)} }

// walk returns the node at p without following a symbolic link at its end; none of the model's links lead anywhere.
func (m *modelTree) walk(p string) (*modelNode, syscall.Errno) {
	n := m.root
	if p == "." {
		return n, 0
	}
	for _, name := range strings.Split(p, "/") {
		if n.isLink() {
			return nil, syscall.ENOENT // followed, and dangling
		}
		if !n.isDir() {
			return nil, syscall.ENOTDIR
		}
		next := n.dir[name]
		if next == nil {
			return nil, syscall.ENOENT
		}
		n = next
	}
	return n, 0
}

// each calls fn for every path, in a fixed order, the root first.
func (m *modelTree) each(fn func(p string, n *modelNode)) { eachNode(".", m.root, fn) }

func eachNode(p string, n *modelNode, fn func(string, *modelNode)) {
	fn(p, n)
	for _, name := range slices.Sorted(maps.Keys(n.dir)) {
		eachNode(path.Join(p, name), n.dir[name], fn)
	}
}

// parent returns the directory that p lies in, which must exist.
func (m *modelTree) parent(p string) (*modelNode, string, syscall.Errno) {
	dir, errno := m.walk(path.Dir(p))
	switch {
	case errno != 0:
		return nil, "", errno
	case dir.isLink():
		return nil, "", syscall.ENOENT
	case !dir.isDir():
		return nil, "", syscall.ENOTDIR
	}
	return dir, path.Base(p), 0
}

// add puts a new node at p.
func (m *modelTree) add(p string, n *modelNode) syscall.Errno {
	dir, name, errno := m.parent(p)
	if errno != 0 {
		return errno
	}
	if dir.dir[name] != nil {
		return syscall.EEXIST
	}
	dir.dir[name] = n
	if n.isDir() {
		dir.nlink++
		n.mode |= dir.mode & 0o2000
	}
	return 0
}

func (m *modelTree) unlink(p string) syscall.Errno {
	dir, name, errno := m.parent(p)
	if errno != 0 {
		return errno
	}
	n := dir.dir[name]
	switch {
	case n == nil:
		return syscall.ENOENT
	case n.isDir():
		return syscall.EISDIR
	}
	delete(dir.dir, name)
	n.nlink--
	return 0
}

func (m *modelTree) rmdir(p string) syscall.Errno {
	dir, name, errno := m.parent(p)
	if errno != 0 {
		return errno
	}
	n := dir.dir[name]
	switch {
	case n == nil:
		return syscall.ENOENT
	case !n.isDir():
		return syscall.ENOTDIR
	case len(n.dir) > 0:
		return syscall.ENOTEMPTY
	}
	delete(dir.dir, name)
	n.nlink = 0
	dir.nlink--
	return 0
}

func (m *modelTree) link(from, to string) syscall.Errno {
	n, errno := m.walk(from)
	if errno != 0 {
		return errno
	}
	dir, name, errno := m.parent(to)
	switch {
	case errno != 0:
		return errno
	case dir.dir[name] != nil:
		return syscall.EEXIST
	case n.isDir():
		return syscall.EPERM
	}
	dir.dir[name] = n
	n.nlink++
	return 0
}

// Flags of rename, as renameat2(2)'s.
const (
	renameNoReplace = 1
	renameExchange  = 2
)

// rename moves from to to. The order of the checks is Linux'.
func (m *modelTree) rename(from, to string, flags uint) syscall.Errno {
	fromDir, fromName, errno := m.parent(from)
	if errno != 0 {
		return errno
	}
	toDir, toName, errno := m.parent(to)
	if errno != 0 {
		return errno
	}
	src, dst := fromDir.dir[fromName], toDir.dir[toName]
	switch {
	case src == nil:
		return syscall.ENOENT
	case flags&renameNoReplace != 0 && dst != nil:
		return syscall.EEXIST
	case flags&renameExchange != 0 && dst == nil:
		return syscall.ENOENT
	case strings.HasPrefix(to+"/", from+"/") && to != from:
		return syscall.EINVAL
	case strings.HasPrefix(from+"/", to+"/") && to != from:
		if flags&renameExchange != 0 {
			return syscall.EINVAL
		}
		return syscall.ENOTEMPTY
	case src == dst:
		return 0
	}
	if flags&renameExchange != 0 {
		m.swap(fromDir, fromName, toDir, toName)
		return 0
	}
	return m.replace(fromDir, fromName, toDir, toName)
}

func (m *modelTree) swap(fromDir *modelNode, fromName string, toDir *modelNode, toName string) {
	src, dst := fromDir.dir[fromName], toDir.dir[toName]
	fromDir.dir[fromName], toDir.dir[toName] = dst, src
	if src.isDir() {
		fromDir.nlink--
		toDir.nlink++
	}
	if dst.isDir() {
		toDir.nlink--
		fromDir.nlink++
	}
}

func (m *modelTree) replace(fromDir *modelNode, fromName string, toDir *modelNode, toName string) syscall.Errno {
	src, dst := fromDir.dir[fromName], toDir.dir[toName]
	switch {
	case dst == nil:
	case src.isDir() && !dst.isDir():
		return syscall.ENOTDIR
	case !src.isDir() && dst.isDir():
		return syscall.EISDIR
	case dst.isDir() && len(dst.dir) > 0:
		return syscall.ENOTEMPTY
	}
	if dst != nil {
		if dst.isDir() {
			dst.nlink = 0
			toDir.nlink--
		} else {
			dst.nlink--
		}
	}
	delete(fromDir.dir, fromName)
	toDir.dir[toName] = src
	if src.isDir() {
		fromDir.nlink--
		toDir.nlink++
	}
	return 0
}

// file returns the regular file that opening p leads to.
func (m *modelTree) file(p string) (*modelNode, syscall.Errno) {
	n, errno := m.walk(p)
	switch {
	case errno != 0:
		return nil, errno
	case n.isLink():
		return nil, syscall.ENOENT
	case n.isDir():
		return nil, syscall.EISDIR
	}
	return n, 0
}

func (n *modelNode) write(off int, b []byte) {
	n.resize(max(len(n.data), off+len(b)))
	copy(n.data[off:], b)
}

func (n *modelNode) resize(size int) {
	if size <= len(n.data) {
		n.data = n.data[:size:size]
		return
	}
	n.data = append(n.data, make([]byte, size-len(n.data))...)
}
