package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	writers   = 3
	writerEnv = "KMSFS_E2E_WRITER" // directory, journal, seed: this process is a writer
	maxFile   = 400_000
)

// operation is one step of a writer. Each is acknowledged as a whole when it returns: a namespace operation, or a change of content that ends with
// fsync or close.
type operation struct {
	Kind string `json:"k"`
	Name string `json:"n"`
	To   string `json:"t,omitempty"` // the other name, or a link's target
	Off  int    `json:"o,omitempty"`
	Len  int    `json:"l,omitempty"`
	Seed uint64 `json:"s,omitempty"`
	Sync bool   `json:"f,omitempty"` // fsync before close
}

func (op *operation) String() string {
	if op == nil {
		return "nothing"
	}
	b, _ := json.Marshal(op)
	return string(b)
}

// content returns what a write with this seed puts at offset off on.
func content(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 99))
	b := make([]byte, n)
	for i := 0; i < n; i += 8 {
		v := rng.Uint64()
		for j := i; j < min(i+8, n); j++ {
			b[j] = byte(v)
			v >>= 8
		}
	}
	return b
}

// runWriter works until the mount dies. The journal gets a line when an operation begins, and one when it has returned.
func runWriter(spec string) int {
	f := strings.Split(spec, "\n")
	seed, err := strconv.ParseUint(f[2], 10, 64)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	journal, err := os.Create(f[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	w := writer{dir: f[0], rng: rand.New(rand.NewPCG(seed, 17))}
	var held *os.File // unlinked, still open, still written: gone after the crash, and its object too
	for i := 0; ; i++ {
		op := w.choose()
		if op == nil {
			continue
		}
		fmt.Fprintf(journal, "B %s\n", op)
		err := w.do(op)
		switch {
		case err == nil:
			fmt.Fprintf(journal, "D\n")
		case w.dead(err):
			return 0
		default:
			fmt.Fprintf(os.Stderr, "%s: %s: %v\n", w.dir, op, err)
			return 1
		}
		if i%10 == 5 {
			if held, err = w.hold(held); err != nil && !w.dead(err) {
				fmt.Fprintf(os.Stderr, "%s: unlinked file: %v\n", w.dir, err)
				return 1
			}
		}
	}
}

// dead says whether an error is that of a mount without a daemon. A page that could not be written back is EIO, whatever the cause: then the mount is asked.
func (w *writer) dead(err error) bool {
	if errors.Is(err, syscall.EIO) {
		for range 200 {
			var st unix.Statfs_t
			if err = unix.Statfs(w.dir, &st); err != nil {
				break
			}
			time.Sleep(10 * time.Millisecond) // the daemon is being killed, or well: the latter is a fault
		}
	}
	return errors.Is(err, syscall.ENOTCONN) || errors.Is(err, syscall.ECONNABORTED) || errors.Is(err, syscall.ECANCELED) || errors.Is(err, syscall.ENODEV)
}

type writer struct {
	dir string
	rng *rand.Rand
}

// names returns what is in the directory, by kind.
func (w *writer) names() (files, others []string) {
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		return nil, nil
	}
	for _, e := range entries {
		if e.Type().IsRegular() {
			files = append(files, e.Name())
		} else {
			others = append(others, e.Name())
		}
	}
	return files, others
}

// choose picks the next operation from what is there; nil if that could not be seen.
func (w *writer) choose() *operation {
	files, others := w.names()
	fresh := fmt.Sprintf("n%08x", w.rng.Uint32())
	op := &operation{Name: fresh, Seed: w.rng.Uint64() >> 1, Sync: w.rng.IntN(2) == 0}
	k := w.rng.IntN(100)
	switch {
	case len(files) < 5 || k < 12 && len(files) < 60:
		op.Kind = "create"
	case k < 60:
		op.Kind, op.Name = "write", pick(w.rng, files)
		op.Off, op.Len = w.rng.IntN(maxFile), 1+w.rng.IntN(30_000)
		if w.rng.IntN(3) == 0 {
			op.Off, op.Len = w.rng.IntN(6000), 1+w.rng.IntN(300)
		}
	case k < 68:
		op.Kind, op.Name, op.Len = "truncate", pick(w.rng, files), w.rng.IntN(maxFile)
	case k < 76:
		op.Kind, op.Name = "unlink", pick(w.rng, files)
	case k < 86:
		op.Kind, op.Name, op.To = "rename", pick(w.rng, files), fresh
		if w.rng.IntN(2) == 0 {
			op.To = pick(w.rng, files)
		}
	case k < 89:
		op.Kind, op.Name, op.To = "link", pick(w.rng, files), fresh
	case k < 93:
		op.Kind, op.To = "symlink", fmt.Sprintf("target-%x", w.rng.Uint64())
	case k < 96:
		op.Kind = "mkdir"
	case len(others) > 0:
		op.Kind, op.Name = "remove", pick(w.rng, others)
	default:
		return nil
	}
	if op.Kind == "rename" && op.Name == op.To {
		return nil
	}
	return op
}

func pick(rng *rand.Rand, from []string) string { return from[rng.IntN(len(from))] }

func (w *writer) do(op *operation) error {
	path := filepath.Join(w.dir, op.Name)
	to := filepath.Join(w.dir, op.To)
	switch op.Kind {
	case "create":
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		return f.Close()
	case "write":
		return w.write(path, op)
	case "truncate":
		return os.Truncate(path, int64(op.Len))
	case "unlink", "remove":
		return os.Remove(path)
	case "rename":
		return unix.Rename(path, to)
	case "link":
		return os.Link(path, to)
	case "symlink":
		return os.Symlink(op.To, path)
	case "mkdir":
		return os.Mkdir(path, 0o755)
	}
	return fmt.Errorf("unknown operation %q", op.Kind)
}

func (w *writer) write(path string, op *operation) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(content(op.Seed, op.Len), int64(op.Off))
	if err == nil && op.Sync {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// hold closes the unlinked file that was held and makes another one.
func (w *writer) hold(old *os.File) (*os.File, error) {
	if old != nil {
		old.Close()
	}
	path := filepath.Join(w.dir, "unlinked")
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil {
		return f, err
	}
	_, err = f.Write(content(w.rng.Uint64(), 50_000))
	return f, errors.Join(err, f.Sync())
}

// readJournal returns the operations that had returned, and the one that had begun and not returned, if any.
func readJournal(t *testing.T, path string) (done []operation, pending *operation) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return done, pending
		}
		if err != nil {
			t.Fatal(err)
		}
		if body, begins := strings.CutPrefix(line, "B "); begins {
			pending = new(operation)
			if err := json.Unmarshal([]byte(body), pending); err != nil {
				t.Fatal(err)
			}
			continue
		}
		done, pending = append(done, *pending), nil
	}
}
