package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

const (
	filesPerDir    = 1000
	populationSize = 100 // bytes of a file
	populators     = 4
)

// population is a tree of so many small files at scale 1, in directories of
// 1,000.
type population int

// populationLoads measure what depends on how many files there are. The
// comparison that matters is between the groups, for one filesystem.
func populationLoads(n int) []Load {
	p := population(n)
	name := func(s string) string { return fmt.Sprintf("%s files: %s", thousands(n), s) }
	return []Load{
		{Name: name("create, sync"), Unit: "op/s", Setup: p.remove, Run: p.create},
		{Name: name("mount"), Unit: "s", Lower: true, Setup: p.ensure, Run: p.mount},
		{Name: name("stat, cold"), Unit: "op/s", Cold: true, Setup: p.ensure, Run: p.stat},
		{Name: name("open and read, cold"), Unit: "op/s", Cold: true, Setup: p.ensure, Run: p.open},
		{Name: name("walk, cold"), Unit: "op/s", Cold: true, Setup: p.ensure, Run: p.walk},
		{Name: name("memory after the walk"), Unit: "MB", Lower: true, Setup: p.walked, Run: p.memory},
	}
}

// thousands writes n with commas.
func thousands(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}

func (p population) root(e *Env) string { return e.path("population") }

func (p population) file(e *Env, i int) string {
	return e.path("population", strconv.Itoa(i/filesPerDir), strconv.Itoa(i%filesPerDir))
}

// content of the i-th file.
func (p population) content(i int) []byte {
	return fmt.Appendf(make([]byte, 0, populationSize), "%0*d", populationSize, i)
}

func (p population) remove(_ context.Context, e *Env) error {
	return errors.Join(os.RemoveAll(p.root(e)), e.Host.Sync())
}

func (p population) ensure(ctx context.Context, e *Env) error {
	if _, err := os.Stat(p.file(e, e.count(int(p))-1)); err == nil {
		return nil
	}
	if err := p.remove(ctx, e); err != nil {
		return err
	}
	_, err := p.create(ctx, e)
	return err
}

func (p population) create(ctx context.Context, e *Env) (Result, error) {
	n := e.count(int(p))
	elapsed, err := timed(func() error {
		if err := os.Mkdir(p.root(e), 0o755); err != nil {
			return err
		}
		return inParallel(populators, func(k int) error {
			for dir := k * filesPerDir; dir < n; dir += populators * filesPerDir {
				if err := p.fillDir(ctx, e, dir, min(dir+filesPerDir, n)); err != nil {
					return err
				}
			}
			return nil
		})
	}, e.Host.Sync)
	return rate(float64(n), elapsed), err
}

// inParallel calls f with 0 to n-1 at once.
func inParallel(n int, f func(k int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for k := range n {
		wg.Go(func() { errs[k] = f(k) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// fillDir makes the directory of file i and its files up to end.
func (p population) fillDir(ctx context.Context, e *Env, i, end int) error {
	if err := os.Mkdir(filepath.Dir(p.file(e, i)), 0o755); err != nil {
		return err
	}
	for ; i < end; i++ {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := os.WriteFile(p.file(e, i), p.content(i), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (p population) mount(ctx context.Context, e *Env) (Result, error) {
	if _, err := e.Host.Memory(ctx); err != nil { // a plain directory is not mounted
		return Result{}, err
	}
	took, err := e.Host.Remount(ctx)
	return seconds(took), err
}

// each calls f for random files, most of them in directories that nobody has
// looked into before.
func (p population) each(ctx context.Context, e *Env, load string, f func(i int) error) (Result, error) {
	r, n := e.random(load), e.count(5000)
	watch := newStopwatch(n)
	for range n {
		if ctx.Err() != nil {
			return Result{}, ctx.Err()
		}
		if err := f(r.IntN(e.count(int(p)))); err != nil {
			return Result{}, err
		}
		watch.lap()
	}
	return watch.result(), nil
}

func (p population) stat(ctx context.Context, e *Env) (Result, error) {
	return p.each(ctx, e, "stat", func(i int) error {
		info, err := os.Lstat(p.file(e, i))
		if err == nil && info.Size() != populationSize {
			err = fmt.Errorf("file %d has %d bytes: wrong data", i, info.Size())
		}
		return err
	})
}

func (p population) open(ctx context.Context, e *Env) (Result, error) {
	return p.each(ctx, e, "open", func(i int) error { return readAndCompare(p.file(e, i), p.content(i)) })
}

// readAndCompare reads a whole small file.
func readAndCompare(name string, want []byte) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := io.ReadAll(io.LimitReader(f, int64(len(want))+1))
	if err == nil && string(got) != string(want) {
		err = fmt.Errorf("%s: wrong data", filepath.Base(name))
	}
	return err
}

// walk looks at all files and must find them all.
func (p population) walk(ctx context.Context, e *Env) (Result, error) {
	found := 0
	elapsed, err := timed(func() error {
		return filepath.WalkDir(p.root(e), func(_ string, d fs.DirEntry, err error) error {
			if err != nil || ctx.Err() != nil {
				return errors.Join(err, ctx.Err())
			}
			if d.IsDir() {
				return nil
			}
			found++
			_, err = d.Info()
			return err
		})
	}, nil)
	if want := e.count(int(p)); err == nil && found != want {
		err = fmt.Errorf("found %d files of %d", found, want)
	}
	return rate(float64(found), elapsed), err
}

// walked mounts anew and walks, so that memory does not depend on what else
// was done before.
func (p population) walked(ctx context.Context, e *Env) error {
	if err := p.ensure(ctx, e); err != nil {
		return err
	}
	if _, err := e.Host.Memory(ctx); errors.Is(err, ErrNotOffered) {
		return err
	}
	if _, err := e.Host.Remount(ctx); err != nil {
		return err
	}
	_, err := p.walk(ctx, e)
	return err
}

func (p population) memory(ctx context.Context, e *Env) (Result, error) {
	n, err := e.Host.Memory(ctx)
	return Result{Value: float64(n) / 1e6}, err
}
