package rescue

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

func copyTree(t testing.TB, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", "--sparse=always", from, to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
}

func secretly(r *mounttest.Rig, args ...string) []string { return append(args, r.Secret...) }

// kill ends the file daemon as a crash does, and takes the dead mount away.
func kill(t testing.TB, r *mounttest.Rig) {
	t.Helper()
	if err := syscall.Kill(r.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.Ends(r.PID)
	r.Umount()
}

// TestRebuild loses and damages the metadata of a volume, closed and crashed: the mount is refused and says what to do, rebuild brings all of it back,
// and what was done is the same tree.
func TestRebuild(t *testing.T) {
	r := mounttest.NewRig(t, mounttest.Options{})
	r.Init()
	r.Mount()
	w := newWriter(t, r.Mnt, 1)
	w.fill(40)
	r.Remount()
	w.change(40)
	want := readTree(t, r.Mnt)
	for _, c := range []struct {
		name   string
		end    func()
		damage func(meta string) error
	}{
		{"gone, closed", r.Umount, os.RemoveAll},
		{"gone, crashed", func() { kill(t, r) }, os.RemoveAll},
		{"list torn", r.Umount, func(meta string) error { return os.Truncate(filepath.Join(meta, "MANIFEST"), 9) }},
		{"tables zeroed", r.Umount, zeroTables},
	} {
		c.end()
		if err := c.damage(filepath.Join(r.Volume, "meta")); err != nil {
			t.Fatal(err)
		}
		r.Refused(4, []string{"kmsfs rebuild"}, r.MountArgs()...)
		out := r.Must(secretly(r, "rebuild", r.Volume, "--json")...)
		var res struct {
			Rows uint64
			Lost string
		}
		if err := json.Unmarshal([]byte(out), &res); err != nil || res.Rows == 0 || res.Lost != "" {
			t.Fatalf("%s: %v: %s", c.name, err, out)
		}
		r.Mount()
		want.mustEqual(t, c.name, readTree(t, r.Mnt))
		r.Fsck()
	}
}

func zeroTables(meta string) error {
	tables, err := filepath.Glob(filepath.Join(meta, "*.sst"))
	if err == nil && len(tables) == 0 {
		err = errors.New("no tables")
	}
	for _, path := range tables {
		info, serr := os.Stat(path)
		if serr != nil {
			return serr
		}
		err = errors.Join(err, os.WriteFile(path, make([]byte, info.Size()), 0o600))
	}
	return err
}

// TestRebuildIsNoRollback puts an older volume, or an older export, in place and rebuilds it: that is refused, and where losses are accepted it is
// recorded.
func TestRebuildIsNoRollback(t *testing.T) {
	r := mounttest.NewRig(t, mounttest.Options{})
	r.Init()
	r.Mount()
	newWriter(t, r.Mnt, 2).fill(10)
	old := readTree(t, r.Mnt)
	r.Umount()
	older := filepath.Join(r.Dir, "older")
	copyTree(t, r.Volume, older)
	r.Mount()
	newWriter(t, r.Mnt, 3).change(10)
	want := readTree(t, r.Mnt)
	r.Umount()
	newest := filepath.Join(r.Dir, "newest")
	copyTree(t, r.Volume, newest)
	lose := func(from string, parts ...string) {
		t.Helper()
		for _, part := range parts {
			if err := os.RemoveAll(filepath.Join(r.Volume, part)); err != nil {
				t.Fatal(err)
			}
			if from != "" {
				copyTree(t, filepath.Join(from, part), filepath.Join(r.Volume, part))
			}
		}
	}
	lose(older, "export", "journal", "objects")
	lose("", "meta")
	r.Refused(18, nil, secretly(r, "rebuild", r.Volume)...)

	lose(newest, "journal", "objects") // the journal reaches back to where the older export ends
	r.Must(secretly(r, "rebuild", r.Volume)...)
	r.Mount()
	want.mustEqual(t, "from an older export", readTree(t, r.Mnt))
	r.Umount()

	lose(newest, "journal", "objects")
	lose("", "meta", "export")
	r.Refused(4, []string{"names, sizes and keys of all files are lost", "backup"}, secretly(r, "rebuild", r.Volume, "--accept-loss")...)

	lose(older, "export", "journal", "objects")
	if out := r.Must(secretly(r, "rebuild", r.Volume, "--accept-loss")...); !strings.Contains(out, "lost") {
		t.Errorf("a loss is not said: %s", out)
	}
	r.Mount() // the restore is recorded already
	old.mustEqual(t, "older state", readTree(t, r.Mnt))
	r.Umount()
	log, err := os.ReadFile(filepath.Join(r.Store, "audit", "keyd", "0000000000000000.jsonl"))
	if err != nil || !strings.Contains(string(log), "rebuilt with --accept-loss") {
		t.Errorf("the restore is not in the audit log: %v", err)
	}
}
