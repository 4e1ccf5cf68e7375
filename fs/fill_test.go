package fs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/fs"
	"github.com/kmsfs/kmsfs/fs/access"
	"github.com/kmsfs/kmsfs/fs/fstest"
	"github.com/kmsfs/kmsfs/meta"
)

// closes is a Decider that allows everything and notes how many bytes were read through handles that are closed.
type closes struct {
	breaking
	mu   sync.Mutex
	read map[meta.Ino]uint64 // guarded by mu
}

func (c *closes) Decide(context.Context, access.Requester, access.Action, access.Target) (*access.Pass, error) {
	return nil, nil
}

func (c *closes) Closed(_ access.Requester, _ meta.ZoneID, ino meta.Ino, read, _ uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read[ino] += read
	return nil
}

func (c *closes) of(ino meta.Ino) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.read[ino]
}

// TestOpenBringsContent: the first open of a small file brings its content, so that neither read nor fstat is a request; the record of the close counts it, and the access time
// moves. Larger files are read as ever.
func TestOpenBringsContent(t *testing.T) {
	ops, closed := &opCounter{n: map[string]int{}}, &closes{read: map[meta.Ino]uint64{}}
	m := fstest.NewMount(t, fstest.Options{Mount: fs.MountOptions{Meter: ops}, Config: func(c *fs.Config) { c.Access = closed }})
	const files, large = 40, 200_000
	content := func(i int) []byte { return bytes.Repeat([]byte{byte(i), 'x'}, 1+i*700) }
	for i := range files {
		mustWrite(t, m.Path(fmt.Sprint("f", i)), content(i))
	}
	mustWrite(t, m.Path("large"), make([]byte, large))
	m.Remount()
	before := map[int]unix.Stat_t{}
	for i := range files {
		before[i] = lstat(t, m.Path(fmt.Sprint("f", i)))
	}
	for visit := range 2 {
		ops.take()
		for i := range files {
			readAndStat(t, m.Path(fmt.Sprint("f", i)), content(i), visit == 0, ops)
		}
		ops.await(t, "release", files)
		if n := ops.take(); n["read"] != 0 {
			t.Errorf("visit %d: %d READ of %d small files", visit, n["read"], files)
		}
	}
	for i := range files {
		path := m.Path(fmt.Sprint("f", i))
		after := lstat(t, path)
		if unix.TimespecToNsec(after.Atim) <= unix.TimespecToNsec(before[i].Atim) {
			t.Errorf("%s: the access time did not move", path)
		}
		eventually(t, "record of the close", func() bool { return closed.of(meta.Ino(after.Ino)) == uint64(len(content(i))) })
	}
	if got, err := os.ReadFile(m.Path("large")); err != nil || len(got) != large {
		t.Errorf("large: %d bytes, %v", len(got), err)
	}
	if ops.take()["read"] == 0 {
		t.Error("a large file was read without a READ: the requests are not counted")
	}
}

// readAndStat checks the content and size of a file. quiet: once it is open, neither is a request.
func readAndStat(t *testing.T, path string, want []byte, quiet bool, ops *opCounter) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, len(want)+1)
	n, _ := f.ReadAt(got, 0)
	info, err := f.Stat()
	if err != nil || info.Size() != int64(len(want)) || !bytes.Equal(got[:n], want) {
		t.Errorf("%s: %d bytes read, size %d, want %d; %v", path, n, info.Size(), len(want), err)
	}
	ops.mu.Lock()
	defer ops.mu.Unlock()
	if quiet && ops.n["getattr"] != 0 {
		t.Errorf("%s: %d GETATTR", path, ops.n["getattr"])
		ops.n["getattr"] = 0
	}
}

func lstat(t *testing.T, path string) (st unix.Stat_t) {
	t.Helper()
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st
}

// shared is a file that many use at once, and what must be in it.
type shared struct {
	path string
	mu   sync.RWMutex // held to change the file, shared to compare it; opens and closes happen at any time
	want []byte       // guarded by mu
	ino  uint64       // guarded by mu; which file the name leads to
}

// TestFillMeetsWriters has readers, writers and truncaters open the same small files at once, when the kernel has just got to know them: whatever one of them put into the page
// cache, what is read is what was written.
func TestFillMeetsWriters(t *testing.T) {
	const files, rounds, users = 60, 4, 6
	seed := fstest.Seed()
	t.Logf("seed %d", seed)
	m := fstest.NewMount(t, fstest.Options{})
	rng := rand.New(rand.NewPCG(seed, 0))
	all := make([]*shared, files)
	for i := range all {
		all[i] = &shared{path: m.Path(fmt.Sprint("f", i)), want: randomBytes(rng)}
		mustWrite(t, all[i].path, all[i].want)
	}
	for round := range rounds {
		m.Remount()
		m.FS.HookStores(func(node uint64) { time.Sleep(time.Duration(node%4) * time.Millisecond) }) // so that others meet it
		for i, s := range all {
			s.ino = lstat(t, s.path).Ino
			var done sync.WaitGroup
			for user := range users {
				rng := rand.New(rand.NewPCG(seed, uint64(1+user+users*(i+files*round))))
				done.Go(func() { s.use(t, rng) })
			}
			done.Wait()
			s.check(t)
		}
		if t.Failed() {
			t.Fatalf("round %d, seed %d", round, seed)
		}
	}
	m.Remount()
	for _, s := range all {
		s.check(t)
	}
	m.Check()
}

// use does one thing with the file.
func (s *shared) use(t *testing.T, rng *rand.Rand) {
	for range 2 {
		var err error
		switch rng.IntN(8) {
		case 0, 1, 2:
			err = s.compare(rng)
		case 3, 4:
			err = s.write(rng)
		case 5:
			err = s.truncate(rng)
		case 6:
			err = s.empty(rng)
		case 7:
			err = s.replace(rng)
		}
		if err != nil {
			t.Errorf("%s: %v", s.path, err)
		}
	}
}

func (s *shared) check(t *testing.T) {
	t.Helper()
	got, err := os.ReadFile(s.path)
	if err != nil || !bytes.Equal(got, s.want) {
		t.Errorf("%s: %s, %v", s.path, difference(got, s.want), err)
	}
}

// held tells whether f is still the file that the name leads to. Called with mu held.
func (s *shared) held(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && st.Ino == s.ino
}

func (s *shared) compare(rng *rand.Rand) error {
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.held(f) {
		return nil
	}
	got := make([]byte, len(s.want)+1+rng.IntN(5000))
	n, _ := f.ReadAt(got, 0)
	if !bytes.Equal(got[:n], s.want) {
		return fmt.Errorf("read %s", difference(got[:n], s.want))
	}
	return nil
}

func (s *shared) write(rng *rand.Rand) error {
	f, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.held(f) {
		return nil
	}
	b, off := randomBytes(rng), rng.IntN(len(s.want)+2)
	s.want = append(s.want, make([]byte, max(0, off+len(b)-len(s.want)))...)
	copy(s.want[off:], b)
	_, err = f.WriteAt(b, int64(off))
	return err
}

func (s *shared) truncate(rng *rand.Rand) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := rng.IntN(len(s.want) + 100)
	s.want = append(s.want[:min(n, len(s.want)):min(n, len(s.want))], make([]byte, max(0, n-len(s.want)))...)
	return os.Truncate(s.path, int64(n))
}

// empty opens the file with O_TRUNC and writes a little.
func (s *shared) empty(rng *rand.Rand) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.want = randomBytes(rng)
	f, err := os.OpenFile(s.path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(s.want)
	return err
}

// replace renames another file over it.
func (s *shared) replace(rng *rand.Rand) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.want = randomBytes(rng)
	if err := os.WriteFile(s.path+".new", s.want, 0o644); err != nil {
		return err
	}
	if err := os.Rename(s.path+".new", s.path); err != nil {
		return err
	}
	info, err := os.Stat(s.path)
	if err == nil {
		s.ino = info.Sys().(*syscall.Stat_t).Ino
	}
	return err
}

// randomBytes returns some, in a length that is a border of something, or any.
func randomBytes(rng *rand.Rand) []byte {
	sizes := []int{1, 100, 4095, 4096, 4097, 8192, 20_000, 65_535, 65_536, 65_537, 1 + rng.IntN(70_000)}
	b := make([]byte, sizes[rng.IntN(len(sizes))])
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// difference says how got is not want.
func difference(got, want []byte) string {
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	return fmt.Sprintf("%d bytes, want %d; the first %d are right", len(got), len(want), i)
}

func TestFillsContent(t *testing.T) {
	for release, want := range map[string]bool{"6.11.9-arch1": false, "6.12.0": true, "6.18.44-fc": true, "7.0-rc1": true, "5.15.0-100-generic": false, "6": false, "": false} {
		if got := fs.FillsContent(release); got != want {
			t.Errorf("%q: %v", release, got)
		}
	}
}

// TestFillMeetsRevocation takes the keys away when content is on its way into the page cache: the open fails, and nothing is left there.
func TestFillMeetsRevocation(t *testing.T) {
	ops := &opCounter{n: map[string]int{}}
	m := fstest.NewMount(t, fstest.Options{Mount: fs.MountOptions{Meter: ops}})
	mustWrite(t, m.Path("f"), []byte("secret"))
	m.Remount()
	m.FS.HookStores(func(uint64) {
		m.Keyring.Fail(meta.ErrKeyRevoked)
		m.FS.Drain(context.Background(), func(meta.ZoneID) bool { return true })
	})
	if err := openError(m.Path("f"), os.O_RDONLY); !errors.Is(err, unix.EKEYREVOKED) {
		t.Errorf("open while the keys go: %v", err)
	}
	m.Keyring.Fail(nil)
	ops.take()
	if got, err := os.ReadFile(m.Path("f")); err != nil || string(got) != "secret" {
		t.Errorf("%q, %v", got, err)
	}
	if ops.take()["read"] == 0 {
		t.Error("content was left in the page cache")
	}
}

// TestFillKeepsOthersWaiting: who changes a file while its content is on the way into the page cache waits until it is there, so that it never covers what is newer.
func TestFillKeepsOthersWaiting(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"a writer":   func(path string) error { return overwrite(path, []byte("new content, longer")) },
		"O_TRUNC":    func(path string) error { return os.WriteFile(path, []byte("new content, longer"), 0o644) },
		"truncate":   func(path string) error { return os.Truncate(path, 3) },
		"truncate 0": func(path string) error { return os.Truncate(path, 0) },
		"growth":     func(path string) error { return os.Truncate(path, 10_000) },
	} {
		t.Run(name, func(t *testing.T) {
			m := fstest.NewMount(t, fstest.Options{})
			mustWrite(t, m.Path("f"), []byte("old content"))
			mustWrite(t, m.Path("model"), []byte("old content"))
			m.Remount()
			changed := make(chan error, 1)
			m.FS.HookStores(func(uint64) {
				go func() { changed <- change(m.Path("f")) }()
				select {
				case err := <-changed:
					t.Error("the file was changed meanwhile")
					changed <- err
				case <-time.After(100 * time.Millisecond): // long enough for one that does not wait
				}
			})
			f, err := os.Open(m.Path("f"))
			if err != nil {
				t.Fatal(err)
			}
			if err := <-changed; err != nil {
				t.Fatal(err)
			}
			m.FS.HookStores(func(uint64) {})
			if err := change(m.Path("model")); err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(m.Path("model"))
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(want)+1)
			if n, _ := f.ReadAt(got, 0); !bytes.Equal(got[:n], want) {
				t.Errorf("read %q", got[:n])
			}
			f.Close()
			m.Remount()
			if got, err := os.ReadFile(m.Path("f")); err != nil || !bytes.Equal(got, want) {
				t.Errorf("mounted anew: %q, %v", got, err)
			}
		})
	}
}

// overwrite writes to a file that is there.
func overwrite(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}
