package rescue

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// fault is a line of `kmsfs fsck --json`.
type fault struct {
	Where, What    string
	Fixed          bool
	Paths          []string
	Offset, Length uint64
}

// fsck checks the volume, which must end with code, and returns the faults.
func fsck(t *testing.T, r *mounttest.Rig, code int, options ...string) (faults []fault) {
	t.Helper()
	res := r.Run(secretly(r, append([]string{"fsck", r.Volume, "--json"}, options...)...)...)
	if res.Code != code {
		t.Fatalf("want exit %d: %s", code, res)
	}
	faults = objects[fault](t, res.Out)
	return slices.DeleteFunc(faults, func(f fault) bool { return f.Where == "" }) // the summary
}

// objects reads lines of JSON.
func objects[T any](t *testing.T, out string) (all []T) {
	t.Helper()
	for dec := json.NewDecoder(strings.NewReader(out)); dec.More(); {
		var v T
		if err := dec.Decode(&v); err != nil {
			t.Fatal(err, out)
		}
		all = append(all, v)
	}
	return all
}

// spoil changes bytes of block 5 of the volume's only object.
func spoil(t *testing.T, r *mounttest.Rig) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(r.Volume, "objects", "*", "*"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	f, err := os.OpenFile(names[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("other bytes"), 5*4096+17)
	if err := joined(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestFsckNames damages one block: fsck, online and offline, names every path of the file and the bytes that are lost, and all else can be read.
func TestFsckNames(t *testing.T) {
	r := mounttest.NewRig(t, mounttest.Options{})
	r.Init()
	r.Mount()
	w := newWriter(t, r.Mnt, 1)
	path := filepath.Join(r.Mnt, "big file")
	w.check(os.WriteFile(path, w.bytes(300_000), 0o600))
	w.check(os.Link(path, filepath.Join(r.Mnt, "other name")))
	w.check(os.WriteFile(filepath.Join(r.Mnt, "good"), w.bytes(3000), 0o600))
	r.Umount()
	spoil(t, r)

	check := func(how string) {
		t.Helper()
		faults := fsck(t, r, 19)
		if len(faults) != 1 {
			t.Fatalf("%s: %+v", how, faults)
		}
		got := faults[0]
		if strings.Join(got.Paths, " ") != "/big file /other name" || got.Offset != 5*4096 || got.Length != 4096 {
			t.Errorf("%s: %+v", how, got)
		}
	}
	check("offline")
	r.Mount()
	check("online")
	if _, err := os.ReadFile(filepath.Join(r.Mnt, "good")); err != nil {
		t.Error(err)
	}
	b := make([]byte, 4096)
	g, err := os.Open(path)
	w.check(err)
	defer g.Close()
	if _, err := g.ReadAt(b, 100*1024); err != nil {
		t.Errorf("a block that is whole: %v", err)
	}
}

// TestFsckExport damages the export: fsck says so, and it is written anew: with --repair at once, otherwise by the next checkpoint.
func TestFsckExport(t *testing.T) {
	r := mounttest.NewRig(t, mounttest.Options{})
	r.Init()
	r.Mount()
	newWriter(t, r.Mnt, 1).fill(5)
	r.Umount()
	damage := func() {
		t.Helper()
		names, err := filepath.Glob(filepath.Join(r.Volume, "export", "*.rows"))
		if err != nil || len(names) == 0 {
			t.Fatal(names, err)
		}
		info, err := os.Stat(names[0])
		if err == nil {
			err = os.Truncate(names[0], info.Size()-3)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	damage()
	if faults := fsck(t, r, 19); len(faults) != 1 || faults[0].Where != "export" || faults[0].Fixed {
		t.Errorf("faults %+v", faults)
	}
	damage()
	if faults := fsck(t, r, 0, "--repair"); len(faults) != 1 || !faults[0].Fixed {
		t.Errorf("repair: %+v", faults)
	}
	if faults := fsck(t, r, 0); len(faults) != 0 {
		t.Errorf("afterwards: %+v", faults)
	}
}

// TestSweepIsRemembered: what a crash has left is given back by a later mount, though a clean unmount came between.
func TestSweepIsRemembered(t *testing.T) {
	r := mounttest.NewRig(t, mounttest.Options{})
	r.Init()
	r.Mount()
	newWriter(t, r.Mnt, 1).fill(5)
	kill(t, r)
	stray := filepath.Join(r.Volume, "objects", "ab", "ab112233445566778899aabbccddeeff")
	create(t, stray)
	r.Mount("-o", "ro") // does not sweep
	r.Umount()
	r.Mount()
	for until := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Lstat(stray); os.IsNotExist(err) {
			break
		}
		if time.Now().After(until) {
			t.Fatal("the leftover of a crash is still there")
		}
	}
	r.Fsck()
}

// quarantined is a line of `kmsfs fsck --quarantine --json`.
type quarantined struct {
	fault
	Since time.Time
	Row   string
	Value []byte
}

func quarantine(t *testing.T, r *mounttest.Rig) []quarantined {
	t.Helper()
	return objects[quarantined](t, r.Must(secretly(r, "fsck", r.Volume, "--quarantine", "--json")...))
}

// TestQuarantine damages a block: what --repair can't put right is listed with names and bytes, mounted or not, after a restart and after a rename, found once,
// and not any more once the file is written anew.
func TestQuarantine(t *testing.T) {
	r := mounttest.NewRig(t, mounttest.Options{})
	r.Init()
	r.Mount()
	w := newWriter(t, r.Mnt, 1)
	path := filepath.Join(r.Mnt, "big file")
	w.check(os.WriteFile(path, w.bytes(300_000), 0o600))
	if list := quarantine(t, r); len(list) != 0 {
		t.Fatalf("of a sound volume: %+v", list)
	}
	r.Umount()
	spoil(t, r)

	fsck(t, r, 19)
	if list := quarantine(t, r); len(list) != 0 {
		t.Fatalf("without --repair: %+v", list)
	}
	fsck(t, r, 19, "--repair")
	check := func(how, name string) quarantined {
		t.Helper()
		list := quarantine(t, r)
		if len(list) != 1 || strings.Join(list[0].Paths, " ") != name || list[0].Offset != 5*4096 || list[0].Length != 4096 || list[0].Since.IsZero() {
			t.Fatalf("%s: %+v", how, list)
		}
		return list[0]
	}
	first := check("offline", "/big file")
	r.Mount()
	w.check(os.Rename(path, filepath.Join(r.Mnt, "renamed")))
	check("online", "/renamed")
	fsck(t, r, 19, "--repair")
	r.Umount()
	if again := check("after another repair", "/renamed"); !again.Since.Equal(first.Since) {
		t.Errorf("found at %v, before at %v", again.Since, first.Since)
	}
	r.Mount()
	w.check(os.WriteFile(filepath.Join(r.Mnt, "renamed"), w.bytes(300_000), 0o600))
	fsck(t, r, 0, "--repair")
	if list := quarantine(t, r); len(list) != 0 {
		t.Errorf("what is damaged was replaced: %+v", list)
	}
	r.Umount()
}
