package trail

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The attacker of these tests may do anything to the log, and nothing to the key store.

// sample is a log, its key store, and an older copy of it.
type sample struct {
	dir    string // of the log
	n      *notary
	older  string
	before map[int64]bool // segments that were there in the older copy
}

// sampleLog makes a log of one stream: three sessions, several segments, most of them compressed, seals all over; killed or closed at the end.
func sampleLog(t *testing.T, rng *rand.Rand, killed bool) *sample {
	t.Helper()
	root := t.TempDir()
	s := &sample{dir: filepath.Join(root, "audit"), n: newNotary(t), older: filepath.Join(root, "older")}
	o := options(s.dir)
	o.Stream = "00112233445566778899aabbccddeeff"
	o.SegmentSize = 60<<10 + rng.Int64N(60<<10)
	next := 0
	for session := range 3 {
		l := open(t, o, s.n)
		for range 3 {
			n := 40 + rng.IntN(80)
			record(t, l, next, next+n)
			next += n
			if err := l.Seal(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.packAll(); err != nil {
			t.Fatal(err)
		}
		if session == 1 {
			copyDir(t, s.dir, s.older)
		}
		if session == 2 && killed {
			l.crash()
		} else if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func copyDir(t testing.TB, from, to string) {
	t.Helper()
	err := os.CopyFS(to, os.DirFS(from))
	if err == nil {
		err = filepath.WalkDir(to, func(path string, d os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			mode := os.FileMode(0o600)
			if d.IsDir() {
				mode = 0o700
			}
			return os.Chmod(path, mode)
		})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (s *sample) stream(dir string) string {
	return filepath.Join(dir, "00112233445566778899aabbccddeeff")
}

// text is a segment as lines with their ends, header first.
func text(t testing.TB, s segment) [][]byte {
	t.Helper()
	in, err := openSegment(s)
	if err != nil {
		t.Fatal(err)
	}
	defer in.close()
	data, err := io.ReadAll(in.r)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Collect(bytes.Lines(data))
}

// rewrite replaces a segment by lines, as somebody does who knows the format: compressed, with a fitting index, where it was.
func rewrite(t testing.TB, s segment, lines [][]byte) {
	t.Helper()
	plain := s
	plain.packed = false
	write(t, plain.path(), bytes.Join(lines, nil))
	if !s.packed {
		return
	}
	p, err := packSegment(plain)
	if err != nil { // not every change leaves something that can be compressed
		for _, name := range []string{s.path(), s.index()} {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	if err := p.commit(); err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// renumber gives the records of lines the numbers from first on.
func renumber(lines [][]byte, first int64) [][]byte {
	out := [][]byte{lines[0]}
	for i, line := range lines[1:] {
		at := bytes.LastIndex(line, []byte(sequenceMark))
		out = append(out, fmt.Appendf(bytes.Clone(line[:at]), "%s%d}}\n", sequenceMark, first+int64(i)))
	}
	return out
}

// manipulations, by kind. Each changes a log up to its sealed head and says what it did; "" if it found nothing to do it to.
var manipulations = map[string]func(t *testing.T, s *sample, rng *rand.Rand) string{
	"edit":    edit,
	"drop":    drop,
	"swap":    swap,
	"cut":     cut,
	"at seal": cutAtSeal,
	"fork":    fork,
	"delete":  deleteFile,
	"replay":  replay,
	"byte":    oneByte,
	"insert":  insert,
}

// target picks a segment, and a record of it that is sealed.
func target(t *testing.T, s *sample, rng *rand.Rand) (segment, [][]byte, int) {
	t.Helper()
	segments, err := listSegments(s.stream(s.dir))
	if err != nil {
		t.Fatal(err)
	}
	for {
		g := segments[rng.IntN(len(segments))]
		lines := text(t, g)
		if len(lines) < 4 {
			continue
		}
		i := 1 + rng.IntN(len(lines)-2)
		if g.first+int64(i) < s.sealed() {
			return g, lines, i
		}
	}
}

func (s *sample) sealed() int64 { return s.n.trust().Anchors[0].Size }

func edit(t *testing.T, s *sample, rng *rand.Rand) string {
	g, lines, i := target(t, s, rng)
	edits := []struct{ from, to string }{{`"decision":"allow"`, `"decision":"deny"`}, {`user3`, `user4`}, {`"uid":`, `"uid":1`}, {`eventTime":"2`, `eventTime":"1`}, {`"sequence":`, `"sequence": `}}
	x := edits[rng.IntN(len(edits))]
	for range lines {
		if line := bytes.Replace(lines[i], []byte(x.from), []byte(x.to), 1); !bytes.Equal(line, lines[i]) {
			lines[i] = line
			rewrite(t, g, lines)
			return fmt.Sprintf("record %d: %s becomes %s", g.first+int64(i)-1, x.from, x.to)
		}
		if i = 1 + (i % (len(lines) - 1)); g.first+int64(i) >= s.sealed() {
			i = 1
		}
	}
	return ""
}

func drop(t *testing.T, s *sample, rng *rand.Rand) string {
	g, lines, i := target(t, s, rng)
	what := fmt.Sprintf("record %d", g.first+int64(i)-1)
	lines = slices.Delete(lines, i, i+1)
	if rng.IntN(2) == 0 {
		lines, what = renumber(lines, g.first), what+", the others renumbered"
	}
	rewrite(t, g, lines)
	return what
}

func swap(t *testing.T, s *sample, rng *rand.Rand) string {
	g, lines, i := target(t, s, rng)
	j := 1 + rng.IntN(i)
	if i == j {
		return ""
	}
	lines[i], lines[j] = lines[j], lines[i]
	if rng.IntN(2) == 0 {
		lines = renumber(lines, g.first)
	}
	rewrite(t, g, lines)
	return fmt.Sprintf("records %d and %d", g.first+int64(j)-1, g.first+int64(i)-1)
}

// cut ends the log at a record, or in the middle of one.
func cut(t *testing.T, s *sample, rng *rand.Rand) string {
	g, lines, i := target(t, s, rng)
	return cutAt(t, s, g, lines, i, rng.IntN(2) == 0)
}

func cutAt(t *testing.T, s *sample, g segment, lines [][]byte, i int, torn bool) string {
	segments, err := listSegments(g.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, later := range segments {
		if later.first > g.first {
			_ = os.Remove(later.index())
			if err := os.Remove(later.path()); err != nil {
				t.Fatal(err)
			}
		}
	}
	lines = lines[:i]
	if torn {
		lines[i-1] = lines[i-1][:len(lines[i-1])/2]
	}
	if g.packed { // the last segment is never compressed
		_, _ = os.Remove(g.path()), os.Remove(g.index())
		g.packed = false
	}
	write(t, g.path(), bytes.Join(lines, nil))
	return fmt.Sprintf("before record %d, torn %t", g.first+int64(i)-1, torn)
}

// cutAtSeal ends the log right behind a seal, as a log looks that was just sealed.
func cutAtSeal(t *testing.T, s *sample, rng *rand.Rand) string {
	for range 100 {
		g, lines, i := target(t, s, rng)
		for ; i < len(lines); i++ {
			if isSeal(lines[i]) && g.first+int64(i) < s.sealed()-1 {
				return cutAt(t, s, g, lines, i+1, false)
			}
		}
	}
	return ""
}

// fork goes on from the older copy with other records, sealed by a key of the attacker's or not at all.
func fork(t *testing.T, s *sample, rng *rand.Rand) string {
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	copyDir(t, s.older, s.dir)
	o := options(s.dir)
	o.Stream = filepath.Base(s.stream(s.dir))
	var own Sealer
	if rng.IntN(2) == 0 {
		own = newNotary(t)
	}
	l := open(t, o, own)
	for i := 0; l.Status().Size < s.sealed()+int64(rng.IntN(20)); i++ {
		record(t, l, 5000+i, 5001+i)
	}
	if err := l.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.crash()
	return "from the older copy"
}

func deleteFile(t *testing.T, s *sample, rng *rand.Rand) string {
	var files []string
	for _, e := range must(os.ReadDir(s.stream(s.dir))) {
		if strings.HasSuffix(e.Name(), plainSuffix) || strings.HasSuffix(e.Name(), zstdSuffix) || strings.HasSuffix(e.Name(), indexSuffix) {
			files = append(files, e.Name())
		}
	}
	segments := must(listSegments(s.stream(s.dir)))
	if rng.IntN(4) == 0 {
		if err := os.RemoveAll(s.stream(s.dir)); err != nil {
			t.Fatal(err)
		}
		return "the stream"
	}
	name := files[rng.IntN(len(files))]
	if last := segments[len(segments)-1]; last.first >= s.sealed() && strings.HasPrefix(name, filepath.Base(last.stem())) {
		return ""
	}
	if err := os.Remove(filepath.Join(s.stream(s.dir), name)); err != nil {
		t.Fatal(err)
	}
	return name
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// replay puts the older copy back, or one segment of it, or an older seal in the place of a newer one.
func replay(t *testing.T, s *sample, rng *rand.Rand) string {
	if rng.IntN(2) == 0 {
		if err := os.RemoveAll(s.dir); err != nil {
			t.Fatal(err)
		}
		copyDir(t, s.older, s.dir)
		return "the older copy"
	}
	var seals []int
	g, lines, _ := target(t, s, rng)
	for i, line := range lines[1:] {
		if isSeal(line) && g.first+int64(i) < s.sealed()-1 {
			seals = append(seals, i+1)
		}
	}
	if len(seals) < 2 {
		return ""
	}
	lines[seals[len(seals)-1]] = lines[seals[0]]
	rewrite(t, g, renumber(lines, g.first))
	return "an older seal"
}

// oneByte changes a byte of a segment as it lies on disk.
func oneByte(t *testing.T, s *sample, rng *rand.Rand) string {
	segments := must(listSegments(s.stream(s.dir)))
	g := segments[rng.IntN(len(segments))]
	data := must(os.ReadFile(g.path()))
	end := len(data)
	if !g.packed {
		lines := text(t, g)
		end = 0
		for i, line := range lines {
			if i > 0 && g.first+int64(i)-1 >= s.sealed() {
				break
			}
			end += len(line)
		}
	}
	at := rng.IntN(end)
	data[at] ^= 1 << rng.IntN(8)
	write(t, g.path(), data)
	return fmt.Sprintf("byte %d of %s", at, filepath.Base(g.path()))
}

func insert(t *testing.T, s *sample, rng *rand.Rand) string {
	g, lines, i := target(t, s, rng)
	e := event(7777)
	e.ID = "forged"
	line := append(must(e.Append(nil)), "\"sequence\":0}}\n"...)
	rewrite(t, g, renumber(slices.Insert(lines, i, line), g.first))
	return fmt.Sprintf("a record before %d", g.first+int64(i)-1)
}

// TestManipulations: none of many random manipulations goes unseen: three of each kind, 40 in the long form. Before each, the log is whole.
func TestManipulations(t *testing.T) {
	each := 3
	if os.Getenv("KMSFS_LONG") == "1" {
		each = 40
	}
	const seed = 20261125
	for kind, do := range manipulations {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			for i, done := 0, 0; done < each; i++ {
				rng := rand.New(rand.NewPCG(seed, uint64(i)))
				s := sampleLog(t, rng, i%2 == 0)
				whole(t, s.dir, s.n.trust())
				what := do(t, s, rng)
				if what == "" {
					continue
				}
				done++
				faults := 0
				for _, r := range verify(t, s.dir, s.n.trust()) {
					faults += len(r.Faults)
				}
				if faults == 0 {
					t.Errorf("seed %d, %d: not found: %s", seed, i, what)
				}
				if faults > 20 {
					t.Errorf("seed %d, %d: %s: %d faults are shown", seed, i, what, faults)
				}
			}
		})
	}
}
