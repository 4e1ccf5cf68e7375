package content

import (
	"errors"
	"testing"

	"github.com/kmsfs/kmsfs/meta"
)

// TestCapability: any change of the content takes the capabilities away, and nothing else.
func TestCapability(t *testing.T) {
	changes := map[string]func(f *File) error{
		"write":     func(f *File) error { _, err := f.WriteAt(ctx, []byte("x"), 0, WriteOpts{}); return err },
		"truncate":  func(f *File) error { return f.Truncate(ctx, 5, WriteOpts{}) },
		"fallocate": func(f *File) error { return f.Fallocate(ctx, 0, 0, 10, WriteOpts{}) },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rigOptions{})
			f := r.file()
			defer f.Close()
			mustWrite(t, f, pattern(100, 1), 0)
			for range 3 {
				must(t, r.meta.SetXattr(ctx, f.Ino(), "user.other", []byte("stays"), 0))
				must(t, change(f))
				must(t, r.meta.SetXattr(ctx, f.Ino(), capability, []byte("all"), 0))
				mustRead(t, f, 0, 10)
				if _, err := r.meta.GetXattr(ctx, f.Ino(), capability); err != nil {
					t.Fatalf("gone after a read: %v", err)
				}
				must(t, change(f))
				if _, err := r.meta.GetXattr(ctx, f.Ino(), capability); !errors.Is(err, meta.ErrNoXattr) {
					t.Fatalf("still there: %v", err)
				}
				if v, err := r.meta.GetXattr(ctx, f.Ino(), "user.other"); err != nil || string(v) != "stays" {
					t.Fatalf("other xattr: %q, %v", v, err)
				}
				must(t, change(f))
			}
		})
	}
}
