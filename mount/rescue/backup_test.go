package rescue

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// backupResult is what `kmsfs backup --json` says.
type backupResult struct {
	Run, Blocks, Bytes, Rows uint64
	Passes                   int
	Damaged                  []struct{ Inode, Block uint64 }
}

func backUp(t testing.TB, r *mounttest.Rig, target string) (res backupResult) {
	t.Helper()
	out := r.Must(secretly(r, "backup", r.Volume, target, "--json")...)
	if err := json.Unmarshal([]byte(out), &res); err != nil {
		t.Fatal(err, out)
	}
	return res
}

// restored restores a backup in place of the volume, mounts it as options say and returns what is in it.
func restored(t testing.TB, r *mounttest.Rig, target string, options ...string) model {
	t.Helper()
	if err := os.RemoveAll(r.Volume); err != nil {
		t.Fatal(err)
	}
	r.Must(secretly(r, "restore", target, r.Volume)...)
	r.Mount(options...)
	return readTree(t, r.Mnt)
}

// TestBackup backs a volume up while it is mounted, changed and unmounted: each run copies what has changed, and each restore is the tree of its time.
func TestBackup(t *testing.T) {
	r := mounttest.NewRig(t, mounttest.Options{})
	r.Init()
	r.Mount()
	w := newWriter(t, r.Mnt, 1)
	w.fill(60)
	target := filepath.Join(r.Dir, "backup")
	full := backUp(t, r, target)
	if full.Run != 1 || full.Blocks == 0 {
		t.Fatalf("first run: %+v", full)
	}
	if again := backUp(t, r, target); again.Run != 2 || again.Blocks != 0 || again.Rows != 0 {
		t.Errorf("nothing has changed: %+v", again)
	}
	first := filepath.Join(r.Dir, "first")
	copyTree(t, target, first)
	then := readTree(t, r.Mnt)

	w.change(60)
	w.patch(filepath.Join(r.Mnt, "dir4", "file4.moved"))
	now := readTree(t, r.Mnt)
	next := backUp(t, r, target)
	if next.Blocks == 0 || next.Bytes > full.Bytes/2 {
		t.Errorf("after changes %+v, the first run %+v", next, full)
	}
	r.Umount()
	backUp(t, r, target)
	if res := r.Run(secretly(r, "restore", target, r.Volume)...); res.Code != 17 {
		t.Errorf("restore over a volume: %s", res)
	}
	now.mustEqual(t, "the newest state", restored(t, r, target)) // nothing newer is known: no flag
	r.Fsck()
	r.Umount()

	if err := os.RemoveAll(r.Volume); err != nil {
		t.Fatal(err)
	}
	if out := r.Must(secretly(r, "restore", first, r.Volume)...); !strings.Contains(out, "--accept-restore") {
		t.Errorf("restore of an older state: %s", out)
	}
	r.Refused(18, []string{"rolled back"}, r.MountArgs()...)
	r.Mount("--accept-restore")
	then.mustEqual(t, "the older state", readTree(t, r.Mnt))
	own := filepath.Join(r.Mnt, "own history")
	if err := os.Mkdir(own, 0o700); err != nil {
		t.Fatal(err)
	}
	newWriter(t, own, 9).fill(10)
	r.Remount() // accepted once is enough
	r.Fsck()
	after := readTree(t, r.Mnt)
	if res := backUp(t, r, target); res.Blocks == 0 { // of another history, into the same target
		t.Errorf("run after a restore: %+v", res)
	}
	r.Umount()
	after.mustEqual(t, "a backup of the other history", restored(t, r, target, "--accept-restore"))
	if recorded := r.Must("audit", "query", "--keystore", r.Store, "--event", "RestoreAnchor"); recorded == "" {
		t.Error("the restore is not in the audit log")
	}
}

// TestBackupUnderLoad backs up again and again while files are rewritten: each backup is one moment, so of two files that are written one after the
// other, the second is never newer than the first.
func TestBackupUnderLoad(t *testing.T) {
	r := mounttest.NewRig(t, mounttest.Options{})
	r.Init()
	r.Mount()
	stop := make(chan struct{})
	var load sync.WaitGroup
	for n := range 3 {
		load.Add(1)
		go func() {
			defer load.Done()
			rewrite(t, filepath.Join(r.Mnt, string(rune('a'+n))), stop)
		}()
	}
	target := filepath.Join(r.Dir, "backup")
	var last backupResult
	for range 4 {
		last = backUp(t, r, target)
		if len(last.Damaged) > 0 {
			t.Errorf("damage where there is none: %+v", last)
		}
	}
	close(stop)
	load.Wait()
	r.Umount()
	restored(t, r, target, "--accept-restore")
	r.Fsck()
	for n := range 3 {
		checkGenerations(t, filepath.Join(r.Mnt, string(rune('a'+n))))
	}
}

// rewrite writes generation after generation into two files, the first of them first, in place and synced.
func rewrite(t *testing.T, path string, stop chan struct{}) {
	for gen := byte(1); ; gen++ {
		for _, name := range []string{path + ".1", path + ".2"} {
			f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
			if err != nil {
				t.Error(err)
				return
			}
			b := make([]byte, 150_000)
			for i := range b {
				b[i] = gen
			}
			_, werr := f.WriteAt(b, 0)
			if err := joined(werr, f.Sync(), f.Close()); err != nil {
				t.Error(err)
				return
			}
		}
		select {
		case <-stop:
			return
		default:
		}
	}
}

func joined(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// checkGenerations: every byte of the second file is of the generation of some byte of the first, or of the one before.
func checkGenerations(t *testing.T, path string) {
	t.Helper()
	first, err := os.ReadFile(path + ".1")
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(path + ".2")
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	allowed := map[byte]bool{}
	for _, b := range first {
		allowed[b], allowed[b-1] = true, true
	}
	for i, b := range second {
		if !allowed[b] {
			t.Fatalf("%s: byte %d is of generation %d, the first file has %v", path, i, b, allowed)
		}
	}
}

// TestBackupTorn leaves what an interrupted run leaves, at each of its steps: the backup is the one before, or the new one.
func TestBackupTorn(t *testing.T) {
	r := mounttest.NewRig(t, mounttest.Options{})
	r.Init()
	r.Mount()
	w := newWriter(t, r.Mnt, 5)
	w.fill(20)
	target := filepath.Join(r.Dir, "backup")
	backUp(t, r, target)
	before, old := readTree(t, r.Mnt), filepath.Join(r.Dir, "old")
	copyTree(t, target, old)
	w.change(20)
	backUp(t, r, target)
	after := readTree(t, r.Mnt)
	r.Umount()
	good := filepath.Join(r.Dir, "good")
	copyTree(t, r.Volume, good)

	t.Run("first run", func(t *testing.T) {
		torn := filepath.Join(r.Dir, "torn1")
		copyTree(t, old, torn)
		remove(t, filepath.Join(torn, "backup.json"))
		create(t, filepath.Join(torn, "backup.unfinished"))
		r.Refused(3, []string{"not a backup"}, secretly(r, "restore", torn, filepath.Join(r.Dir, "nowhere"))...)
		after.mustEqual(t, "the next run", again(t, r, torn, good))
	})
	t.Run("before the manifest", func(t *testing.T) {
		torn := filepath.Join(r.Dir, "torn2")
		copyTree(t, old, torn)
		create(t, filepath.Join(torn, "00000002.pack"))
		create(t, filepath.Join(torn, "backup.unfinished"))
		create(t, filepath.Join(torn, "export", "00000002.rows"))
		before.mustEqual(t, "the backup before", restored(t, r, torn, "--accept-restore"))
		r.Umount()
		after.mustEqual(t, "the next run", again(t, r, torn, good))
	})
	t.Run("empty target in use", func(t *testing.T) {
		other := filepath.Join(r.Dir, "other")
		create(t, filepath.Join(other, "file"))
		r.Refused(3, []string{"not empty"}, secretly(r, "backup", r.Volume, other)...)
		r.Refused(2, nil, secretly(r, "backup", r.Volume, filepath.Join(r.Volume, "inside"))...)
	})
	t.Run("damaged", func(t *testing.T) {
		torn := filepath.Join(r.Dir, "torn3")
		copyTree(t, target, torn)
		names, err := filepath.Glob(filepath.Join(torn, "objects", "*", "*"))
		if err != nil || len(names) == 0 {
			t.Fatal(names, err)
		}
		if err := os.Truncate(names[0], 100); err != nil {
			t.Fatal(err)
		}
		res := r.Run(secretly(r, "restore", torn, filepath.Join(r.Dir, "damaged"))...)
		if res.Code != 19 || !strings.Contains(res.Out, "not what was backed up") {
			t.Errorf("restore of a damaged backup: %s", res)
		}
	})
}

// again puts the volume back, runs a backup into target, restores it, and returns what is in it.
func again(t *testing.T, r *mounttest.Rig, target, good string) model {
	t.Helper()
	if err := os.RemoveAll(r.Volume); err != nil {
		t.Fatal(err)
	}
	copyTree(t, good, r.Volume)
	r.Mount("--accept-restore")
	r.Umount()
	backUp(t, r, target)
	m := restored(t, r, target)
	r.Fsck()
	r.Umount()
	return m
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestBackupPowerCut cuts the power of the disk that backups are on, while one is being made: it then holds the backup before or the new one, whole, the
// volume goes on, and the next run makes it good.
func TestBackupPowerCut(t *testing.T) {
	for _, lower := range []string{"ext4", "xfs"} {
		if lower == "xfs" && !mounttest.Long() {
			continue
		}
		t.Run(lower, func(t *testing.T) {
			disk := mounttest.NewDisk(t, lower, mounttest.DiskSize)
			target := filepath.Join(disk.Dir, "backup")
			r := mounttest.NewRig(t, mounttest.Options{})
			r.Init()
			r.Mount()
			rng := rand.New(rand.NewPCG(mounttest.Seed(t), 7))
			w := newWriter(t, r.Mnt, 9)
			w.fill(20)
			began := time.Now()
			backUp(t, r, target)
			took := time.Since(began)
			before := readTree(t, r.Mnt)
			for round := range mounttest.Times(2, 20) {
				for i := range 15 {
					w.check(os.WriteFile(filepath.Join(r.Mnt, fmt.Sprint("again", i)), w.bytes(rng.IntN(200_000)), 0o600))
				}
				w.check(os.Remove(filepath.Join(r.Mnt, fmt.Sprint("again", round%15))))
				after := readTree(t, r.Mnt)
				code := cutDuring(t, r, disk, target, time.Duration(rng.Int64N(int64(took))))
				r.Alive()
				after.mustEqual(t, "the volume", readTree(t, r.Mnt))
				r.Umount()
				good := filepath.Join(r.Dir, fmt.Sprint("good", round))
				copyTree(t, r.Volume, good)

				got := restored(t, r, target, "--accept-restore")
				r.Umount()
				if code == 0 || !reflect.DeepEqual(got, before) {
					after.mustEqual(t, "after the cut", got)
				}
				t.Logf("round %d: exit code %d, the backup before: %v", round, code, reflect.DeepEqual(got, before))
				after.mustEqual(t, "the next run", again(t, r, target, good))
				before = after
				if err := os.RemoveAll(good); err != nil {
					t.Fatal(err)
				}
				r.Mount()
			}
			r.Umount()
		})
	}
}

// cutDuring runs a backup, cuts the power of its target's disk when it has run for so long, and brings the disk back. It returns the backup's exit code.
func cutDuring(t *testing.T, r *mounttest.Rig, disk *mounttest.Disk, target string, after time.Duration) int {
	t.Helper()
	done := make(chan mounttest.Result, 1)
	go func() { done <- r.Run(secretly(r, "backup", r.Volume, target, "--json")...) }()
	time.Sleep(after) // where it is by then is left to chance, and every outcome is checked
	if err := disk.Cut(mounttest.CutNoLogFlush); err != nil {
		t.Fatal(err)
	}
	res := <-done
	disk.Restart()
	return res.Code
}
