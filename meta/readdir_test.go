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

// TestPlaceFromCache: where an inode is, is known from a listing with attributes without the store, and stays right when it moves; not when its keys are gone.
func TestPlaceFromCache(t *testing.T) {
	v := newTree(t)
	d, e := v.dir(meta.RootIno, "d"), v.dir(meta.RootIno, "e")
	f := v.file(d.Ino, "f")
	s := v.Open(t, meta.Config{}) // which knows nothing yet
	if _, err := s.ReadDirPlus(bg, meta.RootIno, 0, 9); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadDirPlus(bg, d.Ino, 0, 9); err != nil {
		t.Fatal(err)
	}
	at := func(wantDir meta.Ino, wantName string) {
		t.Helper()
		_, before := s.CacheCounts()
		dir, name, err := s.Place(bg, f.Ino)
		if err != nil || dir != wantDir || string(name) != wantName {
			t.Fatalf("in inode %d as %q, %v; want %d, %q", dir, name, err, wantDir, wantName)
		}
		if _, after := s.CacheCounts(); after != before {
			t.Errorf("%d rows were not cached", after-before)
		}
	}
	at(d.Ino, "f")
	_, err := s.Rename(bg, d.Ino, []byte("f"), e.Ino, []byte("g"), 0, nil)
	want(t, "rename", err, nil)
	at(e.Ino, "g")
	v.Keyring.Fail(meta.ErrKeyRevoked)
	_, _, err = s.Place(bg, f.Ino)
	want(t, "without keys", err, meta.ErrKeyRevoked)
}

// TestPathFromCache: a path is known from listings, and is that of one state, though directories move while it is asked for.
func TestPathFromCache(t *testing.T) {
	v := newTree(t)
	a, b := v.dir(meta.RootIno, "a"), v.dir(meta.RootIno, "b")
	d := v.dir(a.Ino, "d")
	f := v.file(d.Ino, "f")
	_, before := v.CacheCounts()
	path, err := v.Path(bg, f.Ino)
	if _, after := v.CacheCounts(); err != nil || string(path) != "/a/d/f" || after != before {
		t.Fatalf("%q, %v, %d rows not cached", path, err, after-before)
	}
	moved := make(chan error, 1)
	go func() {
		var failed error
		for range 200 { // the name and the directory change places in turn: /a/d/f, /b/d/f, /b/e/f, /a/e/f
			for _, m := range []struct {
				from, to meta.Ino
				old, new string
			}{{a.Ino, b.Ino, "d", "d"}, {b.Ino, b.Ino, "d", "e"}, {b.Ino, a.Ino, "e", "e"}, {a.Ino, a.Ino, "e", "d"}} {
				if _, err := v.Rename(bg, m.from, []byte(m.old), m.to, []byte(m.new), 0, nil); err != nil {
					failed = err
				}
			}
		}
		moved <- failed
	}()
	for {
		path, err := v.Path(bg, f.Ino)
		if err != nil {
			t.Fatal(err)
		}
		switch string(path) {
		case "/a/d/f", "/b/d/f", "/b/e/f", "/a/e/f":
		default:
			t.Fatalf("a path that never was: %q", path)
		}
		select {
		case err := <-moved:
			want(t, "rename", err, nil)
			return
		default:
		}
	}
}
