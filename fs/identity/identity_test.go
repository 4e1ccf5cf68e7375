package identity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/policy"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("KMSFS_REQUIRE") == "1" {
		t.Fatal("this test needs root")
	}
	t.Skip("this test needs root")
}

// sleeper runs a copy of sleep(1) at path, changed by attr.
func sleeper(t *testing.T, path string, attr *syscall.SysProcAttr) uint32 {
	t.Helper()
	cmd := exec.Command(path, "300")
	cmd.SysProcAttr = attr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return uint32(cmd.Process.Pid)
}

func copyProgram(t *testing.T, to string, extra string) []byte {
	t.Helper()
	path, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b = append(b, extra...)
	if err := os.WriteFile(to, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return b
}

func principal(r *Resolver, pid, uid, gid uint32) policy.Principal {
	who, _ := r.Caller(context.Background(), pid, uid, gid, Wants{Groups: true})
	return who
}

func program(r *Resolver, pid uint32, digest bool) Program {
	_, p := r.Caller(context.Background(), pid, 1, 1, Wants{Program: true, Digest: digest})
	return p
}

func TestPrincipal(t *testing.T) {
	needRoot(t)
	r := New(Config{})
	path, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	pid := sleeper(t, path, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1, Gid: 1, Groups: []uint32{2, 3, 54321}}})
	p := principal(r, pid, 1, 1)
	if p.Unix.User != r.names.user(1) || p.Unix.UnresolvedUser || !p.Unix.UnresolvedGroups || len(p.Unix.Groups) != 4 || !slices.Contains(p.Unix.Groups, "54321") ||
		!slices.Contains(p.Unix.Groups, r.names.group(3)) || p.Root {
		t.Errorf("%+v %+v", p, p.Unix)
	}
	for what, unknown := range map[string]bool{
		"another uid":  principal(r, pid, 2, 1).Unix.UnresolvedGroups,
		"another gid":  principal(r, pid, 1, 2).Unix.UnresolvedGroups,
		"no process":   principal(r, 0, 1, 1).Unix.UnresolvedGroups,
		"dead process": principal(r, 1<<22+7, 1, 1).Unix.UnresolvedGroups,
		"unmapped uid": principal(r, pid, unmapped, 1).Unix.UnresolvedUser,
		"nobody's uid": r.Named(987654).Unix.UnresolvedUser,
	} {
		if !unknown {
			t.Errorf("%s: taken for known", what)
		}
	}
	self := principal(r, uint32(os.Getpid()), uint32(os.Getuid()), uint32(os.Getgid()))
	if !self.Root || self.Unix.User != "root" || self.Unix.UnresolvedUser {
		t.Errorf("%+v %+v", self, self.Unix)
	}
}

func TestProgram(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sleep")
	content := copyProgram(t, path, "one")
	pid := sleeper(t, path, nil)
	r := New(Config{})
	want := sha256.Sum256(content)
	for range 2 {
		if p := program(r, pid, true); p.Path != path || p.Claim != path || !bytes.Equal(p.Digest, want[:]) {
			t.Errorf("%+v", p)
		}
	}
	if p := program(r, pid, false); p.Path != path || p.Digest != nil {
		t.Errorf("%+v", p)
	}
	if p := program(r, 0, true); p.Path != "" || p.Claim != "" || p.Digest != nil {
		t.Errorf("no process: %+v", p)
	}
	own := New(Config{OwnPath: func(p string) bool { return p == path }})
	if p := program(own, pid, true); p.Path != "" || p.Digest != nil || p.Claim != path {
		t.Errorf("on the own mount: %+v", p)
	}
	// Another file takes the name: the process runs the old one, which has none.
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	copyProgram(t, path, "two")
	if p := program(r, pid, true); p.Path != path+".old" || !bytes.Equal(p.Digest, want[:]) {
		t.Errorf("renamed: %+v", p)
	}
	if err := os.Remove(path + ".old"); err != nil {
		t.Fatal(err)
	}
	if p := program(r, pid, true); p.Path != "" || p.Digest != nil {
		t.Errorf("deleted: %+v", p)
	}
}

// TestFakedProgram: in a mount namespace of its own a process can make its program look like any other. It is not believed.
func TestFakedProgram(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	real, fake := filepath.Join(dir, "real"), filepath.Join(dir, "fake")
	copyProgram(t, real, "real")
	copyProgram(t, fake, "fake")
	if _, err := exec.LookPath("unshare"); err != nil {
		t.Fatal("no unshare(1): it is part of util-linux")
	}
	script := `for m in $(awk '$3 ~ /^fuse/ {print $2}' /proc/mounts); do umount -l "$m"; done; mount --bind "$1" "$2" && exec "$2" 300`
	cmd := exec.Command("unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", fake, real)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	r, pid := New(Config{}), uint32(cmd.Process.Pid)
	for deadline := time.Now().Add(30 * time.Second); program(r, pid, false).Claim != real; {
		if time.Now().After(deadline) {
			t.Fatalf("the process runs %q", program(r, pid, false).Claim)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if p := program(r, pid, true); p.Path != "" || p.Digest != nil || p.Claim != real {
		t.Errorf("a faked program is believed: %+v", p)
	}
}
