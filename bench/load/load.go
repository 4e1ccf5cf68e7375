// Package load holds the loads that the benchmark puts on a directory.
//
// A load knows a directory and how to make it durable; it does not know which
// filesystem it runs on, how that is mounted, or how results are shown. File
// loads are made here; whole-program loads run tar, git, grep, ls, rm and
// sqlite3 as users do. Content that is read is checked, so that a filesystem
// cannot be fast by being wrong.
package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Env is what a load works on. A load has the directory to itself.
type Env struct {
	Dir   string  // below the mount point; exists
	Tree  string  // tar archive of the source tree, outside the mount
	Scale float64 // factor on sizes and counts; 1 is the full load
	Round int     // seeds the random choices: equal for all filesystems of a round

	// Sync makes all that was written below Dir durable.
	Sync func() error
}

// Result is one timed run.
type Result struct {
	Elapsed   time.Duration
	Work      float64         // amount done, in the load's unit per second; 0 for plain seconds
	Latencies []time.Duration // one per operation, where the load has operations
}

// Load is one row of the table.
type Load struct {
	Name string
	Unit string // "MB/s", "op/s", or "s" for the time itself
	Cold bool   // mounted anew, kernel caches dropped, between Setup and Run
	Tool string // program that Run needs; empty if none

	// Setup prepares, untimed. It keeps what an earlier load left if that will do.
	Setup func(context.Context, *Env) error
	// Run does the work and returns the time that counts.
	Run func(context.Context, *Env) (Result, error)
}

// All returns the loads in the order in which they build on each other.
func All() []Load {
	return append(append(fileLoads(), treeLoads()...), databaseLoads()...)
}

func (e *Env) path(name string) string { return filepath.Join(e.Dir, name) }

// count scales a number of operations, at least 1.
func (e *Env) count(n int) int { return max(1, int(float64(n)*e.Scale)) }

// random returns the generator of a load, equal for all filesystems.
func (e *Env) random(load string) *rand.Rand {
	var seed uint64
	for _, c := range load {
		seed = seed*31 + uint64(c)
	}
	return rand.New(rand.NewPCG(seed, uint64(e.Round)))
}

// timed measures f and then sync, if not nil: the time until it is durable.
func timed(f, sync func() error) (time.Duration, error) {
	start := time.Now()
	if err := f(); err != nil {
		return 0, err
	}
	if sync != nil {
		if err := sync(); err != nil {
			return 0, fmt.Errorf("sync: %w", err)
		}
	}
	return time.Since(start), nil
}

// command runs a program in dir with its output in the error, and a fixed
// environment.
func command(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %.300s", name, err, out)
	}
	return nil
}
