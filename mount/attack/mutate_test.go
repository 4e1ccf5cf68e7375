package attack

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/hsm/awake"
)

// childVariable in the environment makes the test binary a child that tries mutations.
const childVariable = "KMSFS_ATTACK_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) == "" {
		os.Exit(m.Run())
	}
	if err := mutants(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// silence is how long a child may say nothing.
const silence = time.Minute

// TestMutations makes one random change to the files of a volume, again and again, and reads all of it as a mount would. KMSFS_ATTACK_SEED and
// KMSFS_ATTACK_N repeat a part: a seed, and the number of a mutation.
func TestMutations(t *testing.T) {
	total, children := 5000, 2
	if long() {
		total = 100_000
	}
	seed, first := uint64(20261125), 0 // the same mutations each time; others each time in the long form
	if long() {
		seed = uint64(time.Now().UnixNano())
	}
	if s, err := strconv.ParseUint(os.Getenv("KMSFS_ATTACK_SEED"), 10, 64); err == nil {
		seed = s
	}
	if n, err := strconv.Atoi(os.Getenv("KMSFS_ATTACK_N")); err == nil {
		first, total, children = n, n+1, 1
	}
	t.Logf("seed %d", seed)
	r := newRig(t)
	f := r.farm(t, seed)
	file := r.path("farm")
	if err := f.write(file); err != nil {
		t.Fatal(err)
	}
	c := &crop{t: t, farm: file, outcomes: map[string]int{}, next: first, end: total}
	var wg sync.WaitGroup
	for range children {
		wg.Go(func() {
			for c.batch() {
			}
		})
	}
	wg.Wait()
	for _, o := range slices.Sorted(maps.Keys(c.outcomes)) {
		t.Logf("%6d %s", c.outcomes[o], o)
	}
	if done := c.done(); done != total-first {
		t.Errorf("%d of %d mutations have an outcome", done, total-first)
	}
}

// farm makes the volumes: one that was closed; two whose process died with an unsettled journal, one of which the key store knows to the last record.
func (r *rig) farm(t *testing.T, seed uint64) *farm {
	t.Helper()
	closed := r.volume(t, 0)
	anchored, loose := r.killed(t, closed, true), r.killed(t, closed, false)
	f := &farm{Seed: seed, Keys: r.path("keyscopy"), Volumes: []*saved{closed, anchored, loose}}
	for _, s := range f.Volumes {
		f.Older = append(f.Older, s.Dir)
	}
	f.Older = append(f.Older, closed.Before...)
	if err := r.keys.stop(); err != nil {
		t.Fatal(err)
	}
	r.keys = nil
	if err := copyTree(r.path("keys"), f.Keys); err != nil {
		t.Fatal(err)
	}
	return f
}

// crop collects what children report.
type crop struct {
	t    *testing.T
	farm string

	mu       sync.Mutex
	next     int // guarded by mu, as what follows
	end      int
	outcomes map[string]int
	bad      int
}

const batchSize = 250

// take returns the numbers of the next batch.
func (c *crop) take() (first, end int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if deadline, ok := c.t.Deadline(); ok && time.Until(deadline) < 2*silence {
		return 0, 0, false // what was done is told; that it was not all fails the test
	}
	first, end = c.next, min(c.next+batchSize, c.end)
	c.next = end
	return first, end, first < end && c.bad < 40
}

func (c *crop) done() (n int) {
	for _, k := range c.outcomes {
		n += k
	}
	return n
}

// batch runs children until a batch is done: one that ends before is an outcome of the mutation it was at.
func (c *crop) batch() bool {
	first, end, ok := c.take()
	for ok && first < end {
		first = c.child(first, end)
	}
	return ok
}

// child runs one child and returns the number of the mutation to go on with.
func (c *crop) child(first, end int) int {
	cmd := exec.Command(os.Args[0], c.farm, strconv.Itoa(first), strconv.Itoa(end))
	cmd.Env = append(os.Environ(), childVariable+"=1", "GOTRACEBACK=single")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		c.t.Errorf("start a child: %v", err)
		return end
	}
	lines, _ := reports(bufio.NewReader(out))
	last, outcome := c.follow(cmd, lines)
	err = cmd.Wait()
	if last.Outcome == "" && last.What != "" { // it was at this one
		last.Outcome = outcome
		last.Detail = []string{fmt.Sprint(err), tail(stderr.String())}
		c.note(last)
	} else if err != nil {
		c.t.Errorf("child at %d to %d: %v\n%s", first, end, err, tail(stderr.String()))
		return end
	}
	if last.What == "" {
		return end
	}
	return last.N + 1
}

// follow notes what a child reports, and returns the last report, and what became of the child. One that says nothing for too long is ended.
func (c *crop) follow(cmd *exec.Cmd, lines <-chan report) (last report, outcome string) {
	outcome = crashed
	for {
		r, more, said := hear(lines)
		switch {
		case !said:
			outcome = hanging
			_ = cmd.Process.Signal(os.Interrupt)
			_ = cmd.Process.Kill()
		case !more:
			return last, outcome
		default:
			if last = r; r.Outcome != "" {
				c.note(r)
			}
		}
	}
}

// hear waits for what a child says next. said is false if it says nothing for too long, more is false when it has ended.
func hear(lines <-chan report) (r report, more, said bool) {
	limit, cancel := awake.WithTimeout(context.Background(), silence)
	defer cancel()
	select {
	case r, more = <-lines:
		return r, more, true
	case <-limit.Done():
		return report{}, true, false
	}
}

// note counts an outcome, and fails the test for one that must not be.
func (c *crop) note(r report) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outcomes[r.Outcome]++
	switch r.Outcome {
	case wrong, crashed, hanging:
	default:
		if len(r.Detail) == 0 {
			return
		}
	}
	c.bad++
	c.t.Errorf("mutation %d: %s: %s\n\t%s", r.N, r.What, r.Outcome, strings.Join(r.Detail[:min(len(r.Detail), 5)], "\n\t"))
}

func tail(s string) string { return s[max(0, len(s)-6000):] }
