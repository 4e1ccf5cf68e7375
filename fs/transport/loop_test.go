package transport_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/fs/transport"
)

const maxWrite = 1 << 20

// flat is a filesystem with one directory of files in memory. Opening a file called "slow" blocks until release is closed or the open is
// interrupted.
type flat struct {
	fuse.RawFileSystem
	mu          sync.Mutex
	files       map[string]uint64
	data        map[uint64][]byte
	reads       map[uint64]int
	release     chan struct{}
	entered     chan struct{}
	interrupted chan struct{}
	slowSync    bool // an fsync blocks as an open of "slow" does
}

func newFlat() *flat {
	return &flat{
		RawFileSystem: fuse.NewDefaultRawFileSystem(), files: map[string]uint64{}, data: map[uint64][]byte{}, reads: map[uint64]int{},
		release: make(chan struct{}), entered: make(chan struct{}, 100), interrupted: make(chan struct{}, 100),
	}
}

func (f *flat) attr(ino uint64, out *fuse.Attr) {
	*out = fuse.Attr{Ino: ino, Mode: unix.S_IFREG | 0o600, Nlink: 1, Size: uint64(len(f.data[ino]))}
	if ino == 1 {
		*out = fuse.Attr{Ino: 1, Mode: unix.S_IFDIR | 0o700, Nlink: 2}
	}
}

func (f *flat) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	ino, ok := f.files[name]
	if !ok {
		return fuse.ENOENT
	}
	out.NodeId, out.AttrValid, out.EntryValid = ino, 3600, 3600
	f.attr(ino, &out.Attr)
	return fuse.OK
}

func (f *flat) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.attr(in.NodeId, &out.Attr)
	out.AttrValid = 3600
	return fuse.OK
}

func (f *flat) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	ino := uint64(len(f.files) + 2)
	f.files[name], f.data[ino] = ino, nil
	out.NodeId = ino
	f.attr(ino, &out.Attr)
	return fuse.OK
}

func (f *flat) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	f.mu.Lock()
	slow := f.files["slow"] == in.NodeId
	f.mu.Unlock()
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	if !slow {
		return fuse.OK
	}
	f.entered <- struct{}{}
	select {
	case <-f.release:
		return fuse.OK
	case <-cancel:
		f.interrupted <- struct{}{}
		return fuse.EINTR
	}
}

func (f *flat) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads[in.NodeId]++
	data := f.data[in.NodeId]
	data = data[min(uint64(len(data)), in.Offset):]
	return fuse.ReadResultData(buf[:copy(buf, data)]), fuse.OK
}

func (f *flat) Write(_ <-chan struct{}, in *fuse.WriteIn, b []byte) (uint32, fuse.Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if need := int(in.Offset) + len(b); need > len(f.data[in.NodeId]) {
		f.data[in.NodeId] = append(f.data[in.NodeId], make([]byte, need-len(f.data[in.NodeId]))...)
	}
	copy(f.data[in.NodeId][in.Offset:], b)
	return uint32(len(b)), fuse.OK
}

func (f *flat) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.attr(in.NodeId, &out.Attr)
	return fuse.OK
}

func (f *flat) Fsync(<-chan struct{}, *fuse.FsyncIn) fuse.Status {
	if f.slowSync {
		f.entered <- struct{}{}
		<-f.release
	}
	return fuse.OK
}

func (f *flat) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

// mounted is a transport that serves a mount of its own.
type mounted struct {
	transport.Transport
	dir    string
	served chan error
}

// overBoth runs a test over the device and over io_uring.
func overBoth(t *testing.T, test func(t *testing.T, kind transport.Kind)) {
	for _, kind := range []transport.Kind{transport.Device, transport.Uring} {
		t.Run(string(kind), func(t *testing.T) { test(t, kind) })
	}
}

// switchOn makes the kernel offer io_uring for the time of a test.
func switchOn(t *testing.T) {
	t.Helper()
	const path = "/sys/module/fuse/parameters/enable_uring"
	before, err := os.ReadFile(path)
	if err != nil {
		t.Skip("this kernel has no FUSE over io_uring: " + err.Error())
	}
	t.Cleanup(func() { _ = os.WriteFile(path, before, 0) })
}

func mount(t *testing.T, f *flat, kind transport.Kind, o transport.Options) *mounted {
	t.Helper()
	return mountWith(t, f, kind, o, 0)
}

func mountWith(t *testing.T, f fuse.RawFileSystem, kind transport.Kind, o transport.Options, capabilities uint64) *mounted {
	t.Helper()
	if os.Geteuid() != 0 {
		skip(t, "needs root")
	}
	if kind == transport.Uring {
		switchOn(t)
	}
	resolved, err := transport.Resolve(kind)
	if err != nil || resolved != kind {
		t.Fatalf("%s: %v, %v", kind, resolved, err)
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		skip(t, "no /dev/fuse: "+err.Error())
	}
	m := &mounted{dir: t.TempDir(), served: make(chan error, 1)}
	data := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,max_read=%d", fd, maxWrite)
	if err := unix.Mount("flat", m.dir, "fuse.flat", unix.MS_NOSUID|unix.MS_NODEV, data); err != nil {
		t.Fatal(err)
	}
	m.Transport, err = transport.New(kind, fd, f, &fuse.MountOptions{MaxWrite: maxWrite, MaxBackground: 64, ExtraCapabilities: capabilities}, o)
	if err != nil {
		t.Fatal(err)
	}
	if m.Kind() != kind {
		t.Fatalf("the mount goes over %s", m.Kind())
	}
	go func() { m.served <- m.Serve() }()
	t.Cleanup(func() { _ = unix.Unmount(m.dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) })
	m.refusePoll(t)
	return m
}

// refusePoll makes the kernel learn that files of the mount are not polled, from a file that go-fuse answers itself. The first os.File of the mount would be, by
// Go's runtime, whose epoll then waits for an answer that this process gives, and with it what waits for the device by the same epoll.
func (m *mounted) refusePoll(t *testing.T) {
	t.Helper()
	fd, err := unix.Open(filepath.Join(m.dir, ".go-fuse-epoll-hack"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0); err != nil {
		t.Fatal(err)
	}
}

// ends waits until Serve has returned.
func (m *mounted) ends(t *testing.T) error {
	t.Helper()
	select {
	case err := <-m.served:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("Serve goes on after the end of the mount")
		return nil
	}
}

func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("KMSFS_REQUIRE") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// run runs a shell script in the mount and returns what it printed.
func (m *mounted) run(t *testing.T, script string) string {
	t.Helper()
	out, err := m.shell(script)
	if err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
	return string(out)
}

// shell runs a script in the mount, by a process of its own: this one serves the mount and must not wait for it. That goes for exec's Dir too:
// the directory is changed between fork and exec, while the parent's processor waits and no garbage collection can begin.
func (m *mounted) shell(script string) ([]byte, error) {
	return exec.Command("sh", "-c", `cd "$1" && eval "$2"`, "sh", m.dir, script).CombinedOutput()
}

func TestFilesOfAllSizes(t *testing.T) {
	overBoth(t, testFilesOfAllSizes)
}

func testFilesOfAllSizes(t *testing.T, kind transport.Kind) {
	for name, poll := range map[string]time.Duration{"polling": 0, "sleeping": -1} {
		t.Run(name, func(t *testing.T) {
			m := mount(t, newFlat(), kind, transport.Options{MaxPoll: poll})
			for _, size := range []int{0, 1, 4095, 4096, 65535, 65536, 1 << 20, 5<<20 + 3} {
				src := filepath.Join(t.TempDir(), "src")
				want := bytes.Repeat([]byte("kmsfs transport "), size/16+1)[:size]
				if err := os.WriteFile(src, want, 0o600); err != nil {
					t.Fatal(err)
				}
				m.run(t, fmt.Sprintf("cp %s f%d && cmp %s f%d && dd if=f%d iflag=direct bs=1M status=none | cmp - %s", src, size, src, size, size, src))
			}
			if err := unix.Unmount(m.dir, 0); err != nil {
				t.Fatal(err)
			}
			if err := m.ends(t); err != nil {
				t.Fatal(err)
			}
			if s := m.Stats(); poll < 0 && s.Polled != 0 || s.Requests == 0 || kind == transport.Device && s.Handovers == 0 {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

// A request that blocks must not keep others waiting, however many block.
func TestSlowRequestsBlockNobody(t *testing.T) {
	overBoth(t, testSlowRequestsBlockNobody)
}

func testSlowRequestsBlockNobody(t *testing.T, kind transport.Kind) {
	f := newFlat()
	m := mount(t, f, kind, transport.Options{})
	m.run(t, "echo x > slow; echo y > fast")
	const blocked = 10
	var cats []*exec.Cmd
	for range blocked {
		cat := exec.Command("cat", filepath.Join(m.dir, "slow"))
		if err := cat.Start(); err != nil {
			t.Fatal(err)
		}
		cats = append(cats, cat)
	}
	for range blocked {
		<-f.entered
	}
	for range 20 {
		if got := m.run(t, "cat fast"); got != "y\n" {
			t.Fatalf("read %q", got)
		}
	}
	if s := m.Stats(); kind == transport.Device && s.Stolen < blocked {
		t.Errorf("%d opens blocked, the lead was taken away %d times", blocked, s.Stolen)
	}
	close(f.release)
	for _, cat := range cats {
		if err := cat.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// An fsync that its reader keeps the lead for must not keep others waiting once it takes long, and the next one is handed over.
func TestSlowSyncsBlockNobody(t *testing.T) {
	overBoth(t, testSlowSyncsBlockNobody)
}

func testSlowSyncsBlockNobody(t *testing.T, kind transport.Kind) {
	f := newFlat()
	f.slowSync = true
	m := mount(t, f, kind, transport.Options{})
	const blocked = 3
	var syncs []*exec.Cmd
	for i := range blocked {
		m.run(t, fmt.Sprintf("echo y > f%d", i))
		sync := exec.Command("sync", filepath.Join(m.dir, fmt.Sprintf("f%d", i)))
		if err := sync.Start(); err != nil {
			t.Fatal(err)
		}
		syncs = append(syncs, sync)
		<-f.entered
		if got := m.run(t, "cat f0"); got != "y\n" {
			t.Fatalf("read %q", got)
		}
	}
	if s := m.Stats(); kind == transport.Device && s.Stolen < 1 {
		t.Errorf("the lead was never taken away: %+v", s)
	}
	close(f.release)
	for _, sync := range syncs {
		if err := sync.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// An fsync that took long while nobody else had a request was in nobody's way: the next one is not handed over.
func TestSlowSyncAlone(t *testing.T) {
	f := newFlat()
	f.slowSync = true
	m := mount(t, f, transport.Device, transport.Options{})
	m.run(t, "echo y > f")
	sync := func() *exec.Cmd {
		cmd := exec.Command("sync", filepath.Join(m.dir, "f"))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-f.entered
		return cmd
	}
	slow := sync()
	for deadline := time.Now().Add(time.Minute); m.Stats().Stolen == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the lead was never taken away")
		}
	}
	close(f.release)
	if err := slow.Wait(); err != nil {
		t.Fatal(err)
	}
	before := m.Stats().Handovers
	if err := sync().Wait(); err != nil {
		t.Fatal(err)
	}
	if after := m.Stats().Handovers; after != before {
		t.Errorf("the lead was handed over %d times", after-before)
	}
}

func TestKilledCallerInterruptsItsRequest(t *testing.T) {
	overBoth(t, testKilledCallerInterruptsItsRequest)
}

func testKilledCallerInterruptsItsRequest(t *testing.T, kind transport.Kind) {
	f := newFlat()
	m := mount(t, f, kind, transport.Options{})
	m.run(t, "echo x > slow")
	cat := exec.Command("cat", filepath.Join(m.dir, "slow"))
	if err := cat.Start(); err != nil {
		t.Fatal(err)
	}
	<-f.entered
	if err := cat.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-f.interrupted:
	case <-time.After(20 * time.Second):
		t.Fatal("the open was not interrupted")
	}
	_ = cat.Wait()
}

// When the connection is aborted under a blocked request, the request is interrupted and Serve returns.
func TestAbortEndsBlockedRequests(t *testing.T) {
	overBoth(t, testAbortEndsBlockedRequests)
}

func testAbortEndsBlockedRequests(t *testing.T, kind transport.Kind) {
	f := newFlat()
	m := mount(t, f, kind, transport.Options{})
	m.run(t, "echo x > slow")
	cat := exec.Command("cat", filepath.Join(m.dir, "slow"))
	if err := cat.Start(); err != nil {
		t.Fatal(err)
	}
	<-f.entered
	var st unix.Stat_t
	if err := unix.Stat(filepath.Dir(m.dir), &st); err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(m.dir, unix.MNT_FORCE); err != nil && !errors.Is(err, unix.EBUSY) {
		t.Fatal(err)
	}
	if err := m.ends(t); err != nil {
		t.Logf("ended with: %v", err)
	}
	select {
	case <-f.interrupted:
	default:
		t.Error("the blocked open was not interrupted")
	}
	_ = cat.Wait()
}

func TestInodeNotifyDropsCachedPages(t *testing.T) {
	overBoth(t, testInodeNotifyDropsCachedPages)
}

func testInodeNotifyDropsCachedPages(t *testing.T, kind transport.Kind) {
	f := newFlat()
	m := mount(t, f, kind, transport.Options{})
	m.run(t, "echo old > file")
	m.run(t, "cat file; cat file")
	f.mu.Lock()
	ino := f.files["file"]
	before := f.reads[ino]
	copy(f.data[ino], "new")
	f.mu.Unlock()
	if got := m.run(t, "cat file"); got != "old\n" {
		t.Fatalf("the page cache does not hold the file: %q", got)
	}
	if status := m.InodeNotify(ino, 0, 0); !status.Ok() {
		t.Fatal(status)
	}
	if got := m.run(t, "cat file"); got != "new\n" {
		t.Errorf("after the notification: %q", got)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.reads[ino] <= before {
		t.Error("no read reached the filesystem")
	}
}

func TestEntryNotifyDropsName(t *testing.T) {
	overBoth(t, testEntryNotifyDropsName)
}

func testEntryNotifyDropsName(t *testing.T, kind transport.Kind) {
	f := newFlat()
	m := mount(t, f, kind, transport.Options{})
	m.run(t, "echo x > a; ls a")
	f.mu.Lock()
	delete(f.files, "a")
	f.mu.Unlock()
	m.run(t, "test -e a") // still cached
	if status := m.EntryNotify(1, "a"); !status.Ok() {
		t.Fatal(status)
	}
	m.run(t, "test ! -e a && echo y > b && test -e b")
	f.mu.Lock()
	ino := f.files["b"]
	delete(f.files, "b")
	f.mu.Unlock()
	if status := m.DeleteNotify(1, ino, "b"); !status.Ok() {
		t.Fatal(status)
	}
	m.run(t, "test ! -e b")
}

// An idle loop sleeps: it makes no system call until a request comes.
func TestIdleLoopSleeps(t *testing.T) {
	overBoth(t, testIdleLoopSleeps)
}

func testIdleLoopSleeps(t *testing.T, kind transport.Kind) {
	m := mount(t, newFlat(), kind, transport.Options{})
	m.run(t, "echo x > a")
	var first, second unix.Rusage
	deadline := time.Now().Add(20 * time.Second)
	for {
		s := m.Stats()
		if err := unix.Getrusage(unix.RUSAGE_SELF, &first); err != nil {
			t.Fatal(err)
		}
		<-time.After(200 * time.Millisecond)
		if err := unix.Getrusage(unix.RUSAGE_SELF, &second); err != nil {
			t.Fatal(err)
		}
		if m.Stats() == s && cpu(second)-cpu(first) < 10*time.Millisecond {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("never idle: %+v, then %+v, %v of processor time", s, m.Stats(), cpu(second)-cpu(first))
		}
	}
}

func cpu(u unix.Rusage) time.Duration {
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Many processes at once: every answer goes to whom it belongs.
func TestManyClients(t *testing.T) {
	overBoth(t, testManyClients)
}

func testManyClients(t *testing.T, kind transport.Kind) {
	m := mount(t, newFlat(), kind, transport.Options{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			script := fmt.Sprintf("for j in 1 2 3 4 5 6 7 8; do head -c %d /dev/zero | tr '\\0' %d > f%d; sync f%d; test $(tr -d %d < f%d | wc -c) = 0 || exit 1; done", 50000*(i+1), i, i, i, i, i)
			if out, err := m.shell(script); err != nil {
				t.Errorf("client %d: %v: %s", i, err, out)
			}
		}()
	}
	wg.Wait()
	if err := unix.Unmount(m.dir, 0); err != nil {
		t.Fatal(err)
	}
	if err := m.ends(t); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}
