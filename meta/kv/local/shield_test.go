package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// TestTablesCutWhileOpen cuts Badger's tables, which it has mapped, while the store is open: what lies in them is an error, the process lives, and
// what does not need them goes on.
func TestTablesCutWhileOpen(t *testing.T) {
	for _, size := range []int64{0, 4096, 5000} {
		opts := create(t)
		s := open(t, opts)
		for i := range 400 {
			put(t, s, fmt.Sprintf("row %05d", i), "some value that is long enough to fill more than a page together with others")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, opts)
		tables, err := filepath.Glob(filepath.Join(metaDir(opts), "*.sst"))
		if err != nil || len(tables) == 0 {
			t.Fatal(tables, err)
		}
		for _, name := range tables {
			if st, err := os.Stat(name); err != nil || st.Size() < size {
				continue
			}
			if err := os.Truncate(name, size); err != nil {
				t.Fatal(err)
			}
		}
		failed := 0
		for i := range 400 {
			err := s.View(ctx, func(r kv.Reader) error {
				v, err := r.Get(ctx, fmt.Appendf(nil, "row %05d", i))
				if err == nil && v[0] == nil {
					t.Errorf("cut to %d: row %d is not there, and no error", size, i)
				}
				return err
			})
			if err != nil && !errors.Is(err, kv.ErrCorrupt) {
				t.Fatalf("cut to %d: row %d: %v", size, i, err)
			}
			if err != nil {
				failed++
			}
		}
		if failed == 0 {
			t.Errorf("cut to %d: everything can be read", size)
		}
		err = s.View(ctx, func(r kv.Reader) error {
			return r.Scan(ctx, nil, nil, 0, func(k, v []byte) bool { return true })
		})
		if !errors.Is(err, kv.ErrCorrupt) {
			t.Errorf("cut to %d: scan: %v", size, err)
		}
		put(t, s, "zzz", "new")
		if err := s.Close(); err != nil && !errors.Is(err, kv.ErrCorrupt) {
			t.Errorf("cut to %d: close: %v", size, err)
		}
	}
}
