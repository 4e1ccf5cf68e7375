package object

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newStore(t testing.TB, opts Options) (*Store, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := Open(dir, opts)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s, dir
}

func testID(n byte) ID { return ID{n, 1, 2, 3, 15: 0xf0 | n&15} }

// put makes an object with content.
func put(t testing.TB, s *Store, id ID, content []byte) {
	t.Helper()
	f, err := s.Create(id)
	must(t, err)
	defer f.Release()
	must(t, f.WriteAt(content, 0))
}

func TestReadWrite(t *testing.T) {
	s, dir := newStore(t, Options{})
	id := testID(7)
	if _, err := s.Get(id); !errors.Is(err, ErrMissing) {
		t.Fatalf("get of nothing: %v", err)
	}
	put(t, s, id, []byte("hello"))
	st, err := os.Stat(filepath.Join(dir, id.String()[:2], id.String()))
	must(t, err)
	if st.Mode().Perm() != 0o600 {
		t.Errorf("object has mode %v", st.Mode())
	}
	if st, err = os.Stat(filepath.Join(dir, id.String()[:2])); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("directory has mode %v, %v", st.Mode(), err)
	}
	f, err := s.Get(id)
	must(t, err)
	defer f.Release()
	p := make([]byte, 5)
	must(t, f.ReadAt(p, 0))
	if string(p) != "hello" {
		t.Fatalf("read %q", p)
	}
	if err := f.ReadAt(p, 1); !errors.Is(err, ErrTruncated) {
		t.Fatalf("short read: %v", err)
	}
	if err := f.ReadAt(p, 100); !errors.Is(err, ErrTruncated) {
		t.Fatalf("read behind the end: %v", err)
	}
	must(t, f.WriteAt([]byte("x"), 9999))
	must(t, f.Punch(0, 4096))
	must(t, f.ReadAt(p, 0))
	if !bytes.Equal(p, make([]byte, 5)) {
		t.Fatalf("punched range reads %q", p)
	}
	must(t, f.Cut(100))
	if size, _, err := f.Stat(); err != nil || size != 100 {
		t.Fatalf("cut to %d, %v", size, err)
	}
	must(t, f.Cut(200)) // never makes it longer
	if size, _, err := f.Stat(); err != nil || size != 100 {
		t.Fatalf("cut to %d, %v", size, err)
	}
	must(t, f.Datasync())
	must(t, s.SyncAll())
	must(t, s.Remove(id))
	must(t, s.Remove(id))
	if _, err := s.Get(id); !errors.Is(err, ErrMissing) {
		t.Fatalf("get of a removed object: %v", err)
	}
	must(t, f.ReadAt(p, 0)) // still held
}

// TestHostile puts what is no object in an object's place.
func TestHostile(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.WriteFile(outside, []byte("secret"), 0o600))
	id := testID(1)
	path := func(dir string) string { return filepath.Join(dir, id.String()[:2], id.String()) }
	for name, place := range map[string]func(dir string) error{
		"symlink":          func(dir string) error { return os.Symlink(outside, path(dir)) },
		"relative symlink": func(dir string) error { return os.Symlink("../../outside", path(dir)) },
		"hard link": func(dir string) error {
			return errors.Join(os.WriteFile(path(dir), nil, 0o600), os.Link(path(dir), path(dir)+"x"))
		},
		"fifo":      func(dir string) error { return unix.Mkfifo(path(dir), 0o600) },
		"directory": func(dir string) error { return os.Mkdir(path(dir), 0o700) },
		"socket":    func(dir string) error { return unix.Mknod(path(dir), unix.S_IFSOCK|0o600, 0) },
		"linked fan": func(dir string) error {
			real := filepath.Join(filepath.Dir(outside), "fan"+filepath.Base(dir))
			return errors.Join(os.MkdirAll(real, 0o700), os.WriteFile(filepath.Join(real, id.String()), nil, 0o600),
				os.Remove(filepath.Dir(path(dir))), os.Symlink(real, filepath.Dir(path(dir))))
		},
		"file as fan": func(dir string) error {
			return errors.Join(os.Remove(filepath.Dir(path(dir))), os.WriteFile(filepath.Dir(path(dir)), nil, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, dir := newStore(t, Options{})
			must(t, os.Mkdir(filepath.Dir(path(dir)), 0o700))
			must(t, place(dir))
			if _, err := s.Get(id); !errors.Is(err, ErrHostile) {
				t.Errorf("get: %v", err)
			}
			if _, err := s.Create(id); !errors.Is(err, ErrHostile) {
				t.Errorf("create: %v", err)
			}
			seen := 0
			must(t, s.List(func(it Item) bool {
				if it.Err == nil {
					t.Errorf("%s is listed as an object", it.Name)
				}
				seen++
				return true
			}))
			if seen == 0 {
				t.Error("nothing is listed")
			}
		})
	}
	if b, err := os.ReadFile(outside); err != nil || string(b) != "secret" {
		t.Fatalf("the file outside was touched: %q, %v", b, err)
	}
}

func TestOpenRefusesLink(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(dir, link))
	if _, err := Open(link, Options{}); err == nil {
		t.Fatal("a link was opened")
	}
}

// TestDescriptors: the set is bounded, whatever order it is used in, and files in use stay open.
func TestDescriptors(t *testing.T) {
	s, _ := newStore(t, Options{Descriptors: 4})
	var held []*File
	for i := range byte(20) {
		put(t, s, testID(i), []byte{i})
		if i%5 == 0 {
			f, err := s.Get(testID(i))
			must(t, err)
			held = append(held, f)
		}
	}
	if n := s.Descriptors(); n > 4+len(held) {
		t.Fatalf("%d descriptors are open", n)
	}
	for i := range byte(20) {
		f, err := s.Get(testID(i))
		must(t, err)
		p := make([]byte, 1)
		must(t, f.ReadAt(p, 0))
		if p[0] != i {
			t.Fatalf("object %d holds %d", i, p[0])
		}
		f.Release()
	}
	for i, f := range held {
		p := make([]byte, 1)
		must(t, f.ReadAt(p, 0))
		if p[0] != byte(i*5) {
			t.Fatalf("held object holds %d", p[0])
		}
		f.Release()
	}
	if n := s.Descriptors(); n > 4 {
		t.Fatalf("%d descriptors are open", n)
	}
	if n := openFDs(t); n > 40 {
		t.Fatalf("the process has %d descriptors", n)
	}
}

func openFDs(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

func TestConcurrentUse(t *testing.T) {
	s, _ := newStore(t, Options{Descriptors: 3})
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 300 {
				id := testID(byte((i*7 + w) % 12))
				f, err := s.Create(id)
				if err != nil {
					t.Error(err)
					return
				}
				err = errors.Join(f.WriteAt([]byte{id[0]}, int64(w)), f.ReadAt(make([]byte, 1), int64(w)))
				f.Release()
				if err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	wg.Wait()
	if n := s.Descriptors(); n > 3 {
		t.Fatalf("%d descriptors are open", n)
	}
}

// recorder counts directory syncs, and fails what it is told to.
type recorder struct {
	Lower
	mu    sync.Mutex
	dirs  []string
	fails map[string]error
}

func (r *recorder) SyncDir(path string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dirs = append(r.dirs, path)
	return r.fails["dir"]
}

func (r *recorder) SyncAll() error { return r.fails["all"] }

func (r *recorder) OpenFile(path string, create bool) (LowerFile, error) {
	f, err := r.Lower.OpenFile(path, create)
	return recorded{f, r}, err
}

type recorded struct {
	LowerFile
	r *recorder
}

func (f recorded) Datasync() error { return f.r.fails["data"] }

func newRecorder(t *testing.T) (*recorder, *Store) {
	t.Helper()
	lower, err := OpenLower(t.TempDir())
	must(t, err)
	r := &recorder{Lower: lower, fails: map[string]error{}}
	s, err := Open("", Options{Lower: r})
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return r, s
}

// TestNewNamesAreSynced: the first sync of a new object syncs its directory, and the first in a directory that directory's name; later ones
// neither.
func TestNewNamesAreSynced(t *testing.T) {
	r, s := newRecorder(t)
	sync := func(id ID, want ...string) {
		t.Helper()
		r.dirs = nil
		f, err := s.Get(id)
		must(t, err)
		defer f.Release()
		must(t, f.Datasync())
		if fmt.Sprint(r.dirs) != fmt.Sprint(want) {
			t.Fatalf("synced directories %q, want %q", r.dirs, want)
		}
	}
	a, b, other := testID(1), testID(1), testID(2)
	b[5] = 99
	put(t, s, a, []byte("a"))
	sync(a, "01", "")
	sync(a)
	put(t, s, b, []byte("b"))
	put(t, s, other, []byte("c"))
	sync(b, "01")
	sync(other, "02", "")
	c := testID(2)
	c[6] = 99
	put(t, s, c, []byte("d"))
	must(t, s.SyncAll())
	sync(c)
	put(t, s, a, []byte("again"))
	sync(a)
	must(t, s.Remove(a))
	put(t, s, a, []byte("anew"))
	sync(a, "01")
}

func TestFailedSyncIsFinal(t *testing.T) {
	for _, what := range []string{"data", "dir", "all"} {
		t.Run(what, func(t *testing.T) {
			r, s := newRecorder(t)
			put(t, s, testID(1), []byte("x"))
			f, err := s.Get(testID(1))
			must(t, err)
			defer f.Release()
			r.fails[what] = syscall.EIO
			sync := f.Datasync
			if what == "all" {
				sync = s.SyncAll
			}
			if err := sync(); !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
				t.Fatalf("sync: %v", err)
			}
			r.fails[what] = nil
			_, createErr := s.Create(testID(3))
			for i, err := range []error{f.Datasync(), s.SyncAll(), f.WriteAt([]byte("y"), 0), f.Punch(0, 1), f.Cut(0), s.Remove(testID(1)), createErr} {
				if !errors.Is(err, ErrFailed) {
					t.Errorf("call %d after a failed sync: %v", i, err)
				}
			}
			must(t, f.ReadAt(make([]byte, 1), 0))
		})
	}
}

func TestList(t *testing.T) {
	s, dir := newStore(t, Options{})
	for i := range byte(30) {
		put(t, s, testID(i), bytes.Repeat([]byte("x"), int(i)))
	}
	must(t, os.WriteFile(filepath.Join(dir, "stray"), nil, 0o600))
	must(t, os.Mkdir(filepath.Join(dir, "AB"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "01", testID(2).String()), nil, 0o600)) // wrong directory
	good, bad := map[ID]int64{}, 0
	must(t, s.List(func(it Item) bool {
		if it.Err != nil {
			if bad++; !errors.Is(it.Err, ErrHostile) {
				t.Errorf("%s: %v", it.Name, it.Err)
			}
			return true
		}
		good[it.ID] = it.Size
		return true
	}))
	if len(good) != 30 || bad != 3 {
		t.Fatalf("%d objects, %d strangers", len(good), bad)
	}
	for i := range byte(30) {
		if good[testID(i)] != int64(i) {
			t.Errorf("object %d has %d bytes", i, good[testID(i)])
		}
	}
	n := 0
	must(t, s.List(func(Item) bool { n++; return false }))
	if n != 1 {
		t.Fatalf("list went on after false: %d", n)
	}
}

// TestListBesideRemoval: an object that is removed while it is looked at is not there, and nothing hostile.
func TestListBesideRemoval(t *testing.T) {
	s, _ := newStore(t, Options{})
	var wg sync.WaitGroup
	for n := range byte(2) {
		wg.Go(func() {
			for range 2000 {
				put(t, s, testID(n), nil)
				if err := s.Remove(testID(n)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	over := make(chan struct{})
	go func() {
		wg.Wait()
		close(over)
	}()
	for {
		err := s.List(func(it Item) bool {
			if it.Err != nil {
				t.Errorf("%s: %v", it.Name, it.Err)
			}
			return !t.Failed()
		})
		if err != nil || t.Failed() {
			t.Error("list: ", err)
			break
		}
		select {
		case <-over:
			return
		default:
		}
	}
	<-over
}

// TestAdmit: a file without a name any more is missing.
func TestAdmit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "object")
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	must(t, admit(int(f.Fd())))
	must(t, os.Link(path, path+"2"))
	if err := admit(int(f.Fd())); !errors.Is(err, ErrHostile) {
		t.Errorf("two names: %v", err)
	}
	must(t, errors.Join(os.Remove(path), os.Remove(path+"2")))
	if err := admit(int(f.Fd())); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("no name: %v", err)
	}
}

func TestSpace(t *testing.T) {
	s, dir := newStore(t, Options{})
	sp, err := s.Space()
	must(t, err)
	if sp.Total == 0 || sp.Avail > sp.Total || sp.MaxFileSize < 1<<31 {
		t.Fatalf("space: %+v", sp)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 0 {
		t.Fatalf("probing left %v, %v", entries, err)
	}
}

func TestClosed(t *testing.T) {
	s, _ := newStore(t, Options{})
	put(t, s, testID(1), nil)
	f, err := s.Get(testID(1))
	must(t, err)
	f.Release()
	must(t, s.Close())
	must(t, s.Close())
	if _, err := s.Get(testID(1)); !errors.Is(err, ErrClosed) {
		t.Fatalf("get: %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Fatal("second release did not panic")
		}
	}()
	f.Release()
}
