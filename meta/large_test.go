package meta_test

import (
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv/local"
	"github.com/kmsfs/kmsfs/meta/metatest"
)

// TestLargeDirectory creates, lists and removes the entries of one directory on the local store, a million of them in the long form: all are
// listed once, and neither listing nor checking holds the directory in memory.
func TestLargeDirectory(t *testing.T) {
	entries := 3000
	if os.Getenv("KMSFS_LONG") != "" {
		entries = 1_000_000
	}
	key, err := blockcrypt.NewKey()
	want(t, "key", err, nil)
	opt := local.Options{Dir: t.TempDir(), Key: key, Settler: forgetful{}, MinFree: -1}
	want(t, "create", local.Create(bg, opt), nil)
	store, err := local.Open(bg, opt)
	want(t, "open", err, nil)
	defer store.Close()
	v := &tree{metatest.NewVolumeOn(t, store), t}
	d := v.dir(meta.RootIno, "d")
	for i := range entries {
		v.mk(d.Ino, fmt.Sprint("entry ", i), meta.ModeFIFO)
	}
	want(t, "checkpoint", store.Checkpoint(bg), nil)
	v.Store = v.Open(t, meta.Config{CacheRows: 1024})

	before := heap()
	peak, seen := before, 0
	var cookie uint64
	for {
		list, err := v.ReadDirPlus(bg, d.Ino, cookie, 500)
		want(t, "readdirplus", err, nil)
		if len(list) == 0 {
			break
		}
		for _, e := range list {
			if e.Cookie <= cookie {
				t.Fatalf("cookie %d after %d", e.Cookie, cookie)
			}
			cookie = e.Cookie
		}
		if seen += len(list); seen%100_000 < 500 {
			peak = max(peak, heap())
		}
	}
	if seen != entries {
		t.Fatalf("listed %d entries of %d", seen, entries)
	}
	const allowed = 128 << 20 // Badger's block cache included
	if peak > before+allowed {
		t.Errorf("listing took %d MiB", (peak-before)>>20)
	}
	t.Logf("heap %d MiB before, at most %d MiB while listing", before>>20, peak>>20)
	v.clean()
	for i := range entries {
		if _, err := v.Unlink(bg, d.Ino, fmt.Append(nil, "entry ", i), nil); err != nil {
			t.Fatal(err)
		}
	}
	_, err = v.Rmdir(bg, meta.RootIno, []byte("d"), nil)
	want(t, "rmdir", err, nil)
	v.clean()
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
