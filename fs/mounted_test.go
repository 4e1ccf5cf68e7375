package fs_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/fs"
	"github.com/kmsfs/kmsfs/fs/fstest"
)

// mountLine returns the line of the mount table about dir.
func mountLine(t *testing.T, dir string) string {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(table), "\n") {
		if f := strings.Fields(line); len(f) > 5 && f[4] == dir {
			return line
		}
	}
	t.Fatalf("%s is not in the mount table", dir)
	return ""
}

func TestMountTable(t *testing.T) {
	for _, c := range []struct {
		name      string
		o         fs.MountOptions
		has, lack []string
	}{
		{"default", fs.MountOptions{}, []string{"nosuid", "nodev", "default_permissions", "allow_other", "fuse.kmsfs kmsfs "}, []string{"noexec"}},
		{"all", fs.MountOptions{FsName: "a volume", Suid: true, Dev: true, NoExec: true, NoAtime: true}, []string{"noexec", "noatime", `fuse.kmsfs a\040volume `}, []string{"nosuid", "nodev"}},
		{"read-only", fs.MountOptions{ReadOnly: true}, []string{" ro,"}, nil},
	} {
		m := fstest.NewMount(t, fstest.Options{Mount: c.o})
		line := mountLine(t, m.Dir)
		for _, want := range c.has {
			if !strings.Contains(line, want) {
				t.Errorf("%s: %q lacks %q", c.name, line, want)
			}
		}
		for _, word := range c.lack {
			if strings.Contains(line, word) {
				t.Errorf("%s: %q has %q", c.name, line, word)
			}
		}
	}
}

func TestReadOnly(t *testing.T) {
	readOnly := false
	m := fstest.NewMount(t, fstest.Options{Config: func(c *fs.Config) { c.ReadOnly = readOnly }})
	mustWrite(t, m.Path("f"), []byte("content"))
	m.Unmount()
	readOnly = true
	m.SetMountOptions(fs.MountOptions{ReadOnly: true})
	m.Mount()
	if got, err := os.ReadFile(m.Path("f")); err != nil || string(got) != "content" {
		t.Errorf("%q, %v", got, err)
	}
	for what, err := range map[string]error{
		"write": openError(m.Path("f"), os.O_RDWR), "create": openError(m.Path("g"), os.O_CREATE|os.O_WRONLY), "chmod": os.Chmod(m.Path("f"), 0o600),
		"remove": os.Remove(m.Path("f")), "rename": os.Rename(m.Path("f"), m.Path("g")), "setxattr": unix.Setxattr(m.Path("f"), "user.x", nil, 0),
	} {
		if !errors.Is(err, unix.EROFS) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestNoAtime: on a mount with noatime reading leaves no trace, with relatime it does.
func TestNoAtime(t *testing.T) {
	for _, off := range []bool{false, true} {
		m := fstest.NewMount(t, fstest.Options{Mount: fs.MountOptions{NoAtime: off}, Config: func(c *fs.Config) { c.NoAtime = off }})
		if err := os.Mkdir(m.Path("d"), 0o755); err != nil {
			t.Fatal(err)
		}
		mustWrite(t, m.Path("d", "f"), []byte("x"))
		old := time.Unix(1_000_000_000, 0)
		if err := os.Chtimes(m.Path("d", "f"), old, time.Time{}); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(m.Path("d"), old, time.Time{}); err != nil {
			t.Fatal(err)
		}
		m.Remount() // nothing is cached
		if _, err := os.ReadFile(m.Path("d", "f")); err != nil {
			t.Fatal(err)
		}
		readNames(t, m.Path("d"))
		m.Remount()
		for _, path := range []string{m.Path("d", "f"), m.Path("d")} {
			var st unix.Stat_t
			if err := unix.Stat(path, &st); err != nil {
				t.Fatal(err)
			}
			if kept := st.Atim.Sec == old.Unix(); kept != off {
				t.Errorf("noatime %v: the access time of %s is %d after a read", off, path, st.Atim.Sec)
			}
		}
	}
}

func TestStatfsKeepsTheReserve(t *testing.T) {
	const reserve = 1 << 30
	m := fstest.NewMount(t, fstest.Options{Config: func(c *fs.Config) { c.Reserve = reserve }})
	var up, low unix.Statfs_t
	if err := unix.Statfs(m.Dir, &up); err != nil {
		t.Fatal(err)
	}
	if err := unix.Statfs(m.Volume, &low); err != nil {
		t.Fatal(err)
	}
	kept := (int64(low.Bavail) - int64(up.Bavail)) * low.Bsize
	if diff := kept - reserve; diff < -64<<20 || diff > 64<<20 { // others write meanwhile
		t.Errorf("%d bytes are kept, want %d", kept, reserve)
	}
	if up.Namelen != 255 || up.Bsize != low.Bsize || up.Files == 0 {
		t.Errorf("%+v", up)
	}
}

func TestNothingNewWhenOnlyTheReserveIsLeft(t *testing.T) {
	full := false
	m := fstest.NewMount(t, fstest.Options{Config: func(c *fs.Config) {
		if full {
			c.Reserve = 1 << 60
		}
	}})
	mustWrite(t, m.Path("f"), []byte("content"))
	full = true
	m.Remount()
	for what, err := range map[string]error{
		"create": openError(m.Path("g"), os.O_CREATE|os.O_WRONLY), "write": writeError(m.Path("f")), "mkdir": os.Mkdir(m.Path("d"), 0o755),
		"symlink": os.Symlink("x", m.Path("l")), "link": os.Link(m.Path("f"), m.Path("l")), "setxattr": unix.Setxattr(m.Path("f"), "user.x", nil, 0),
	} {
		if !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if got, err := os.ReadFile(m.Path("f")); err != nil || string(got) != "content" {
		t.Errorf("read: %q, %v", got, err)
	}
	if err := os.WriteFile(m.Path("f"), nil, 0); err != nil { // open with O_TRUNC
		t.Errorf("empty: %v", err)
	}
	if err := os.Remove(m.Path("f")); err != nil {
		t.Errorf("remove: %v", err)
	}
}

// writeError opens a file for writing and writes to it.
func writeError(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("no write, but open: %v", err)
	}
	defer f.Close()
	_, err = f.Write([]byte("x"))
	return err
}

// TestDeviceIsNotInherited: a child that lived on with the FUSE device would keep the mount hanging when the daemon is gone.
func TestDeviceIsNotInherited(t *testing.T) {
	fstest.NewMount(t, fstest.Options{})
	out, err := exec.Command("ls", "-l", "/proc/self/fd").Output()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), "/dev/fuse") {
		t.Errorf("a child has it:\n%s", out)
	}
}

func TestMountErrors(t *testing.T) {
	m := fstest.NewMount(t, fstest.Options{})
	for what, dir := range map[string]string{"missing": m.Path("missing"), "file": "/proc/self/status"} {
		s, err := fs.Mount(dir, m.FS, fs.MountOptions{})
		if err == nil {
			s.Detach()
		}
		if !errors.Is(err, fs.ErrMount) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestAbort(t *testing.T) {
	m := fstest.NewMount(t, fstest.Options{})
	mustWrite(t, m.Path("f"), []byte("content"))
	f, err := os.Open(m.Path("f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := m.Server.Abort(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-m.Server.Done():
	case <-time.After(10 * time.Second):
		t.Error("the server goes on")
	}
	if _, err := os.Stat(m.Path("g")); !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED) {
		t.Errorf("stat: %v", err)
	}
	if err := m.Server.Detach(); err != nil {
		t.Error(err)
	}
}

// TestUserMount runs itself again as somebody who is not root, whose mounts fusermount3 makes.
func TestUserMount(t *testing.T) {
	const nobody = 65534
	fstest.RequireTool(t, "fusermount3")
	if os.Geteuid() != 0 {
		m := fstest.NewMount(t, fstest.Options{})
		mustWrite(t, m.Path("f"), make([]byte, 100_000))
		if line := mountLine(t, m.Dir); !strings.Contains(line, "nosuid,nodev") {
			t.Errorf("%q", line)
		}
		m.Remount()
		if st, err := os.Stat(m.Path("f")); err != nil || st.Size() != 100_000 || st.Sys().(*syscall.Stat_t).Uid != nobody {
			t.Errorf("%v, %v", st, err)
		}
		return
	}
	fstest.RequireMount(t)
	unshare, setpriv := fstest.RequireTool(t, "unshare"), fstest.RequireTool(t, "setpriv")
	dir, err := os.MkdirTemp("", "fs-user-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	// Where nothing like udev has opened the device to users, one that is open takes its place, in a mount namespace of the child's.
	device := filepath.Join(t.TempDir(), "fuse")
	if err := unix.Mknod(device, unix.S_IFCHR|0o666, int(unix.Mkdev(10, 229))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(device, 0o666); err != nil {
		t.Fatal(err)
	}
	// Copies of other mounts in there would keep these from ending.
	script := `mount --bind "$1" /dev/fuse && awk '$3 == "fuse.kmsfs" { print $2 }' /proc/mounts | xargs -r umount -l; shift && exec "$@"`
	client := fstest.CopyForAll(t)
	cmd := exec.Command(unshare, "--mount", "sh", "-c", script, "sh", device,
		setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", client, "-test.run=^TestUserMount$", "-test.v")
	cmd.Dir, cmd.Env = "/", append(os.Environ(), "TMPDIR="+dir, "HOME="+dir)
	out := fstest.Run(t, cmd)
	if !strings.Contains(out, "PASS") || strings.Contains(out, "SKIP") {
		t.Errorf("%s", out)
	}
	if left, _ := filepath.Glob(dir + "/*"); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}
