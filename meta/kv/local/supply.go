package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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
	size  int64
	max   int          // spare files to keep; more are removed
	room  func() error // refuses another file; nil: nobody does

	mu       sync.Mutex
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

// take returns a spare file, and has the next one made when none is left. ok is false if there is none.
func (p *supply) take() (f segmentFile, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.spare); n > 0 {
		f, ok = p.spare[n-1], true
		p.spare = p.spare[:n-1]
	}
	if len(p.spare) == 0 {
		p.prepare()
	}
	return f, ok
}

// prepare starts making a file unless one is being made. The caller holds p.mu.
func (p *supply) prepare() *preparation {
	if p.inFlight != nil {
		return p.inFlight
	}
	run := &preparation{done: make(chan struct{})}
	p.inFlight = run
	name := fmt.Sprintf("%08d%s", p.nextName, segmentSuffix)
	p.nextName++
	go func() {
		f, err := p.make(name)
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

// wait returns when there is a spare file, or why there is none.
func (p *supply) wait(ctx context.Context) error {
	p.mu.Lock()
	if len(p.spare) > 0 {
		p.mu.Unlock()
		return nil
	}
	run := p.prepare()
	p.mu.Unlock()
	select {
	case <-run.done:
		return run.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// make creates a file of zeros, durably. A file that could not be finished is removed.
func (p *supply) make(name string) (segmentFile, error) {
	if p.room != nil {
		if err := p.room(); err != nil {
			return segmentFile{}, fmt.Errorf("create segment %s: %w", name, err)
		}
	}
	f, err := p.files.Create(name)
	if err != nil {
		return segmentFile{}, fmt.Errorf("create segment %s: %w", name, noSpace(err))
	}
	if err := p.fill(f, p.size); err != nil {
		f.Close()
		_ = p.files.Remove(name) // the error above is what matters; recovery removes leftovers
		return segmentFile{}, fmt.Errorf("prepare segment %s: %w", name, noSpace(err))
	}
	return segmentFile{name, f, p.size}, nil
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
// its size is not today's.
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
	keep := f.size == p.size && len(p.spare) < p.max && !p.closed
	if keep {
		p.spare = append(p.spare, f)
	}
	p.mu.Unlock()
	if keep {
		return nil
	}
	return p.discard(f)
}

// discard removes a file. Its name may come back after a power cut; recovery takes it as a spare then.
func (p *supply) discard(f segmentFile) error {
	f.file.Close()
	if err := p.files.Remove(f.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove segment %s: %w", f.name, err)
	}
	return nil
}

// trim removes spare files until so many are left, when the one that is being made is there.
func (p *supply) trim(left int) error {
	p.mu.Lock()
	run := p.inFlight
	p.mu.Unlock()
	if run != nil {
		<-run.done
	}
	p.mu.Lock()
	n := min(left, len(p.spare))
	extra := p.spare[n:]
	p.spare = p.spare[:n:n]
	p.mu.Unlock()
	var errs []error
	for _, f := range extra {
		errs = append(errs, p.discard(f))
	}
	return errors.Join(errs...)
}

// avoid makes sure that no new file gets this name.
func (p *supply) avoid(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n, err := strconv.ParseUint(strings.TrimSuffix(name, segmentSuffix), 10, 32); err == nil && n >= p.nextName {
		p.nextName = n + 1
	}
}

func (p *supply) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.spare)
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
