package fs_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kmsfs/kmsfs/fs/fstest"
	"github.com/kmsfs/kmsfs/meta"
)

// TestCompressedSourceTree: the volume with Go's source tree takes at most half with zstd of what it takes without. The short form takes a part of the tree, and leaves out the
// room that a volume keeps for itself, which is of about one size whatever it holds.
func TestCompressedSourceTree(t *testing.T) {
	source := goSource(t)
	if !fstest.Long() {
		source = filepath.Join(source, "runtime")
	}
	if _, err := os.Stat(source); err != nil {
		t.Fatalf("no source tree: %v", err)
	}
	plain := volumeOf(t, source, fstest.Options{})
	small := volumeOf(t, source, fstest.Options{BlockSize: meta.DefaultCompressedBlock, Codec: meta.CodecZstd})
	ratio := float64(small) / float64(plain)
	t.Logf("%d MiB with zstd, %d MiB without: %.2f", small>>20, plain>>20, ratio)
	if ratio > 0.5 {
		t.Errorf("ratio %.2f, at most 0.5 is promised", ratio)
	}
}

// goSource returns where Go's source is. runtime.GOROOT does not know it in a binary built with -trimpath.
func goSource(tb testing.TB) string {
	tb.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		tb.Fatalf("go env GOROOT: %v", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "src")
}

// volumeOf returns how many bytes a volume takes that source was copied to.
func volumeOf(t *testing.T, source string, o fstest.Options) (sum int64) {
	t.Helper()
	m := fstest.NewMount(t, o)
	run(t, "cp", "-a", source, m.Path("tree"))
	m.Remount()
	run(t, "diff", "-r", "--no-dereference", source, m.Path("tree"))
	m.Unmount()
	parts := map[string]int64{}
	err := filepath.WalkDir(m.Volume, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n := info.Sys().(*syscall.Stat_t).Blocks * 512
			part, _, _ := strings.Cut(strings.TrimPrefix(path, m.Volume+"/"), "/")
			parts[part], sum = parts[part]+n, sum+n
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("bytes: %v", parts)
	if !fstest.Long() {
		sum -= parts["journal"] + parts["ballast"]
	}
	return sum
}
