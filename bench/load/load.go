// Package load holds the loads that the benchmark puts on a directory.
//
// A load knows a directory and what it may ask of its filesystem (Host); it
// does not know which one that is, how it is mounted, or how results are
// shown. File
// loads are made here; whole-program loads run tar, git, grep, ls, rm and
// sqlite3 as users do. Content that is read is checked, so that a filesystem
// cannot be fast by being wrong.
package load

import (
	"context"
	"errors"
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
	Host  Host
}

// Host is what a load may ask of the filesystem it runs on, without knowing
// which one that is.
type Host interface {
	// Sync makes all that was written below Dir durable.
	Sync() error
	// Remount unmounts, empties the kernel's caches where it may, and mounts
	// again, which is what took is the time of.
	Remount(ctx context.Context) (took time.Duration, err error)
	// CPU is the processor time that the filesystem's processes have used
	// since they began; the error wraps ErrNotOffered if it has none.
	CPU(ctx context.Context) (time.Duration, error)
	// Memory is what the process that serves the mount holds for itself in
	// bytes, as CPU: anonymous and shared memory, no files.
	Memory(ctx context.Context) (int64, error)
	// Stored is how many bytes of the disk the filesystem takes.
	Stored() (int64, error)
	// OwnKey gives an empty directory a key of its own. The error wraps
	// ErrNotOffered if the filesystem has one key for all.
	OwnKey(ctx context.Context, dir string) error
	// KeyCalls counts the requests to the key manager since a time, and those
	// of them that used the token (HSM); the error as OwnKey's.
	KeyCalls(ctx context.Context, since time.Time) (calls, token int, err error)
}

// ErrNotOffered says that a filesystem has not what the load measures. That
// is no failure.
var ErrNotOffered = errors.New("not offered by this filesystem")

// Result is one run.
type Result struct {
	Value     float64         // in the load's unit
	Latencies []time.Duration // one per operation, where the load has operations
}

// rate is the result of work done in a time.
func rate(work float64, elapsed time.Duration) Result {
	return Result{Value: work / max(elapsed, 1).Seconds()}
}

// seconds is the result of loads that measure the time itself.
func seconds(elapsed time.Duration) Result { return Result{Value: elapsed.Seconds()} }

// Load is one row of the table.
type Load struct {
	Name  string
	Unit  string
	Lower bool   // a smaller figure is better
	Cold  bool   // mounted anew, kernel caches dropped, between Setup and Run
	Tool  string // program that Run needs; empty if none

	// Setup prepares, unmeasured. It keeps what an earlier load left if that
	// will do.
	Setup func(context.Context, *Env) error
	// Run does the work and returns the figure.
	Run func(context.Context, *Env) (Result, error)
}

// Group is a set of loads that follow each other on the same new filesystem.
type Group struct {
	Name    string
	About   string // one line
	Default bool   // runs unless groups are named
	Loads   []Load // in the order in which they build on each other
}

// Groups returns all groups in the order in which they run.
func Groups() []Group {
	return []Group{
		{"table", "single files, a source tree, SQLite", true, append(append(fileLoads(), treeLoads()...), databaseLoads()...)},
		{"processes", "create, open, stat and unlink 4 KiB files by 1, 2 and 8 processes", true, processLoads()},
		{"keys", "opening files whose directories have keys of their own", true, keyLoads()},
		{"resources", "processor time and space per byte", true, resourceLoads()},
		{"files", "mount, memory and cost of an operation with 10,000 files", true, populationLoads(10_000)},
		{"directory", "one directory of 20,000 files", true, directoryLoads(20_000)},
		{"bigfile", "one file of 1 GiB", true, bigFileLoads(1)},
		{"files-1m", "mount, memory and cost of an operation with 1,000,000 files", false, populationLoads(1_000_000)},
		{"files-10m", "mount, memory and cost of an operation with 10,000,000 files", false, populationLoads(10_000_000)},
		{"directory-1m", "one directory of 1,000,000 files", false, directoryLoads(1_000_000)},
		{"bigfile-100g", "one file of 100 GiB, no holes", false, bigFileLoads(100)},
	}
}

func (e *Env) path(name ...string) string { return filepath.Join(e.Dir, filepath.Join(name...)) }

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
