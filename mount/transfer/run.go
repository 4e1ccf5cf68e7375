package transfer

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Config says what to copy and how.
type Config struct {
	Source, Target string // directories that are there

	// Update replaces files of the target that differ from the source's in size or modification time.
	Update bool
	// Shred destroys in the source what was found equal in the target.
	Shred bool
	// RootAttributes carries over those of the source itself.
	RootAttributes bool

	// Marks are kinds of directories of the source that are left out.
	Marks []Mark
	// Ready is asked before anything is changed, with what there is to copy. nil: nobody asks.
	Ready func(files, bytes uint64) error
	// Sync makes all of the target durable. SyncEach: it does not do so with what was written to files, which are made durable one by one.
	Sync     func(context.Context) error
	SyncEach bool

	Progress func(Progress)    // nil: nobody wants to know
	Issue    func(Issue) error // an error of it ends the run; nil: they are counted alone
}

// Mark is a kind of directory that is known by what lies in it.
type Mark struct {
	Names []string // all of them
	What  string   // it is, for people
}

// on tells whether a directory is of that kind.
func (m *Mark) on(d *dir) bool {
	for _, name := range m.Names {
		if _, err := d.stat(name); err != nil {
			return false
		}
	}
	return true
}

// run is one call of Run.
type run struct {
	cfg      Config
	src, dst *dir
	links    map[inode]*link // first names, by the original
	twins    map[inode]*twin // copies, by the original
	reported map[string]bool // paths that were not copied, or are not equal: the later passes pass them over
	flawed   map[string]bool // paths whose attributes were not carried over: they are not destroyed
	sum      Summary
	meter    meter
	verified time.Time // when the second pass began
	a, b     []byte    // buffers
}

// Run copies, compares and, if that is wanted, destroys. What could not be carried over is told to cfg.Issue, counted in the summary, and no error.
//
// Errors: ErrOverlap; what would make every further file fail (no space, no keys, no daemon behind the mount), and ctx's: then the same call goes on.
func Run(ctx context.Context, cfg Config) (Summary, error) {
	r := &run{cfg: cfg, links: map[inode]*link{}, twins: map[inode]*twin{}, reported: map[string]bool{}, flawed: map[string]bool{}, meter: meter{report: cfg.Progress}, a: make([]byte, chunk), b: make([]byte, chunk)}
	began := time.Now()
	err := r.open()
	defer r.close()
	if err == nil {
		err = r.passes(ctx)
	}
	r.sum.Seconds = time.Since(began).Seconds()
	return r.sum, err
}

// open opens the roots and finds out that they lie apart.
func (r *run) open() (err error) {
	if r.src, err = openRoot(r.cfg.Source); err != nil {
		return err
	}
	if r.dst, err = openRoot(r.cfg.Target); err != nil {
		return err
	}
	for _, pair := range [][2]*dir{{r.src, r.dst}, {r.dst, r.src}} {
		var st unix.Stat_t
		if err := unix.Fstat(pair[1].fd, &st); err != nil {
			return err
		}
		in, err := pair[0].within(identity(&st))
		if err != nil {
			return err
		}
		if in {
			return fmt.Errorf("%w: %s and %s", ErrOverlap, r.cfg.Source, r.cfg.Target)
		}
	}
	return nil
}

func (r *run) close() {
	for _, d := range []*dir{r.src, r.dst} {
		if d != nil {
			d.close()
		}
	}
}

// passes does the work.
func (r *run) passes(ctx context.Context) error {
	count := &counter{run: r, seen: map[inode]bool{}}
	if err := r.pass(ctx, Counting, count); err != nil {
		return err
	}
	if r.cfg.Ready != nil {
		if err := r.cfg.Ready(count.files, count.bytes); err != nil {
			return err
		}
	}
	r.meter.now.TotalFiles, r.meter.now.TotalBytes = r.meter.now.Files, r.meter.now.Bytes
	if err := r.pass(ctx, Copying, &copier{r}); err != nil {
		return err
	}
	if err := r.sync(ctx); err != nil {
		return err
	}
	r.verified = time.Now()
	if err := r.pass(ctx, Verifying, &verifier{r}); err != nil {
		return err
	}
	if r.sum.Repaired > 0 {
		if err := r.sync(ctx); err != nil {
			return err
		}
	}
	if r.cfg.Shred {
		return r.pass(ctx, Shredding, &shredder{r})
	}
	return nil
}

func (r *run) sync(ctx context.Context) error {
	if err := r.cfg.Sync(ctx); err != nil {
		return fmt.Errorf("make the target durable: %w", err)
	}
	return nil
}

// issue reports. An error about all of the target is returned instead.
func (r *run) issue(path, kind string, err error) error {
	if ends(err) {
		return fmt.Errorf("%s: %w", path, err)
	}
	return r.tell(path, kind, err.Error())
}

func (r *run) tell(path, kind, what string) error {
	r.sum.Issues++
	if kind != Attribute {
		r.reported[path] = true
	}
	if r.cfg.Issue == nil {
		return nil
	}
	return r.cfg.Issue(Issue{Path: path, Kind: kind, What: what})
}
