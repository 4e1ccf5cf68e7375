package fs

import (
	"context"
	"math"
	"runtime/debug"
	"sync"

	"github.com/kmsfs/kmsfs/meta"
)

// Bounds of ahead.
const (
	aheadAfter   = 2         // files in order after which others are fetched
	leastAhead   = 8         // files that are fetched at first; then twice as many each time
	mostAhead    = 64        // at most
	aheadBytes   = 256 << 10 // of each file; the kernel reads ahead within a file itself
	aheadDirs    = 1 << 10   // directories that are remembered
	aheadWorkers = 2
	surely       = 16 // files in order, in all directories, after which those of the next directory are fetched when it is listed
	listingCost  = 4  // how many of them one such directory takes back
)

// ahead reads ahead across files. Who reads one file of a directory after the other, in the order in which it lists them (tar, grep -r, cp -r), finds what comes next in the
// lower filesystem's cache. What is fetched is ciphertext and its map: no key is used, nothing is decided, and nobody is told. Safe for concurrent use.
type ahead struct {
	fs   *FS
	work chan stretch
	quit chan struct{}
	done sync.WaitGroup

	mu   sync.Mutex
	sure int                    // guarded by mu; files that were read in order of late, at most 2*surely
	dirs map[meta.Ino]*progress // guarded by mu; at most aheadDirs
}

// stretch is a part of a directory: n entries behind a cookie.
type stretch struct {
	dir   meta.Ino
	after uint64
	n     int
}

// progress is how far a directory was read.
type progress struct {
	inOrder int    // files that were read one behind the other
	last    uint64 // cookie of the last one
	fetched uint64 // of the last one that was fetched
	renew   uint64 // more is fetched when the reader has come here
	n       int    // entries that were fetched last
	asked   bool   // a stretch is being fetched
}

func newAhead(fs *FS) *ahead {
	return &ahead{fs: fs, work: make(chan stretch, aheadWorkers), quit: make(chan struct{}), dirs: make(map[meta.Ino]*progress)}
}

func (r *ahead) start() {
	for range aheadWorkers {
		r.done.Go(r.run)
	}
}

// stop ends what start began, and waits for it.
func (r *ahead) stop() {
	close(r.quit)
	r.done.Wait()
}

// listed notes that a directory was listed. Who reads a tree is likely to go on with its files.
func (r *ahead) listed(dir meta.Ino) {
	r.mu.Lock()
	sure := r.sure >= surely
	if sure {
		r.sure -= listingCost
		r.progress(dir).expect(mostAhead / 2)
	}
	r.mu.Unlock()
	if sure {
		r.ask(stretch{dir, 0, mostAhead / 2})
	}
}

// read notes that the kernel has begun to read a file of a directory, the one with a cookie.
func (r *ahead) read(dir meta.Ino, cookie uint64) {
	if next, ok := r.note(dir, cookie); ok {
		r.ask(next)
	}
}

// ask has a stretch fetched, unless there is enough to do.
func (r *ahead) ask(next stretch) {
	select {
	case r.work <- next:
	default:
		r.fetched(next.dir, nil)
	}
}

// progress returns what is known of a directory. Called with mu held.
func (r *ahead) progress(dir meta.Ino) *progress {
	p := r.dirs[dir]
	if p == nil {
		if len(r.dirs) >= aheadDirs {
			clear(r.dirs)
		}
		p = &progress{}
		r.dirs[dir] = p
	}
	return p
}

// expect notes that the next n entries are being fetched.
func (p *progress) expect(n int) { p.asked, p.n = true, n }

// note returns what is to be fetched now.
func (r *ahead) note(dir meta.Ino, cookie uint64) (next stretch, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.progress(dir)
	if cookie <= p.last {
		*p = progress{asked: p.asked}
		r.sure = 0
	}
	p.inOrder, p.last = p.inOrder+1, cookie
	r.sure = min(r.sure+1, 2*surely)
	if p.inOrder < aheadAfter || p.asked || cookie < p.renew {
		return next, false
	}
	p.expect(min(max(2*p.n, leastAhead), mostAhead))
	return stretch{dir, max(cookie, p.fetched), p.n}, true
}

// fetched notes which entries were fetched, or will be soon.
func (r *ahead) fetched(dir meta.Ino, entries []meta.DirentPlus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.dirs[dir]
	if p == nil {
		return
	}
	p.asked = false
	if len(entries) > 0 {
		p.fetched, p.renew = entries[len(entries)-1].Cookie, entries[len(entries)/2].Cookie
	} else if p.fetched > 0 {
		p.renew = math.MaxUint64 // the end
	}
}

func (r *ahead) run() {
	defer func() {
		if reason := recover(); reason != nil {
			r.fs.fatal(reason, debug.Stack())
		}
	}()
	for {
		select {
		case <-r.quit:
			return
		case next := <-r.work:
			r.fetch(next)
		}
	}
}

// fetch fetches the files of a stretch. What is wrong with one is for who reads it to find.
func (r *ahead) fetch(s stretch) {
	ctx := context.Background()
	entries, err := r.fs.meta.ReadDirPlus(ctx, s.dir, s.after, s.n)
	if err != nil {
		entries = nil
	}
	r.fetched(s.dir, entries)
	for _, e := range entries {
		if e.Attr.Layout != meta.LayoutSlots || e.Attr.Size == 0 {
			continue
		}
		select {
		case <-r.quit:
			return
		default:
			_ = r.fs.content.Prefetch(ctx, e.Ino, int(min(e.Attr.Size, aheadBytes)))
		}
	}
}
