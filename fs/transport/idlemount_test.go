package transport_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/fs/transport"
)

const latencyDevice = "/dev/cpu_dma_latency"

// While requests come quickly the machine's processors may not halt when idle; afterwards they may, and nothing of it is left after the mount.
func TestIdlePoll(t *testing.T) {
	overBoth(t, testIdlePoll)
}

func testIdlePoll(t *testing.T, kind transport.Kind) {
	if _, err := os.Stat(latencyDevice); err != nil {
		skip(t, "this kernel takes no bound of latency: "+err.Error())
	}
	m := mount(t, newFlat(), kind, transport.Options{Idle: transport.IdlePoll})
	if m.Idle() != transport.IdlePoll {
		t.Fatalf("idle processors %s", m.Idle())
	}
	stop := m.ask(t)
	await(t, "the bound", func() bool { return bound(t) == 0 && m.Stats().IdlePolls > 0 })
	stop()
	await(t, "the end of it", func() bool { s := m.Stats(); return s.IdleHalts == s.IdlePolls && s.IdlePolled > 0 })
	if err := unix.Unmount(m.dir, 0); err != nil {
		t.Fatal(err)
	}
	if err := m.ends(t); err != nil {
		t.Fatal(err)
	}
	if n := opened(t); n != 0 {
		t.Errorf("%s is open %d times after the mount", latencyDevice, n)
	}
}

// ask makes requests that have no other work than the round trip, until stop is called.
func (m *mounted) ask(t *testing.T) (stop func()) {
	end := make(chan struct{})
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			var st unix.Statx_t
			for {
				select {
				case <-end:
					return
				default:
				}
				if err := unix.Statx(unix.AT_FDCWD, m.dir, unix.AT_STATX_FORCE_SYNC, unix.STATX_SIZE, &st); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	stop = sync.OnceFunc(func() {
		close(end)
		asking.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// bound is what the machine's processes ask for together, in microseconds.
func bound(t *testing.T) int32 {
	t.Helper()
	f, err := os.Open(latencyDevice)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [4]byte
	if _, err := f.Read(b[:]); err != nil {
		t.Fatal(err)
	}
	return int32(binary.NativeEndian.Uint32(b[:]))
}

// opened counts the descriptors of this process for the device.
func opened(t *testing.T) (n int) {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, _ := os.Readlink(fd); to == latencyDevice {
			n++
		}
	}
	return n
}

// await looks until ok, for as long as a loaded machine may need.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s does not come", what)
		}
	}
}
