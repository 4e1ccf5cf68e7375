package access

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/keymgr"
)

// TestHeldTokens: tokens are their user's and session's, for their time; old ones make room.
func TestHeldTokens(t *testing.T) {
	var h heldTokens
	now := time.Unix(1e9, 0)
	me := holder{1000, 7}
	if h.any() {
		t.Error("tokens before any was used")
	}
	for i := range keymgr.MaxTokens + 2 {
		if !h.use(me, fmt.Sprint(i), now.Add(time.Duration(i)*time.Second)) {
			t.Fatal(i)
		}
	}
	list, until := h.of(me, now)
	if len(list) != keymgr.MaxTokens || list[0] != "2" || !until.Equal(now.Add(2*time.Second+TokenLife)) {
		t.Errorf("%v until %v", list, until)
	}
	for _, other := range []holder{{1001, 7}, {1000, 8}} {
		if list, _ := h.of(other, now); len(list) != 0 {
			t.Errorf("%+v has %v", other, list)
		}
	}
	if list, _ := h.of(me, now.Add(TokenLife+4*time.Second)); len(list) != keymgr.MaxTokens-3 {
		t.Errorf("after a while: %v", list)
	}
	if h.of(me, now.Add(time.Hour)); h.any() {
		t.Error("they are still there after an hour")
	}
	for i := range maxHolders {
		h.use(holder{uint32(i), 1}, "t", now)
	}
	if h.use(holder{5000, 1}, "t", now) {
		t.Error("more holders than are allowed")
	}
	if !h.use(holder{5000, 1}, "t", now.Add(TokenLife)) {
		t.Error("no room after the others' time")
	}
}

// TestSessionOf: a process's session is its leader; one whose leader is not in our PID namespace has none.
func TestSessionOf(t *testing.T) {
	leader := waiting(t, &syscall.SysProcAttr{Setsid: true})
	if s, ok := sessionOf(uint32(leader)); !ok || s != leader {
		t.Errorf("the session of its leader %d: %d %v", leader, s, ok)
	}
	if _, ok := sessionOf(0); ok {
		t.Error("a session of nobody")
	}
	if os.Getenv("KMSFS_TEST_NO_LEADER") != "" {
		if s, ok := sessionOf(uint32(os.Getpid())); ok {
			t.Errorf("session %d, the leader of which is outside", s)
		}
		return
	}
	if os.Geteuid() != 0 {
		if os.Getenv("KMSFS_REQUIRE") == "1" {
			t.Fatal("a new PID namespace needs root")
		}
		t.Skip("a new PID namespace needs root")
	}
	inside := exec.Command("/proc/self/exe", "-test.run=^TestSessionOf$", "-test.count=1")
	inside.Env = append(os.Environ(), "KMSFS_TEST_NO_LEADER=1")
	inside.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if out, err := inside.CombinedOutput(); err != nil {
		t.Errorf("in a PID namespace: %v: %s", err, out)
	}
}

// waiting starts a process that ends with the test.
func waiting(t *testing.T, attr *syscall.SysProcAttr) int {
	t.Helper()
	cmd := exec.Command("cat")
	cmd.SysProcAttr = attr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	return cmd.Process.Pid
}
