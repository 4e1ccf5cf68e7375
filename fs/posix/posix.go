// Package posix is a suite of cases of what a program may expect of a filesystem on Linux, in the words of POSIX, the man pages and ext4. The same code runs on
// any directory: a case that passes on ext4 and fails here is a bug, or a line of docs/POSIX.md.
//
// It does not know kmsfs. It needs root, because it acts as several users.
//
// Nouns:
//
//   - Case: a named function on an empty directory of its own. It fails by its C.
//   - user: credentials that a case takes on for a while.
//
// Concurrency: each case runs on an operating system thread of its own, with its own credentials, umask and working directory, which end with it. Cases run
// one after another.
package posix

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// Case is one expectation.
type Case struct {
	Group, Name string
	Run         func(*C)
}

// FullName returns the name that docs/POSIX.md knows the case by.
func (c Case) FullName() string { return c.Group + "/" + c.Name }

// Cases returns the whole suite, in a fixed order.
func Cases() []Case {
	return slices.Concat(
		permissionCases(), stickyCases(), setgidCases(), suidCases(), chownCases(), chmodCases(), accessCases(),
		timeCases(), utimeCases(), aclCases(), xattrCases(),
		linkCases(), renameCases(), renameFlagCases(), nameCases(), removeCases(), symlinkCases(),
		openCases(), ioCases(), appendCases(), seekCases(), truncateCases(), fallocateCases(), copyCases(), directCases(), mmapCases(),
		tmpfileCases(), specialCases(), lockCases(), statCases(), readdirCases(), syncCases(), largeCases(),
	)
}

// Result is how a case ended.
type Result struct {
	Name string
	Err  string // empty: passed
	Skip string // not empty: it could not be tried here, and why
}

// Runner runs cases.
type Runner struct {
	// Base is the directory to be tested; each case gets one below it.
	Base string
	// Helper returns a command that runs Helper with args in another process. nil: cases that need one are skipped.
	Helper func(args ...string) *exec.Cmd
}

// Run runs one case in a new directory, which it removes afterwards.
func (r Runner) Run(c Case) Result {
	dir, err := os.MkdirTemp(r.Base, "case-")
	if err != nil {
		return Result{Name: c.FullName(), Err: err.Error()}
	}
	defer removeAll(dir)
	done := make(chan Result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, and with it what the case changed
		done <- r.runHere(dir, c)
	}()
	return <-done
}

func removeAll(dir string) {
	if os.RemoveAll(dir) == nil {
		return
	}
	_ = filepath.WalkDir(dir, func(p string, _ os.DirEntry, _ error) error { return os.Chmod(p, 0o700) })
	_ = os.RemoveAll(dir)
}

// stop is how a case ends early.
type stop struct{ failed, skipped string }

func (r Runner) runHere(dir string, c Case) (result Result) {
	result.Name = c.FullName()
	x := &C{dir: dir, fds: map[int]bool{}, helper: r.Helper}
	defer func() {
		for fd := range x.fds {
			unix.Close(fd)
		}
		for i := len(x.cleanups) - 1; i >= 0; i-- {
			x.cleanups[i]()
		}
		if p := recover(); p != nil {
			s, ok := p.(stop)
			if !ok {
				panic(p)
			}
			result.Err, result.Skip = s.failed, s.skipped
		}
	}()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		panic(stop{failed: "unshare: " + err.Error()})
	}
	unix.Umask(0o022)
	if err := os.Chmod(dir, 0o755); err != nil {
		panic(stop{failed: err.Error()})
	}
	c.Run(x)
	return result
}

// C is what a case works with. Its methods that check end the case when it fails. Paths are relative to the case's directory.
type C struct {
	dir      string
	fds      map[int]bool // open descriptors, closed at the end
	cleanups []func()
	helper   func(args ...string) *exec.Cmd
}

func (c *C) cleanup(fn func()) { c.cleanups = append(c.cleanups, fn) }

func (c *C) failf(format string, args ...any) { panic(stop{failed: fmt.Sprintf(format, args...)}) }

func (c *C) skipf(format string, args ...any) { panic(stop{skipped: fmt.Sprintf(format, args...)}) }

// p returns the absolute path of a path of the case's.
func (c *C) p(rel string) string {
	if rel == "" {
		return c.dir
	}
	return c.dir + "/" + rel
}

// ok fails unless err is nil.
func (c *C) ok(what string, err error) {
	if err != nil {
		c.failf("%s: %v", what, err)
	}
}

// is fails unless err is the errno; 0 is success.
func (c *C) is(what string, err error, want unix.Errno) {
	var got unix.Errno
	if err != nil {
		e, ok := errno(err)
		if !ok {
			c.failf("%s: %v", what, err)
		}
		got = e
	}
	if got != want {
		c.failf("%s: %s, want %s", what, errnoText(got), errnoText(want))
	}
}

// anyOf is is with several right answers, where POSIX leaves the choice.
func (c *C) anyOf(what string, err error, want ...unix.Errno) {
	e, ok := errno(err)
	if !ok || !slices.Contains(want, e) {
		c.failf("%s: %v, want one of %v", what, err, want)
	}
}

func errno(err error) (unix.Errno, bool) {
	for err != nil {
		if e, ok := err.(unix.Errno); ok {
			return e, true
		}
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return 0, false
		}
		err = u.Unwrap()
	}
	return 0, true
}

func errnoText(e unix.Errno) string {
	if e == 0 {
		return "success"
	}
	return unix.ErrnoName(e)
}

// eq fails unless got is want.
func eq[T comparable](c *C, what string, got, want T) {
	if got != want {
		c.failf("%s: %v, want %v", what, got, want)
	}
}

// that fails unless the condition holds.
func (c *C) that(what string, holds bool) {
	if !holds {
		c.failf("not so: %s", what)
	}
}

// same compares contents.
func (c *C) same(what string, got []byte, want string) {
	if string(got) == want {
		return
	}
	show := func(s string) string {
		if len(s) > 40 {
			return fmt.Sprintf("%q... (%d bytes)", s[:40], len(s))
		}
		return fmt.Sprintf("%q", s)
	}
	c.failf("%s: %s, want %s", what, show(string(got)), show(want))
}
