package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNoPlaintext writes 1,000 files whose names, contents, link targets and attributes carry random marks, and looks for the marks in every byte of the
// volume, the key store and the logs: while mounted, after a sync, after a kill, and after the unmount. The audit log alone has names, and nothing else.
func TestNoPlaintext(t *testing.T) {
	r := newRig(t)
	r.Init()
	r.Mount()
	marks, contents := writeMarked(t, r.Mnt, rand.New(rand.NewPCG(4, 2)))
	places := []string{r.Volume, r.Store, filepath.Join(r.Dir, "run")}
	log := filepath.Join(r.Store, "audit")
	look := func(when string) {
		t.Helper()
		searched := 0
		for _, place := range places {
			searched += searchTree(t, place, log, marks, when)
		}
		searchTree(t, log, "", contents, when)
		if searched < 1<<20 {
			t.Fatalf("%s: only %d bytes searched", when, searched)
		}
	}
	look("while mounted")
	sh(t, r.Mnt, "sync -f . && sync .")
	look("after sync")
	r.Kill(r.Daemon())
	look("after kill -9")
	r.Mount()
	look("after recovery")
	sh(t, r.Mnt, "find . -type f | head -300 | while read -r f; do mv \"$f\" \"$f.renamed\"; done; rm -r 7*")
	r.Umount()
	look("after umount")
	// The search itself must be able to find something.
	plain := t.TempDir()
	writeMarked(t, plain, rand.New(rand.NewPCG(4, 2)))
	if found := countMarks(t, plain, marks); found < 1000 {
		t.Fatalf("the search finds %d marks in plain files", found)
	}
}

// writeMarked makes the files and returns the marks, all and those that are no names: each in the forms in which it could be found.
func writeMarked(t *testing.T, dir string, rng *rand.Rand) (marks, contents *markSet) {
	t.Helper()
	marks, contents = newMarkSet(), newMarkSet()
	for i := range 1000 {
		sub := filepath.Join(dir, fmt.Sprint(i%10))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		name, content, value := mark(rng), mark(rng), mark(rng)
		marks.add(name, content, value)
		contents.add(content, value)
		var b bytes.Buffer
		for b.Len() < rng.IntN(20_000) {
			b.WriteString(content)
			b.WriteByte('\n')
		}
		b.WriteString(content)
		path := filepath.Join(sub, name)
		write(t, path, b.Bytes())
		switch i % 5 {
		case 0:
			if err := os.Symlink("/"+value, path+".l"); err != nil {
				t.Fatal(err)
			}
		case 1:
			if err := unix.Setxattr(path, "user."+value[:20], []byte(value), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	return marks, contents
}

// mark returns 24 characters that nothing else contains.
func mark(rng *rand.Rand) string {
	return fmt.Sprintf("%08x%08x%08x", rng.Uint32(), rng.Uint32(), rng.Uint32())
}

// markSet finds any of many marks in one pass: by their first eight bytes.
type markSet struct {
	byHead map[[8]byte][][]byte
	lead   [256]bool
}

func newMarkSet() *markSet { return &markSet{byHead: map[[8]byte][][]byte{}} }

func (m *markSet) add(texts ...string) {
	for _, text := range texts {
		for _, form := range []string{text, hex.EncodeToString([]byte(text)), base64.StdEncoding.EncodeToString([]byte(text))} {
			head := [8]byte([]byte(form)[:8])
			m.byHead[head] = append(m.byHead[head], []byte(form)[:16])
			m.lead[form[0]] = true
		}
	}
}

// find returns how many marks b contains.
func (m *markSet) find(b []byte) int {
	found := 0
	for i := 0; i+16 <= len(b); i++ {
		if !m.lead[b[i]] {
			continue
		}
		for _, form := range m.byHead[[8]byte(b[i:i+8])] {
			if bytes.HasPrefix(b[i:], form) {
				found++
			}
		}
	}
	return found
}

// searchTree fails the test for every file below dir, but for those below but, that contains a mark, in its name or content, and returns how many bytes it looked at.
func searchTree(t *testing.T, dir, but string, marks *markSet, when string) int {
	t.Helper()
	searched := 0
	walk(t, dir, func(path string, content []byte) {
		if but != "" && strings.HasPrefix(path, but+"/") {
			return
		}
		searched += len(content)
		if marks.find([]byte(filepath.Base(path))) > 0 || marks.find(content) > 0 {
			t.Errorf("%s: a mark in clear in %s", when, path)
		}
	})
	return searched
}

func countMarks(t *testing.T, dir string, marks *markSet) int {
	found := 0
	walk(t, dir, func(path string, content []byte) {
		found += marks.find([]byte(filepath.Base(path))) + marks.find(content)
	})
	return found
}

func walk(t *testing.T, dir string, fn func(path string, content []byte)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case os.IsNotExist(err):
			return nil // removed meanwhile
		case err != nil || e.IsDir():
			return err
		case !e.Type().IsRegular():
			fn(path, nil)
			return nil
		}
		content, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return nil
		}
		fn(path, content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
