package mount

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/kmsfs/kmsfs/keymgr/keystore"
)

func mkdirs(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCheckMountPoint(t *testing.T) {
	dir := must(filepath.EvalSymlinks(t.TempDir()))(t)
	mkdirs(t, dir, "vol/objects", "ks", "mnt", "full/x", "nest/vol", "nest/ks")
	writeFile(t, filepath.Join(dir, "file"), "", 0o600)
	for link, target := range map[string]string{"link": "mnt", "dangling": "nowhere", "tovol": "vol/objects"} {
		if err := os.Symlink(filepath.Join(dir, target), filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		volume, store, point string
		want                 error
	}{
		{"vol", "ks", "mnt", nil},
		{"vol", "ks", "link", nil},
		{"vol", "ks", "nowhere", ErrMountPoint},
		{"vol", "ks", "dangling", ErrMountPoint},
		{"vol", "ks", "file", ErrMountPoint},
		{"vol", "ks", "full", ErrMountPoint},
		{"vol", "ks", "vol", ErrMountPoint},
		{"vol", "ks", "vol/objects", ErrMountPoint},
		{"vol", "ks", "tovol", ErrMountPoint},
		{"nest/vol", "ks", "nest", ErrMountPoint},
		{"vol", "nest/ks", "nest", ErrMountPoint},
		{"vol", "ks", "/", ErrMountPoint},
		{"none", "ks", "mnt", ErrNotVolume},
		{"vol", "none", "mnt", keystore.ErrNone},
	} {
		point := c.point
		if !filepath.IsAbs(point) {
			point = filepath.Join(dir, point)
		}
		p, err := checkMountPoint(filepath.Join(dir, c.volume), filepath.Join(dir, c.store), point)
		if !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c, err)
		}
		if c.want == nil && p.MountPoint != filepath.Join(dir, "mnt") {
			t.Errorf("%+v: resolved to %+v", c, p)
		}
	}
}

func TestRuntimeDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	t.Setenv("KMSFS_RUNTIME_DIR", dir)
	got, err := RuntimeDir()
	if err != nil || got != dir {
		t.Fatalf("%s %v", got, err)
	}
	if st := must(os.Stat(dir))(t); st.Mode().Perm() != 0o700 {
		t.Fatalf("mode %v", st.Mode())
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := RuntimeDir(); err == nil {
		t.Fatal("a directory that others can write was accepted")
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KMSFS_RUNTIME_DIR", link)
	if _, err := RuntimeDir(); err == nil {
		t.Fatal("a symbolic link was accepted")
	}
}

func TestRecords(t *testing.T) {
	t.Setenv("KMSFS_RUNTIME_DIR", filepath.Join(t.TempDir(), "run"))
	r := must(openRuntime())(t)
	rec := record{Volume: "/v", ID: "000102030405060708090a0b0c0d0e0f", MountPoint: "/m", Device: "0:77", PID: os.Getpid()}
	if err := r.write(rec); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(r.dir, "garbage.json"), "{", 0o600)
	writeFile(t, filepath.Join(r.dir, "ffffffffffffffffffffffffffffffff.json"), `{"volume_id":"../../x"}`, 0o600)
	all := must(r.records())(t)
	if len(all) != 1 || all[0] != rec {
		t.Fatalf("%+v", all)
	}
	for _, c := range []struct {
		m  mountEntry
		ok bool
	}{{mountEntry{Device: "0:77", Point: "/bound"}, true}, {mountEntry{Device: "0:78", Point: "/m"}, true}, {mountEntry{Device: "0:78", Point: "/x"}, false}} {
		if got, ok := r.find(c.m); ok != c.ok || ok && got != rec {
			t.Errorf("%+v: %+v %v", c.m, got, ok)
		}
	}
	if err := r.forget(rec.ID); err != nil {
		t.Fatal(err)
	}
	if all := must(r.records())(t); len(all) != 0 {
		t.Fatalf("%+v", all)
	}
}

func TestAlive(t *testing.T) {
	if !aliveAt(os.Getpid()) || !aliveAt(1) || aliveAt(0) || aliveAt(-1) || aliveAt(1<<22+1) {
		t.Fatal("who is alive?")
	}
}
