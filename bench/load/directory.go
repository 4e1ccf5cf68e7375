package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
)

// directory is one of so many empty files at scale 1.
type directory int

func directoryLoads(n int) []Load {
	d := directory(n)
	name := func(s string) string { return fmt.Sprintf("directory of %s: %s", thousands(n), s) }
	return []Load{
		{Name: name("create, sync"), Unit: "op/s", Setup: d.remove, Run: d.create},
		{Name: name("list, cold"), Unit: "op/s", Cold: true, Setup: d.ensure, Run: d.list},
		{Name: name("stat, cold"), Unit: "op/s", Cold: true, Setup: d.ensure, Run: d.stat},
		{Name: name("unlink all, sync"), Unit: "op/s", Setup: d.ensure, Run: d.unlink},
	}
}

func (d directory) path(e *Env) string        { return e.path("directory") }
func (d directory) file(e *Env, i int) string { return e.path("directory", strconv.Itoa(i)) }
func (d directory) remove(_ context.Context, e *Env) error {
	return errors.Join(os.RemoveAll(d.path(e)), e.Host.Sync())
}

func (d directory) ensure(ctx context.Context, e *Env) error {
	if _, err := os.Stat(d.file(e, e.count(int(d))-1)); err == nil {
		return nil
	}
	if err := d.remove(ctx, e); err != nil {
		return err
	}
	_, err := d.create(ctx, e)
	return err
}

// all calls f for each file and syncs.
func (d directory) all(ctx context.Context, e *Env, f func(name string) error) (Result, error) {
	n := e.count(int(d))
	elapsed, err := timed(func() error {
		for i := range n {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := f(d.file(e, i)); err != nil {
				return err
			}
		}
		return nil
	}, e.Host.Sync)
	return rate(float64(n), elapsed), err
}

func (d directory) create(ctx context.Context, e *Env) (Result, error) {
	if err := os.Mkdir(d.path(e), 0o755); err != nil {
		return Result{}, err
	}
	return d.all(ctx, e, func(name string) error {
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		return f.Close()
	})
}

func (d directory) unlink(ctx context.Context, e *Env) (Result, error) {
	return d.all(ctx, e, os.Remove)
}

// list reads all names and the attributes of each.
func (d directory) list(ctx context.Context, e *Env) (Result, error) {
	found := 0
	elapsed, err := timed(func() error {
		entries, err := os.ReadDir(d.path(e))
		for _, entry := range entries {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if _, err := entry.Info(); err != nil {
				return err
			}
			found++
		}
		return err
	}, nil)
	if want := e.count(int(d)); err == nil && found != want {
		err = fmt.Errorf("found %d files of %d", found, want)
	}
	return rate(float64(found), elapsed), err
}

// stat looks up random names.
func (d directory) stat(ctx context.Context, e *Env) (Result, error) {
	r, n := e.random("directory"), e.count(5000)
	watch := newStopwatch(n)
	for range n {
		if ctx.Err() != nil {
			return Result{}, ctx.Err()
		}
		if _, err := os.Lstat(d.file(e, r.IntN(e.count(int(d))))); err != nil {
			return Result{}, err
		}
		watch.lap()
	}
	return watch.result(), nil
}
