package fs

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/kmsfs/kmsfs/meta"
)

// node is what is remembered of an inode that is open or an orphan.
//
// INVARIANT: a node is in the table if and only if handles is not 0, or it is an orphan that something uses.
type node struct {
	handles int           // users of its content that are there: open handles, and truncations under way
	uses    int           // users that there were since the first of them
	writers int           // those for writing
	filling chan struct{} // not nil while its content is put into the page cache for its only user; closed when that is over
	lost    error         // why something that was written to it is lost, until the last handle is closed
	orphan  bool          // it has no name left: release it when nothing uses it any more
}

// lookups is how many replies gave the kernel an inode, minus what it forgot. The highest bit says that its content has been used since: see enter.
type lookups uint64

const contentUsed lookups = 1 << 63

func (l lookups) count() uint64 { return uint64(l &^ contentUsed) }

// nodeTable knows which inodes are in use. Its zero value is not ready; safe for concurrent use.
type nodeTable struct {
	writers atomic.Int64 // users of contents for writing
	shards  [nodeShards]nodeShard
}

const nodeShards = 64

// nodeShard keeps lookups apart from nodes: the kernel remembers millions of inodes, few of which are open, and a count is all there is to say of the
// others.
type nodeShard struct {
	mu      sync.Mutex
	lookups map[meta.Ino]lookups // guarded by mu; the count is not 0 but for an inode that is open
	nodes   map[meta.Ino]*node   // guarded by mu
}

func newNodeTable() *nodeTable {
	t := &nodeTable{}
	for i := range t.shards {
		t.shards[i].lookups, t.shards[i].nodes = make(map[meta.Ino]lookups), make(map[meta.Ino]*node)
	}
	return t
}

func (t *nodeTable) shard(ino meta.Ino) *nodeShard {
	return &t.shards[uint64(ino)%nodeShards]
}

// with runs fn on the node of ino, made if need be, and drops it afterwards if nothing uses it. It returns whether that was an orphan, to be released.
func (s *nodeShard) with(ino meta.Ino, fn func(*node)) (release bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[ino]
	if n == nil {
		n = &node{}
		s.nodes[ino] = n
	}
	fn(n)
	return s.drop(ino, n)
}

// drop takes a node out that has become needless. Called with mu held.
func (s *nodeShard) drop(ino meta.Ino, n *node) (release bool) {
	if n.handles == 0 && s.lookups[ino].count() == 0 {
		delete(s.lookups, ino)
	}
	release = n.orphan && n.handles == 0 && s.lookups[ino] == 0
	if release || n.handles == 0 && !n.orphan {
		delete(s.nodes, ino)
	}
	return release
}

// lookedUp counts a reply that gave the kernel the inode.
func (t *nodeTable) lookedUp(ino meta.Ino) {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lookups[ino]++
}

// forgotten takes back count lookups. It returns whether the inode is an orphan that nothing uses any more.
func (t *nodeTable) forgotten(ino meta.Ino, count uint64) (release bool) {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	if had := s.lookups[ino]; had.count() > count {
		s.lookups[ino] = had - lookups(count)
		return false
	}
	delete(s.lookups, ino)
	n := s.nodes[ino]
	return n != nil && s.drop(ino, n)
}

// enter counts a user of the inode's content, for writing or not: a handle, from before it is opened, or a truncation. While the content is put into the page cache for
// somebody else it waits, until ctx is done. first: nobody has used the content since the kernel got to know the inode, so there is nothing of it in the page cache.
func (t *nodeTable) enter(ctx context.Context, ino meta.Ino, write bool) (first bool, err error) {
	s := t.shard(ino)
	for {
		first, wait := s.enter(ino, write)
		if wait == nil {
			if write {
				t.writers.Add(1)
			}
			return first, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// enter is the table's, but returns what to wait for instead of waiting.
func (s *nodeShard) enter(ino meta.Ino, write bool) (first bool, wait <-chan struct{}) {
	s.with(ino, func(n *node) {
		if n.filling != nil {
			wait = n.filling
			return
		}
		n.handles++
		n.uses++
		if write {
			n.writers++
		}
		known := s.lookups[ino]
		first = n.handles == 1 && known.count() > 0 && known&contentUsed == 0
		s.lookups[ino] = known | contentUsed
	})
	return first, wait
}

// fill lets the first user of the inode put its content into the page cache; others wait until it calls filled. false: another one has come meanwhile.
func (t *nodeTable) fill(ino meta.Ino) (alone bool) {
	t.shard(ino).with(ino, func(n *node) {
		if alone = n.uses == 1; alone {
			n.filling = make(chan struct{})
		}
	})
	return alone
}

// filled ends fill.
func (t *nodeTable) filled(ino meta.Ino) {
	t.shard(ino).with(ino, func(n *node) {
		close(n.filling)
		n.filling = nil
	})
}

// opened counts a handle of a directory.
func (t *nodeTable) opened(ino meta.Ino) {
	t.shard(ino).with(ino, func(n *node) { n.handles++ })
}

// closed takes back what enter or opened counted. It returns whether the inode is an orphan that nothing uses any more.
func (t *nodeTable) closed(ino meta.Ino, write bool) (release bool) {
	if write {
		t.writers.Add(-1)
	}
	return t.shard(ino).with(ino, func(n *node) {
		if n.handles--; n.handles == 0 {
			n.lost, n.uses = nil, 0
		}
		if write {
			n.writers--
		}
	})
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

// known returns the inodes that the kernel knows, those that are open first.
func (t *nodeTable) known() []meta.Ino {
	var open []meta.Ino
	rest := []meta.Ino{meta.RootIno} // is never looked up
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for ino := range s.nodes {
			open = append(open, ino)
		}
		for ino := range s.lookups {
			if s.nodes[ino] == nil {
				rest = append(rest, ino)
			}
		}
		s.mu.Unlock()
	}
	return append(open, rest...)
}

// orphaned notes that the inode has no name left. It returns whether nothing uses it.
func (t *nodeTable) orphaned(ino meta.Ino) (release bool) {
	return t.shard(ino).with(ino, func(n *node) { n.orphan = true })
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
	return s.lookups[ino] != 0 || s.nodes[ino] != nil
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
		clear(s.lookups)
		clear(s.nodes)
		s.mu.Unlock()
	}
	return orphans
}

// len returns the number of inodes that are in use.
func (t *nodeTable) len() int {
	total := 0
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		total += len(s.lookups)
		for ino := range s.nodes {
			if s.lookups[ino] == 0 {
				total++
			}
		}
		s.mu.Unlock()
	}
	return total
}
