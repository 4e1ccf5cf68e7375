package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/meta/kv"
)

const (
	segmentSuffix = ".seg"
	zeroChunk     = 1 << 20
)

// segmentFile is a file that no live record lies in.
type segmentFile struct {
	name string
	file File
	size int64
}

// supply keeps segment files ready. New ones are filled with zeros and synced, so that a later fdatasync
// writes data only: no allocation, no extent conversion, no size. Recycled files keep their old records,
// which do not open under the new use's key.
type supply struct {
	files Files
	least int64                  // size of the first files; later ones are as large as half of what there is
	most  int64                  // no file is larger
	max   int64                  // bytes of spare files to keep; more are removed
	room  func(size int64) error // refuses another file; nil: nobody does
	grown func()                 // called when a file was made; nil: nobody asks

	mu       sync.Mutex
	total    int64 // bytes of all files, those in use as well
	spare    []segmentFile
	nextName uint64
	inFlight *preparation
	closed   bool
	clean    bool // what comes back is written over
}

// preparation is one file being made.
type preparation struct {
	done chan struct{}
	err  error // valid when done is closed
}

// take returns a spare file of at least so many bytes, and has the next one made when none is left. ok is false if there is none.
func (p *supply) take(least int64) (f segmentFile, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := p.find(least); i >= 0 {
		f, ok = p.spare[i], true
		p.spare = slices.Delete(p.spare, i, i+1)
	}
	if len(p.spare) == 0 {
		p.prepare(0)
	}
	return f, ok
}

// find returns where the newest spare file of at least so many bytes is, or -1. The caller holds p.mu.
func (p *supply) find(least int64) int {
	for i, f := range slices.Backward(p.spare) {
		if f.size >= least {
			return i
		}
	}
	return -1
}

// next returns the size of a file that is to hold so many bytes: as large as half of all that there are, so that a journal takes no more than twice
// of what it was once used for. The caller holds p.mu.
func (p *supply) next(least int64) int64 {
	size := p.least
	for size < max(least, p.total/2) && size < p.most {
		size *= 2
	}
	return min(size, p.most)
}

// prepare starts making a file of at least so many bytes unless one is being made. The caller holds p.mu.
func (p *supply) prepare(least int64) *preparation {
	if p.inFlight != nil {
		return p.inFlight
	}
	run := &preparation{done: make(chan struct{})}
	p.inFlight = run
	name, size := fmt.Sprintf("%08d%s", p.nextName, segmentSuffix), p.next(least)
	p.nextName++
	go func() {
		f, err := p.make(name, size)
		if err == nil && p.grown != nil {
			p.grown()
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		switch {
		case err != nil:
			run.err = err
		case p.closed:
			f.file.Close()
			run.err = kv.ErrClosed
		default:
			p.spare = append(p.spare, f)
		}
		p.inFlight = nil
		close(run.done)
	}()
	return run
}

// wait returns when there is a spare file of at least so many bytes, or why there is none.
func (p *supply) wait(ctx context.Context, least int64) error {
	for {
		p.mu.Lock()
		if p.find(least) >= 0 {
			p.mu.Unlock()
			return nil
		}
		run := p.prepare(least)
		p.mu.Unlock()
		select {
		case <-run.done:
			if run.err != nil {
				return run.err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// has tells whether there is a spare file of at least so many bytes.
func (p *supply) has(least int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.find(least) >= 0
}

// make creates a file of zeros, durably. A file that could not be finished is removed.
func (p *supply) make(name string, size int64) (segmentFile, error) {
	if p.room != nil {
		if err := p.room(size); err != nil {
			return segmentFile{}, fmt.Errorf("create segment %s: %w", name, err)
		}
	}
	f, err := p.files.Create(name)
	if err != nil {
		return segmentFile{}, fmt.Errorf("create segment %s: %w", name, noSpace(err))
	}
	if err := p.fill(f, size); err != nil {
		f.Close()
		_ = p.files.Remove(name) // the error above is what matters; recovery removes leftovers
		return segmentFile{}, fmt.Errorf("prepare segment %s: %w", name, noSpace(err))
	}
	p.count(size)
	return segmentFile{name, f, size}, nil
}

// count adds the bytes of a file to those of all.
func (p *supply) count(size int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total += size
}

// fill writes a file full of zeros, durably.
func (p *supply) fill(f File, size int64) error {
	zeros := make([]byte, min(size, zeroChunk))
	for off := int64(0); off < size; off += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), size-off)], off); err != nil {
			return err
		}
	}
	if err := f.Datasync(); err != nil {
		return err
	}
	return p.files.SyncDir()
}

// give takes back a file whose records nobody needs any more. It is kept, or removed if there are enough or
// its size is none of today's.
func (p *supply) give(f segmentFile) error {
	p.mu.Lock()
	clean := p.clean
	p.mu.Unlock()
	if clean {
		if err := p.fill(f.file, f.size); err != nil {
			return errors.Join(fmt.Errorf("write over segment %s: %w", f.name, noSpace(err)), p.discard(f))
		}
	}
	p.mu.Lock()
	keep := f.size >= p.least && f.size <= p.most && p.spareBytes()+f.size <= p.max && !p.closed
	if keep {
		p.spare = append(p.spare, f)
	}
	p.mu.Unlock()
	if keep {
		return nil
	}
	return p.discard(f)
}

// spareBytes is how many bytes the spare files have. The caller holds p.mu.
func (p *supply) spareBytes() (n int64) {
	for _, f := range p.spare {
		n += f.size
	}
	return n
}

// discard removes a file. Its name may come back after a power cut; recovery takes it as a spare then.
func (p *supply) discard(f segmentFile) error {
	p.count(-f.size)
	f.file.Close()
	if err := p.files.Remove(f.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove segment %s: %w", f.name, err)
	}
	return nil
}

// trim removes spare files until so many are left, when the one that is being made is there, and cuts those to the size of the first ones.
func (p *supply) trim(left int) error {
	p.mu.Lock()
	run := p.inFlight
	p.mu.Unlock()
	if run != nil {
		<-run.done
	}
	p.mu.Lock()
	slices.SortFunc(p.spare, func(a, b segmentFile) int { return cmp.Compare(a.size, b.size) })
	n := min(left, len(p.spare))
	extra := p.spare[n:]
	p.spare = p.spare[:n:n]
	errs := []error{p.cut()}
	p.mu.Unlock()
	for _, f := range extra {
		errs = append(errs, p.discard(f))
	}
	return errors.Join(errs...)
}

// cut gives back what spare files hold beyond the size of the first ones. The caller holds p.mu.
func (p *supply) cut() error {
	for i := range p.spare {
		f := &p.spare[i]
		if f.size <= p.least {
			continue
		}
		if err := f.file.Truncate(p.least); err != nil {
			return fmt.Errorf("cut segment %s: %w", f.name, err)
		}
		p.total -= f.size - p.least
		f.size = p.least
	}
	return nil
}

// avoid makes sure that no new file gets this name.
func (p *supply) avoid(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n, err := strconv.ParseUint(strings.TrimSuffix(name, segmentSuffix), 10, 32); err == nil && n >= p.nextName {
		p.nextName = n + 1
	}
}

// size returns how many spare files there are, and how many bytes all files have.
func (p *supply) size() (spare int, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.spare), p.total
}

// close waits for a file being made and closes the spare ones.
func (p *supply) close() {
	p.mu.Lock()
	p.closed = true
	run := p.inFlight
	spare := p.spare
	p.spare = nil
	p.mu.Unlock()
	if run != nil {
		<-run.done
	}
	for _, f := range spare {
		f.file.Close()
	}
}

// noSpace adds kv.ErrNoSpace to errors that mean it.
func noSpace(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %w", kv.ErrNoSpace, err)
	}
	return err
}
