package fs_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/fs/fstest"
)

// TestStress has several processes work at random on the same few names, and then checks that the volume is whole: links, directories, blocks.
func TestStress(t *testing.T) {
	const processes = 8
	const long = 4 * time.Second // cmd/kmsfs/e2e has the long form
	m := fstest.NewMount(t, fstest.Options{})
	seed := fstest.Seed()
	t.Logf("seed %d", seed)
	var children []*exec.Cmd
	for i := range processes {
		cmd := fstest.Command(t, "stress", m.Dir, strconv.FormatUint(seed+uint64(i), 10), long.String())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		children = append(children, cmd)
	}
	for _, cmd := range children {
		if err := cmd.Wait(); err != nil {
			t.Errorf("child: %v (seed %d)", err, seed)
		}
	}
	m.Check()
	before := tree(t, m.Dir)
	m.Remount()
	compareTrees(t, before, tree(t, m.Dir))
	m.Check()
	if n := orphans(t, m); n != 0 {
		t.Errorf("%d orphans are left", n)
	}
}

func compareTrees(t *testing.T, before, after map[string]string) {
	t.Helper()
	for p, was := range before {
		if is := after[p]; is != was {
			t.Errorf("%s was %q and is %q", p, was, is)
		}
	}
	for p, is := range after {
		if before[p] == "" {
			t.Errorf("%s was not there and is %q", p, is)
		}
	}
}

// tree returns modes, sizes, link counts and inodes by path.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	list := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		list[p] = fmt.Sprintf("mode %o, %d bytes, %d links, inode %d", st.Mode, st.Size, st.Nlink, st.Ino)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
