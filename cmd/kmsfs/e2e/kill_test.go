package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// TestKill kills the file daemon by SIGKILL at random moments under load, mounts again, and checks that everything a writer was told is done is there,
// and nothing else: the writers' journals (outside the volume) say what was begun and what had returned.
func TestKill(t *testing.T) {
	rounds := 20
	if mounttest.Long() {
		rounds = 200
	}
	seed := uint64(20261125) // the same work each time; another each time in the long form
	if mounttest.Long() {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	r := newRig(t)
	r.Init()
	r.Mount()
	journals := filepath.Join(r.Dir, "journals")
	if err := os.Mkdir(journals, 0o755); err != nil {
		t.Fatal(err)
	}
	models := make([]*model, writers)
	for i := range models {
		models[i] = newModel()
		if err := os.Mkdir(writerDir(r.Mnt, i), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	operations := 0
	for round := range rounds {
		stop := startWriters(t, r.Mnt, journals, seed+uint64(round))
		time.Sleep(time.Duration(150+rng.IntN(900)) * time.Millisecond)
		r.Kill(r.Daemon())
		stop()
		if round%4 == 3 { // fsck recovers an unmounted volume itself; otherwise the mount does
			r.Must("umount", r.Mnt)
			r.Fsck()
		}
		r.Mount()
		for i, m := range models {
			done, pending := readJournal(t, journalPath(journals, i))
			operations += len(done)
			m.replay(t, done)
			if err := m.check(writerDir(r.Mnt, i), pending); err != nil {
				t.Fatalf("seed %d, round %d, writer %d: %v\nlast operations: %s\nbegun: %s", seed, round, i, err, last(done, 5), pending)
			}
			if err := m.adopt(writerDir(r.Mnt, i), pending); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d rounds, %d operations acknowledged", rounds, operations)
	if operations < rounds*writers {
		t.Errorf("only %d operations in %d rounds: the load is no load", operations, rounds)
	}
	r.Umount()
	r.Fsck()
	r.Mount()
	for i, m := range models {
		if err := m.check(writerDir(r.Mnt, i), nil); err != nil {
			t.Errorf("after a clean close: writer %d: %v", i, err)
		}
	}
	sh(t, r.Mnt, "rm -rf w*")
	r.Umount()
	r.Fsck()
	if left := strings.TrimSpace(sh(t, r.Volume, "find objects -type f | wc -l")); left != "0" {
		t.Errorf("%s objects are left of an empty volume", left)
	}
}

func writerDir(mnt string, i int) string { return filepath.Join(mnt, fmt.Sprintf("w%d", i)) }
func journalPath(journals string, i int) string {
	return filepath.Join(journals, fmt.Sprintf("w%d", i))
}

// startWriters starts the writers in processes of their own; stop ends them and waits.
func startWriters(t *testing.T, mnt, journals string, seed uint64) (stop func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var all []*exec.Cmd
	for i := range writers {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), writerEnv+"="+strings.Join([]string{writerDir(mnt, i), journalPath(journals, i), fmt.Sprint(seed*10 + uint64(i))}, "\n"))
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		all = append(all, cmd)
	}
	return func() {
		for _, cmd := range all {
			if err := cmd.Wait(); err != nil { // it ends by itself when the mount is dead; anything else is a fault it has printed
				t.Errorf("writer: %v", err)
			}
		}
	}
}

func last(ops []operation, n int) string {
	var b strings.Builder
	for _, op := range ops[max(0, len(ops)-n):] {
		fmt.Fprintf(&b, "\n  %s", &op)
	}
	return b.String()
}
