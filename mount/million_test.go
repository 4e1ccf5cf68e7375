package mount

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// TestRotateAMillion measures what a rotation and a rewrap cost on a mounted volume of a million files, KMSFS_FILES if set: neither looks at a file.
func TestRotateAMillion(t *testing.T) {
	if !mounttest.Long() {
		t.Skip("long form, runs with KMSFS_LONG=1")
	}
	files := 1_000_000
	if text := os.Getenv("KMSFS_FILES"); text != "" {
		var err error
		if files, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	r := mounttest.NewRig(t, mounttest.Options{})
	r.Init()
	r.Must(append([]string{"keyd"}, r.Secret...)...)
	began := time.Now()
	populate(t, r, files, nil)
	t.Logf("%d files made in %v", files, time.Since(began))
	r.Mount()
	for _, c := range []struct {
		what  string
		bound time.Duration
		args  []string
	}{
		{"rotation", time.Second, []string{"key", "rotate", "alias/vault"}},
		{"rewrap", 5 * time.Second, []string{"rewrap", r.Volume}},
	} {
		began := time.Now()
		r.Must(c.args...)
		took := time.Since(began)
		t.Logf("%s of a volume with %d files: %v, wanted %v", c.what, files, took, c.bound)
		if took > 30*c.bound { // a machine that does nothing else keeps to the bound itself
			t.Errorf("%s took %v", c.what, took)
		}
	}
	t.Log(r.Must("census", "--newest", r.Volume))
}

// fill gives the i-th file content.
type fill func(ctx context.Context, v *Volume, ino meta.Ino, i int) error

// populate makes files, a thousand to a directory, by the store itself; without fill they are empty.
func populate(t *testing.T, r *mounttest.Rig, files int, with fill) {
	t.Helper()
	ctx := t.Context()
	v, err := openRig(t, r)
	if err != nil {
		t.Fatal(err)
	}
	const each, workers = 1000, 4
	dirs := make(chan int)
	errs := make(chan error, workers)
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for n := range dirs {
				if err := populateDir(ctx, v, n, min(each, files-n*each), with); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	for n := 0; n*each < files; n++ {
		select {
		case dirs <- n:
		case err := <-errs:
			t.Fatal(err)
		}
	}
	close(dirs)
	running.Wait()
	if err := v.Close(context.WithoutCancel(ctx)); err != nil {
		t.Fatal(err)
	}
}

func populateDir(ctx context.Context, v *Volume, n, files int, with fill) error {
	dir, err := v.meta.Create(ctx, meta.RootIno, fmt.Appendf(nil, "d%d", n), meta.NewNode{Mode: meta.ModeDir | 0o755})
	if err != nil {
		return err
	}
	for i := range files {
		a, err := v.meta.Create(ctx, dir.Ino, fmt.Appendf(nil, "f%d", i), meta.NewNode{Mode: meta.ModeRegular | 0o644})
		if err == nil && with != nil {
			err = with(ctx, v, a.Ino, n*1000+i)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
