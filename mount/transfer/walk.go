package transfer

import (
	"context"

	"golang.org/x/sys/unix"
)

// place is a directory of the source and its copy.
type place struct {
	src, dst *dir // dst is nil where there is none, while the source is counted
	path     string
	st       unix.Stat_t // of src
}

// entry is one name in a place.
type entry struct {
	*place
	name string
	st   unix.Stat_t
}

func (e *entry) full() string { return join(e.place.path, e.name) }
func (e *entry) kind() uint32 { return e.st.Mode & unix.S_IFMT }

// visitor is what a pass does.
type visitor interface {
	// enter comes before a directory, whose copy it returns; not ok: the directory is left out.
	enter(ctx context.Context, e *entry) (dst *dir, ok bool, err error)
	// begin comes when the names of a directory are known.
	begin(ctx context.Context, p *place, names []string) error
	// other is called for each entry that is no directory.
	other(ctx context.Context, e *entry) error
	// gone is called for a name without a file.
	gone(path string) error
	// leave comes after all entries of a directory.
	leave(ctx context.Context, p *place) error
}

func (r *run) pass(ctx context.Context, phase string, v visitor) error {
	r.meter.begin(phase)
	p := &place{src: r.src, dst: r.dst}
	if err := unix.Fstat(r.src.fd, &p.st); err != nil {
		return err
	}
	return r.walk(ctx, p, v)
}

// walk goes over the entries of a directory in the order of their names.
func (r *run) walk(ctx context.Context, p *place, v visitor) error {
	names, err := p.src.names()
	if err != nil {
		return r.issue(p.path, Unreadable, err)
	}
	if err := v.begin(ctx, p, names); err != nil {
		return err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if isPartial(name) || isShred(name) {
			continue
		}
		if err := r.entry(ctx, &entry{place: p, name: name}, v); err != nil {
			return err
		}
	}
	return v.leave(ctx, p)
}

func (r *run) entry(ctx context.Context, e *entry, v visitor) (err error) {
	if r.reported[e.full()] {
		return nil
	}
	e.st, err = e.src.stat(e.name)
	switch {
	case err == unix.ENOENT:
		return v.gone(e.full())
	case err != nil:
		return r.issue(e.full(), Unreadable, err)
	case e.kind() == unix.S_IFDIR:
		return r.directory(ctx, e, v)
	}
	return v.other(ctx, e)
}

// directory goes down.
func (r *run) directory(ctx context.Context, e *entry, v visitor) error {
	src, err := e.src.dir(e.name)
	switch err {
	case nil:
	case unix.EXDEV:
		return r.tell(e.full(), Skipped, "another filesystem is mounted there")
	default:
		return r.issue(e.full(), Unreadable, err)
	}
	defer src.close()
	for _, m := range r.cfg.Marks {
		if m.on(src) {
			return r.tell(e.full(), Skipped, "it is "+m.What)
		}
	}
	dst, ok, err := v.enter(ctx, e)
	if err != nil || !ok {
		return err
	}
	if dst != nil {
		defer dst.close()
	}
	return r.walk(ctx, &place{src: src, dst: dst, path: e.full(), st: e.st}, v)
}

// counter finds out how much there is, and how much of it is to be copied.
type counter struct {
	*run
	seen         map[inode]bool // of files with several names
	files, bytes uint64         // without a copy
}

func (c *counter) enter(_ context.Context, e *entry) (*dir, bool, error) {
	if e.dst == nil {
		return nil, true, nil
	}
	d, _ := e.dst.dir(e.name) // nil: there is none yet
	return d, true, nil
}

func (c *counter) begin(context.Context, *place, []string) error { return nil }
func (c *counter) gone(string) error                             { return nil }
func (c *counter) leave(context.Context, *place) error           { return nil }

func (c *counter) other(_ context.Context, e *entry) error {
	if e.kind() != unix.S_IFREG {
		return nil
	}
	if e.st.Nlink > 1 {
		if c.seen[identity(&e.st)] {
			return nil
		}
		c.seen[identity(&e.st)] = true
	}
	c.meter.add(1, uint64(e.st.Size))
	if e.dst != nil {
		if there, err := e.dst.stat(e.name); err == nil && there.Size == e.st.Size && sameTime(&there, &e.st) {
			return nil
		}
	}
	c.files, c.bytes = c.files+1, c.bytes+uint64(min(e.st.Size, e.st.Blocks*512)) // of a sparse file what is data
	return nil
}
