package fs

import (
	"sync"

	"github.com/kmsfs/kmsfs/meta"
)

// Bounds of lapsed.
const (
	maxListed  = 8 << 10 // directories that are remembered
	leastStale = 4       // files that a listing must be worth
	stalePart  = 4       // and that part of the directory's, one in so many
)

// lapsed counts, for directories that were listed with attributes, how many of their files the kernel would ask for again. When a file is closed, the kernel with its write-back
// cache takes st_blocks for unknown (fuse_flush), so that each stat costs a GETATTR. A new listing brings the attributes of all files of a directory at once. Safe for concurrent
// use.
type lapsed struct {
	mu   sync.Mutex
	dirs map[meta.Ino]listing // guarded by mu; at most maxListed
}

// listing is what is known of the kernel's listing of a directory.
type listing struct{ entries, stale int }

func newLapsed() *lapsed { return &lapsed{dirs: make(map[meta.Ino]listing)} }

// listed says that n entries of a directory were given with attributes, the first ones or those that follow.
func (l *lapsed) listed(dir meta.Ino, n int, first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d, known := l.dirs[dir]
	switch {
	case first:
		d = listing{entries: n}
	case known:
		d.entries += n
	default:
		return
	}
	if !known && len(l.dirs) >= maxListed {
		clear(l.dirs)
	}
	l.dirs[dir] = d
}

// closed says that a file of the directory was closed.
func (l *lapsed) closed(dir meta.Ino) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d, known := l.dirs[dir]; known {
		d.stale++
		l.dirs[dir] = d
	}
}

// worthListing tells whether a directory had better be listed anew than from the kernel's cache.
func (l *lapsed) worthListing(dir meta.Ino) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.dirs[dir]
	return d.stale >= leastStale && d.stale*stalePart >= d.entries
}
