package fs

import (
	"sync"

	"github.com/kmsfs/kmsfs/meta"
)

// node is what is remembered of an inode that the kernel knows.
//
// INVARIANT: a node is in the table if and only if lookups or handles is not 0.
type node struct {
	lookups uint64 // how many replies gave the kernel this inode, minus what it forgot
	handles int    // open handles
	writers int    // those opened for writing
	lost    error  // why something that was written to it is lost, until the last handle is closed
	orphan  bool   // it has no name left: release it when the node goes
}

// nodeTable knows which inodes are in use. Its zero value is not ready; safe for concurrent use.
type nodeTable struct {
	shards [nodeShards]nodeShard
}

const nodeShards = 64

type nodeShard struct {
	mu    sync.Mutex
	nodes map[meta.Ino]*node // guarded by mu
}

func newNodeTable() *nodeTable {
	t := &nodeTable{}
	for i := range t.shards {
		t.shards[i].nodes = make(map[meta.Ino]*node)
	}
	return t
}

func (t *nodeTable) shard(ino meta.Ino) *nodeShard {
	return &t.shards[uint64(ino)%nodeShards]
}

// with runs fn on the node of ino, made if need be, and drops it afterwards if nothing uses it.
func (s *nodeShard) with(ino meta.Ino, fn func(*node)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[ino]
	if n == nil {
		n = &node{}
		s.nodes[ino] = n
	}
	fn(n)
	if n.lookups == 0 && n.handles == 0 {
		delete(s.nodes, ino)
	}
}

// lookedUp counts a reply that gave the kernel the inode.
func (t *nodeTable) lookedUp(ino meta.Ino) {
	t.shard(ino).with(ino, func(n *node) { n.lookups++ })
}

// forgotten takes back count lookups. It returns whether the inode is an orphan that nothing uses any more.
func (t *nodeTable) forgotten(ino meta.Ino, count uint64) (release bool) {
	t.shard(ino).with(ino, func(n *node) {
		n.lookups -= min(count, n.lookups)
		release = n.unusedOrphan()
	})
	return release
}

// opened counts a handle, opened for writing or not.
func (t *nodeTable) opened(ino meta.Ino, write bool) {
	t.shard(ino).with(ino, func(n *node) {
		n.handles++
		if write {
			n.writers++
		}
	})
}

// closed takes back a handle. It returns whether the inode is an orphan that nothing uses any more.
func (t *nodeTable) closed(ino meta.Ino, write bool) (release bool) {
	t.shard(ino).with(ino, func(n *node) {
		if n.handles--; n.handles == 0 {
			n.lost = nil
		}
		if write {
			n.writers--
		}
		release = n.unusedOrphan()
	})
	return release
}

// written says whether the inode is open for writing.
func (t *nodeTable) written(ino meta.Ino) bool {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[ino]
	return n != nil && n.writers > 0
}

// lose notes that something that was written to the inode is lost.
func (t *nodeTable) lose(ino meta.Ino, cause error) {
	t.shard(ino).with(ino, func(n *node) { n.lost = cause })
}

// loss returns why something that was written is lost, or nil.
func (t *nodeTable) loss(ino meta.Ino) error {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.nodes[ino]; n != nil {
		return n.lost
	}
	return nil
}

// writing returns the inodes that are open for writing.
func (t *nodeTable) writing() (all []meta.Ino) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for ino, n := range s.nodes {
			if n.writers > 0 {
				all = append(all, ino)
			}
		}
		s.mu.Unlock()
	}
	return all
}

// orphaned notes that the inode has no name left. It returns whether nothing uses it.
func (t *nodeTable) orphaned(ino meta.Ino) (release bool) {
	t.shard(ino).with(ino, func(n *node) {
		n.orphan = true
		release = n.unusedOrphan()
	})
	return release
}

// named notes that the inode has a name (again).
func (t *nodeTable) named(ino meta.Ino) {
	t.shard(ino).with(ino, func(n *node) { n.orphan = false })
}

// inUse says whether the kernel knows the inode or holds it open.
func (t *nodeTable) inUse(ino meta.Ino) bool {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nodes[ino] != nil
}

// drain empties the table, as when the kernel has let go of the mount, and returns the orphans in it.
func (t *nodeTable) drain() (orphans []meta.Ino) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for ino, n := range s.nodes {
			if n.orphan {
				orphans = append(orphans, ino)
			}
		}
		clear(s.nodes)
		s.mu.Unlock()
	}
	return orphans
}

// len returns the number of nodes.
func (t *nodeTable) len() int {
	total := 0
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		total += len(s.nodes)
		s.mu.Unlock()
	}
	return total
}

func (n *node) unusedOrphan() bool {
	return n.orphan && n.lookups == 0 && n.handles == 0
}
