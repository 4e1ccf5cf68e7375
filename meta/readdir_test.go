package meta_test

import (
	"fmt"
	"testing"

	"github.com/kmsfs/kmsfs/meta"
)

// TestReadDirUnderChange: names that exist throughout are seen exactly once, whatever comes and goes between two calls.
func TestReadDirUnderChange(t *testing.T) {
	v := newTree(t)
	d := v.dir(meta.RootIno, "d")
	for i := range 100 {
		v.mk(d.Ino, fmt.Sprint("stays", i), meta.ModeFIFO)
		v.mk(d.Ino, fmt.Sprint("goes", i), meta.ModeFIFO)
	}
	seen := map[string]int{}
	var cookie uint64
	for i := 0; ; i++ {
		list, err := v.ReadDirPlus(bg, d.Ino, cookie, 3)
		want(t, "readdir", err, nil)
		if len(list) == 0 {
			break
		}
		for _, e := range list {
			seen[string(e.Name)]++
			cookie = e.Cookie
		}
		if i < 100 {
			_, err := v.Unlink(bg, d.Ino, fmt.Append(nil, "goes", i), nil)
			want(t, "unlink", err, nil)
			v.mk(d.Ino, fmt.Sprint("comes", i), meta.ModeFIFO)
		}
	}
	for i := range 100 {
		if n := seen[fmt.Sprint("stays", i)]; n != 1 {
			t.Errorf("stays%d was seen %d times", i, n)
		}
	}
	for name, n := range seen {
		if n > 1 {
			t.Errorf("%s was seen %d times", name, n)
		}
	}
}

func TestReadDirRefuses(t *testing.T) {
	v := newTree(t)
	f := v.file(meta.RootIno, "f")
	_, err := v.ReadDir(bg, f.Ino, 0, 1)
	want(t, "a file", err, meta.ErrNotDir)
	_, err = v.ReadDirPlus(bg, 999, 0, 1)
	want(t, "no inode", err, meta.ErrNotFound)
	list, err := v.ReadDir(bg, 1, 1<<63-1, 1)
	if err != nil || len(list) != 0 {
		t.Fatalf("behind the last cookie: %v, %v", list, err)
	}
	list, err = v.ReadDir(bg, 1, 2, 0)
	if err != nil || len(list) != 1 || list[0].Ino != f.Ino || list[0].Type != meta.ModeRegular {
		t.Fatalf("limit 0: %v, %v", list, err)
	}
}
