package attack

import (
	"bufio"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/kmsfs/kmsfs/mount"
)

// Outcomes of a mutation, beside the class of a refused mount.
const (
	same    = "same"     // all data is there
	someEIO = "EIO"      // some could not be read
	wrong   = "wrong"    // other data: what must not be
	crashed = "crashed"  // the process ended
	hanging = "hangs"    // nothing for a minute
	older   = "an older" // an older state that is as good as the last
)

// report is what a child says about one mutation.
type report struct {
	N       int
	What    string // before it is tried
	Outcome string
	Detail  []string `json:",omitempty"`
}

// farm is what children are told: volumes to mutate, and a key store that knows them. It is written as one file.
type farm struct {
	Seed    uint64
	Keys    string // a key store, to be copied
	Volumes []*saved
	Older   []string // copies of the same volume at other times
}

func (f *farm) write(name string) error {
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(gob.NewEncoder(out).Encode(f), out.Close())
}

// mutants is the child: it tries the mutations number first to end-1 of the farm described in a file, and reports each.
func mutants(args []string) (err error) {
	if len(args) != 3 {
		return errors.New("usage: farm first end")
	}
	first, err1 := strconv.Atoi(args[1])
	end, err2 := strconv.Atoi(args[2])
	in, err3 := os.Open(args[0])
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	defer in.Close()
	var f farm
	if err := gob.NewDecoder(in).Decode(&f); err != nil {
		return err
	}
	dir := filepath.Join(filepath.Dir(args[0]), fmt.Sprint("child", os.Getpid())) // the parent removes it if this process cannot
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := copyTree(f.Keys, filepath.Join(dir, "keys")); err != nil {
		return err
	}
	if err := os.Chmod(filepath.Join(dir, "keys"), 0o700); err != nil {
		return err
	}
	keys, err := startKeys(filepath.Join(dir, "keys"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, keys.stop()) }()
	p := plot{farm: &f, keys: keys, dir: filepath.Join(dir, "v"), out: json.NewEncoder(os.Stdout)}
	for n := first; n < end; n++ {
		if err := p.try(n); err != nil {
			return fmt.Errorf("mutation %d: %w", n, err)
		}
	}
	return nil
}

// plot is where a child works.
type plot struct {
	*farm
	keys *keyDaemon
	dir  string
	out  *json.Encoder
}

// try makes one mutation and reports twice: what it is, and what came of it.
func (p *plot) try(n int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	rng := rand.New(rand.NewPCG(p.Seed, uint64(n)))
	which := rng.IntN(len(p.Volumes))
	s := p.Volumes[which]
	if err := os.RemoveAll(p.dir); err != nil {
		return err
	}
	if err := s.copyTo(ctx, p.keys, p.dir); err != nil {
		return err
	}
	m := mutator{rng: rng, dir: p.dir, older: p.Older}
	what, err := m.mutate()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	rep := report{N: n, What: fmt.Sprintf("volume %d, %s", which, what)}
	if err := p.out.Encode(rep); err != nil {
		return err
	}
	rep.Outcome, rep.Detail = p.judge(ctx, s)
	if rng.IntN(5) == 0 && rep.Outcome != wrong && len(rep.Detail) == 0 {
		rep.Outcome, rep.Detail = p.again(ctx, s, rep.Outcome)
	}
	return p.out.Encode(rep)
}

// judge opens, reads and closes the volume.
func (p *plot) judge(ctx context.Context, s *saved) (outcome string, detail []string) {
	v, err := open(ctx, p.keys, p.dir)
	if err != nil {
		class := mount.ClassOf(err)
		if !slices.Contains(refusals, class) {
			detail = []string{err.Error()}
		}
		return "refused: " + string(class), detail
	}
	outcome, detail = against(ctx, v, s.Want)
	_ = v.Close(ctx) // an error says more about the damage
	return outcome, detail
}

// refusals are the classes that a mount may be refused with because of what lies on the disk.
var refusals = []mount.Class{mount.ClassDamaged, mount.ClassRollback, mount.ClassUnsupported, mount.ClassNotVolume}

// against compares an open volume with the trees that it may hold, the newest first.
func against(ctx context.Context, v *mount.Volume, want []tree) (outcome string, detail []string) {
	for i, t := range slices.Backward(want) {
		got := compare(ctx, v, t)
		switch {
		case len(got.wrong) > 0:
			if detail == nil {
				detail = got.wrong
			}
		case len(got.eio) > 0:
			return someEIO, nil
		case i == len(want)-1:
			return same, nil
		default:
			return older, nil
		}
	}
	return wrong, detail
}

// again opens the volume once more: what the first opening wrote must not be worse.
func (p *plot) again(ctx context.Context, s *saved, first string) (outcome string, detail []string) {
	outcome, detail = p.judge(ctx, s)
	if outcome == wrong {
		return wrong, append([]string{"when opened again; first it was: " + first}, detail...)
	}
	return first, nil
}

// reports reads a child's reports.
func reports(out *bufio.Reader) (<-chan report, <-chan error) {
	lines, end := make(chan report), make(chan error, 1)
	go func() {
		defer close(lines)
		dec := json.NewDecoder(out)
		for {
			var r report
			if err := dec.Decode(&r); err != nil {
				end <- err
				return
			}
			lines <- r
		}
	}()
	return lines, end
}
