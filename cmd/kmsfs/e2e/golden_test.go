package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// goldenVolume is a volume, its key store and the key file as an earlier build has left them: part closed, part in the journal, since the file daemon was killed. Every later build must read it.
// Before the first release a change of the format makes it anew:
//
//	KMSFS_GOLDEN=write go test ./cmd/kmsfs/e2e -run TestGoldenVolume
const goldenVolume = "testdata/volume-v1.tar.gz"

// goldenTime is when all files of it were changed.
var goldenTime = time.Date(2026, 11, 26, 9, 45, 0, 123456789, time.UTC)

// goldenFile is a regular file of the golden volume, by its path below the mount.
type goldenFile struct {
	path    string
	content []byte
	late    bool // written after the checkpoint: it is in the journal
}

func goldenFiles() []goldenFile {
	text := bytes.Repeat([]byte("a line that is there often\n"), 8000)
	noise := goldenNoise("large", 150_000)
	sparse := make([]byte, 3<<20)
	copy(sparse[2<<20:], goldenNoise("sparse", 10_000))
	overwritten := goldenNoise("overwritten", 60_000)
	copy(overwritten[20_000:], goldenNoise("newer", 5_000))
	return []goldenFile{
		{path: "empty"}, {path: "small", content: []byte("inline")}, {path: "large", content: noise}, {path: "sparse", content: sparse},
		{path: "dir/renamed", content: goldenNoise("renamed", 9_000)}, {path: "dir/" + strings.Repeat("n", 255), content: []byte("a long name")},
		{path: "zone/text", content: text}, {path: "zone/noise", content: goldenNoise("zone", 100_000)},
		{path: "reencrypted", content: goldenNoise("reencrypted", 30_000)},
		{path: "overwritten", content: overwritten}, {path: "late", content: goldenNoise("late", 20_000), late: true},
	}
}

// goldenNoise returns n bytes that do not compress, the same for the same name.
func goldenNoise(name string, n int) []byte {
	h := fnv.New64a()
	h.Write([]byte(name))
	rng, b := rand.New(rand.NewPCG(h.Sum64(), 0)), make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// TestGoldenVolume: this build reads what an earlier one has written, replays its journal, and goes on with it.
func TestGoldenVolume(t *testing.T) {
	if os.Getenv("KMSFS_GOLDEN") == "write" {
		makeGolden(t)
	}
	r := newRig(t)
	unpack(t, goldenVolume, r.Dir)
	r.Mount()
	r.checkGolden()
	r.Must("census", r.Volume)
	write(t, r.Mnt+"/dir/new", []byte("new"))
	r.Remount()
	r.checkGolden()
	if got := string(read(t, r.Mnt+"/dir/new")); got != "new" {
		t.Errorf("what was written to it has %q", got)
	}
	r.Umount()
	r.Fsck()
}

// checkGolden compares everything in the mount with what was put there.
func (r *rig) checkGolden() {
	t := r.T
	t.Helper()
	for _, f := range goldenFiles() {
		path := filepath.Join(r.Mnt, f.path)
		if got := read(t, path); !bytes.Equal(got, f.content) {
			t.Errorf("%s: %d bytes that differ, want %d", f.path, len(got), len(f.content))
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o640 || !info.ModTime().Equal(goldenTime) {
			t.Errorf("%s: %v, %v", f.path, info, err)
		}
	}
	if got := string(read(t, r.Mnt+"/symlink")); got != "inline" {
		t.Errorf("the symbolic link leads to %q", got)
	}
	var small, hard unix.Stat_t
	if err := errors.Join(unix.Lstat(r.Mnt+"/small", &small), unix.Lstat(r.Mnt+"/dir/hard", &hard)); err != nil || small.Ino != hard.Ino || hard.Nlink != 2 {
		t.Errorf("the hard link: inodes %d and %d, %d links, %v", small.Ino, hard.Ino, hard.Nlink, err)
	}
	value := make([]byte, 64)
	n, err := unix.Getxattr(r.Mnt+"/small", "user.note", value)
	if err != nil || string(value[:n]) != "kept" {
		t.Errorf("the extended attribute: %q, %v", value[:max(n, 0)], err)
	}
	if _, err := os.Lstat(r.Mnt + "/removed"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the removed file: %v", err)
	}
}

// makeGolden makes the volume anew.
func makeGolden(t *testing.T) {
	r := newRig(t)
	r.Init()
	r.Mount()
	for _, dir := range []string{"dir", "zone"} {
		if err := os.Mkdir(filepath.Join(r.Mnt, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	policy := filepath.Join(r.Dir, "policy.yaml")
	write(t, policy, []byte("version: 1\nblock_size: 64KiB\ncompression: zstd\n"))
	r.Must("policy", "set", r.Mnt+"/zone", policy)
	r.writeGolden(false)
	if err := errors.Join(
		os.Symlink("small", r.Mnt+"/symlink"), os.Link(r.Mnt+"/small", r.Mnt+"/dir/hard"), unix.Setxattr(r.Mnt+"/small", "user.note", []byte("kept"), 0),
		os.WriteFile(r.Mnt+"/removed", []byte("removed"), 0o600), os.Remove(r.Mnt+"/removed"),
		os.Rename(r.Mnt+"/dir/renamed", r.Mnt+"/before"), os.Rename(r.Mnt+"/before", r.Mnt+"/dir/renamed"),
	); err != nil {
		t.Fatal(err)
	}
	r.Must("key", "rotate", "alias/vault")
	r.Must("reencrypt", "--wait", r.Mnt+"/reencrypted")
	r.Remount() // a checkpoint, and the journal begins anew
	r.writeGolden(true)
	dir, err := os.Open(r.Mnt)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Syncfs(int(dir.Fd())), dir.Sync(), dir.Close(), syscall.Kill(r.PID, syscall.SIGKILL)); err != nil {
		t.Fatal(err)
	}
	r.Ends(r.PID)
	r.Must("umount", r.Mnt)
	if pid := r.KeydPID(); pid != 0 {
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		r.Ends(pid)
	}
	pack(t, goldenVolume, r.Dir, "key", "keys", "vault")
}

// writeGolden writes the files of one part, and overwrites some in the late one.
func (r *rig) writeGolden(late bool) {
	r.T.Helper()
	for _, f := range goldenFiles() {
		path := filepath.Join(r.Mnt, f.path)
		switch {
		case f.path == "overwritten" && !late:
			f.content = goldenNoise("overwritten", 60_000)
		case f.path == "overwritten":
			f.content = goldenNoise("newer", 5_000)
		case f.late != late:
			continue
		}
		if err := writeGoldenFile(path, f, late); err != nil {
			r.T.Fatal(err)
		}
	}
}

// writeGoldenFile writes a file, or what is newer in the one that is overwritten. Nothing is written where there are zeros only.
func writeGoldenFile(path string, f goldenFile, late bool) error {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	at := int64(0)
	if f.path == "overwritten" && late {
		at = 20_000
	}
	from := len(f.content) - len(bytes.TrimLeft(f.content, "\x00"))
	_, err = out.WriteAt(bytes.TrimRight(f.content[from:], "\x00"), at+int64(from))
	if at == 0 {
		err = errors.Join(err, out.Truncate(int64(len(f.content))))
	}
	return errors.Join(err, out.Close(), os.Chmod(path, 0o640), os.Chtimes(path, goldenTime, goldenTime))
}

// pack writes regular files and directories below dir to an archive.
func pack(t *testing.T, archive, dir string, names ...string) {
	t.Helper()
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	for _, name := range names {
		err := filepath.WalkDir(filepath.Join(dir, name), func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return packOne(w, dir, path, e)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close(), os.WriteFile(archive, packed.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func packOne(w *tar.Writer, dir, path string, e fs.DirEntry) error {
	info, err := e.Info()
	if err != nil || !e.IsDir() && !info.Mode().IsRegular() { // sockets
		return err
	}
	name, err := filepath.Rel(dir, path)
	if err != nil {
		return err
	}
	h := &tar.Header{Name: name, Mode: int64(info.Mode().Perm()), ModTime: goldenTime.Truncate(time.Second)}
	if e.IsDir() {
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
		return w.WriteHeader(h)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	h.Typeflag, h.Size = tar.TypeReg, int64(len(b))
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// unpack makes the files of an archive below dir.
func unpack(t *testing.T, archive, dir string) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(read(t, archive)))
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return
		}
		if err == nil {
			err = unpackOne(r, h, dir)
		}
		if err != nil {
			t.Fatalf("%s: %v", archive, err)
		}
	}
}

func unpackOne(r io.Reader, h *tar.Header, dir string) error {
	if !filepath.IsLocal(h.Name) {
		return fmt.Errorf("%s leads out of the archive", h.Name)
	}
	path := filepath.Join(dir, h.Name)
	if h.Typeflag == tar.TypeDir {
		return errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, fs.FileMode(h.Mode)))
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(path, b, 0o600), os.Chmod(path, fs.FileMode(h.Mode)))
}
