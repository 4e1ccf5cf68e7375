package worker_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/hsm/hsmtest"
	"github.com/kmsfs/kmsfs/hsm/worker"
)

func gone(pid int) error {
	if err := unix.Kill(pid, 0); errors.Is(err, unix.ESRCH) {
		return nil
	}
	return fmt.Errorf("process %d is still there", pid)
}

// kill sends sig to the worker of the moment and gives its process id, 0 if
// there is none. A process dies some time after the signal: SIGSEGV goes through
// Go's own handler, which prints the stacks while other threads still answer.
func kill(t *testing.T, c *worker.Client, sig unix.Signal) int {
	t.Helper()
	pid := c.PID()
	if pid != 0 {
		if err := unix.Kill(pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
			t.Fatal(err)
		}
	}
	return pid
}

// TestKilledUnderLoad: whatever happens to the worker, an answer is the right
// answer, a key that was acknowledged is there, and no idempotent call fails
// when one worker dies under it.
func TestKilledUnderLoad(t *testing.T) {
	rounds := 12
	if os.Getenv("KMSFS_LONG") == "1" {
		rounds = 300 // 100 of them SIGSEGV
	}
	c := start(t, config(t, hsmtest.NewSoftHSM(t)))
	id := hsmtest.NewKey(t, c)
	var stop atomic.Bool
	var calls, away atomic.Int64
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := 0; !stop.Load(); i++ {
				err := roundTrip(t, c, id, g, i)
				calls.Add(1)
				if errors.Is(err, hsm.ErrTokenAway) {
					away.Add(1) // two workers died under one call
				} else if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var kept []hsm.KeyID
	signals := []unix.Signal{unix.SIGKILL, unix.SIGSEGV, unix.SIGABRT}
	for i := range rounds {
		if pid := kill(t, c, signals[i%len(signals)]); pid != 0 {
			hsmtest.Eventually(t, func() error { return gone(pid) })
		}
		was := calls.Load()
		hsmtest.Eventually(t, func() error {
			if calls.Load() < was+20 {
				return errors.New("no calls get through")
			}
			return nil
		})
		key := hsm.NewKeyID()
		if _, err := c.GenerateKey(t.Context(), key, "kept"); err == nil {
			kept = append(kept, key)
		} else if !errors.Is(err, hsm.ErrTokenAway) {
			t.Errorf("generate: %v", err)
		}
	}
	stop.Store(true)
	wg.Wait()
	for _, key := range kept {
		if _, err := c.FindKey(hsmtest.Context(t), key); err != nil {
			t.Errorf("an acknowledged key: %v", err)
		}
	}
	if c.Starts() < rounds || len(kept) == 0 {
		t.Errorf("%d starts, %d keys made in %d rounds", c.Starts(), len(kept), rounds)
	}
	if away.Load() > int64(rounds) {
		t.Errorf("%d of %d calls failed over %d deaths", away.Load(), calls.Load(), rounds)
	}
	t.Logf("%d calls, %d failed, %d workers", calls.Load(), away.Load(), c.Starts())
}

func roundTrip(t *testing.T, c *worker.Client, id hsm.KeyID, g, i int) error {
	plain, aad := fmt.Appendf(nil, "secret %d of %d", i, g), fmt.Appendf(nil, "context %d/%d", g, i)
	s, err := c.Encrypt(t.Context(), id, plain, aad)
	if err != nil {
		return err
	}
	got, err := c.Decrypt(t.Context(), id, s, aad)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, plain) {
		return fmt.Errorf("got %q, want %q", got, plain)
	}
	if _, err := c.Decrypt(t.Context(), id, s, plain); err == nil {
		return errors.New("a wrong context opens a blob")
	} else if !errors.Is(err, hsm.ErrAuth) {
		return err
	}
	return nil
}

// TestKilledIdle: the worker dies while nothing is asked; the next call does not
// notice.
func TestKilledIdle(t *testing.T) {
	c := start(t, config(t, hsmtest.NewSoftHSM(t)))
	id := hsmtest.NewKey(t, c)
	s := hsmtest.Seal(t, c, id, []byte("x"), nil)
	for i := range 3 {
		kill(t, c, unix.SIGKILL)
		hsmtest.Opens(t, c, id, s, []byte("x"), nil)
		if _, err := c.GenerateKey(hsmtest.Context(t), hsm.NewKeyID(), "x"); err != nil {
			t.Errorf("death %d: %v", i, err)
		}
	}
}

func TestTokenAwayAndBack(t *testing.T) {
	s := hsmtest.NewSoftHSM(t)
	c := start(t, config(t, s))
	id := hsmtest.NewKey(t, c)
	sealed := hsmtest.Seal(t, c, id, []byte("x"), nil)
	decrypt := func() error { _, err := c.Decrypt(hsmtest.Context(t), id, sealed, nil); return err }
	s.Away(t)
	if err := decrypt(); !errors.Is(err, hsm.ErrTokenAway) {
		t.Errorf("away: %v", err)
	}
	s.Back(t)
	hsmtest.Eventually(t, decrypt)
	if n := c.Starts(); n != 1 {
		t.Errorf("%d workers were started for a token that came back", n)
	}
	// The worker dies while the token is away: no worker can open it until it is
	// back, calls fail at once, and then it goes on.
	s.Away(t)
	kill(t, c, unix.SIGKILL)
	hsmtest.Eventually(t, func() error {
		if err := decrypt(); !errors.Is(err, hsm.ErrTokenAway) || !strings.Contains(err.Error(), s.Conf) {
			return fmt.Errorf("away, with a new worker: %v", err)
		}
		return nil
	})
	s.Back(t)
	hsmtest.Eventually(t, decrypt)
	hsmtest.Opens(t, c, id, sealed, []byte("x"), nil)
}

// TestCrashingCall: a call under which the module crashes is repeated if that is
// harmless, and only then.
func TestCrashingCall(t *testing.T) {
	f := hsmtest.NewFaulty(t)
	c := start(t, config(t, f.SoftHSM))
	id := hsmtest.NewKey(t, c)
	s := hsmtest.Seal(t, c, id, []byte("x"), nil)
	f.Fail(t, "decrypt", "crash")
	hsmtest.Opens(t, c, id, s, []byte("x"), nil)
	if n := c.Starts(); n != 2 {
		t.Errorf("%d starts after one crash", n)
	}
	f.Fail(t, "generate", "crash")
	other := hsm.NewKeyID()
	if _, err := c.GenerateKey(hsmtest.Context(t), other, "x"); !errors.Is(err, hsm.ErrTokenAway) {
		t.Errorf("generate with a crash: %v, want %v", err, hsm.ErrTokenAway)
	}
	if _, err := c.FindKey(hsmtest.Context(t), other); !errors.Is(err, hsm.ErrKeyNotFound) {
		t.Errorf("the request was repeated: %v, want %v", err, hsm.ErrKeyNotFound)
	}
	if n := c.Starts(); n != 3 {
		t.Errorf("%d starts after two crashes", n)
	}
}

// TestHangingModule: a worker that answers nothing any more is killed.
func TestHangingModule(t *testing.T) {
	f := hsmtest.NewFaulty(t)
	cfg := config(t, f.SoftHSM)
	cfg.CallTimeout = 500 * time.Millisecond
	c := start(t, cfg)
	id := hsm.NewKeyID()
	hsmtest.Eventually(t, func() error { _, err := c.GenerateKey(t.Context(), id, "x"); return existing(err) })
	s, err := c.Encrypt(t.Context(), id, []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	first := c.PID()
	f.Fail(t, "decrypt", "hang")
	if _, err := c.Decrypt(t.Context(), id, s, nil); !errors.Is(err, hsm.ErrTimeout) {
		t.Errorf("decrypt: %v, want %v", err, hsm.ErrTimeout)
	}
	hsmtest.Eventually(t, func() error { return gone(first) })
	f.Heal(t)
	hsmtest.Eventually(t, func() error { _, err := c.Decrypt(t.Context(), id, s, nil); return err })
	if c.Starts() < 2 {
		t.Errorf("%d starts", c.Starts())
	}
}

// TestStoppedWorker: the same for a worker that the system does not run.
func TestStoppedWorker(t *testing.T) {
	cfg := config(t, hsmtest.NewSoftHSM(t))
	cfg.CallTimeout = 500 * time.Millisecond
	c := start(t, cfg)
	first := c.PID()
	kill(t, c, unix.SIGSTOP)
	hsmtest.Eventually(t, func() error { // it may answer what it was about to
		if _, err := c.Info(t.Context()); !errors.Is(err, hsm.ErrTimeout) {
			return fmt.Errorf("info: %v, want %v", err, hsm.ErrTimeout)
		}
		return nil
	})
	hsmtest.Eventually(t, func() error { return gone(first) })
	hsmtest.Eventually(t, func() error { _, err := c.Info(t.Context()); return err })
}

func existing(err error) error {
	if errors.Is(err, hsm.ErrExists) {
		return nil
	}
	return err
}

func TestStartRefusals(t *testing.T) {
	s := hsmtest.NewSoftHSM(t)
	for name, c := range map[string]struct {
		edit func(*worker.Config)
		want error
		hint string
	}{
		"WrongPIN":      {func(c *worker.Config) { c.PIN = hsmtest.Secret(t, "00000000") }, hsm.ErrPIN, "PIN file"},
		"NoPIN":         {func(c *worker.Config) { c.PIN = nil }, hsm.ErrPIN, "no PIN"},
		"MissingToken":  {func(c *worker.Config) { c.TokenLabel = "nowhere" }, hsm.ErrTokenAway, `"kmsfs test"`},
		"MissingModule": {func(c *worker.Config) { c.Module = "/none.so" }, hsm.ErrModule, "/none.so"},
		"MissingBinary": {func(c *worker.Config) { c.Binary = "/none" }, hsm.ErrModule, "make build"},
		"NotAWorker":    {func(c *worker.Config) { c.Binary = "/bin/true" }, hsm.ErrTokenAway, "died"},
		"Unprepared":    {func(c *worker.Config) { c.Initialize = false }, hsm.ErrUnfit, "sentinel"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t, s)
			c.edit(&cfg)
			tok, err := worker.Start(hsmtest.Context(t), cfg)
			if err == nil {
				tok.Close()
			}
			if !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), c.hint) {
				t.Errorf("got %v, want %v and a hint %q", err, c.want, c.hint)
			}
		})
	}
}

// TestPINRefusedLater: a worker that is started again finds its PIN refused. It
// is not tried a second time.
func TestPINRefusedLater(t *testing.T) {
	f := hsmtest.NewFaulty(t)
	c := start(t, config(t, f.SoftHSM))
	f.Fail(t, "login", "a0")
	logins := f.Calls(t, "login")
	kill(t, c, unix.SIGKILL)
	info := func() error { _, err := c.Info(hsmtest.Context(t)); return err }
	hsmtest.Eventually(t, func() error {
		if err := info(); !errors.Is(err, hsm.ErrPIN) {
			return fmt.Errorf("info: %v, want %v", err, hsm.ErrPIN)
		}
		return nil
	})
	f.Heal(t)
	if err := info(); !errors.Is(err, hsm.ErrPIN) {
		t.Errorf("info: %v, want %v", err, hsm.ErrPIN)
	}
	if n := f.Calls(t, "login") - logins; n != 1 {
		t.Errorf("a refused PIN was tried %d times", n)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := info(); !errors.Is(err, hsm.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestCloseEndsTheProcess(t *testing.T) {
	c := start(t, config(t, hsmtest.NewSoftHSM(t)))
	pid := c.PID()
	c.Close()
	if err := gone(pid); err != nil {
		t.Error(err)
	}
}

// TestCloseWhileHanging: a hanging module does not keep Close.
func TestCloseWhileHanging(t *testing.T) {
	f := hsmtest.NewFaulty(t)
	c := start(t, config(t, f.SoftHSM))
	f.Fail(t, "decrypt", "hang")
	done := make(chan error, 1)
	before := f.Calls(t, "decrypt")
	go func() { _, err := c.Info(t.Context()); done <- err }()
	hsmtest.Eventually(t, func() error {
		if f.Calls(t, "decrypt") == before {
			return errors.New("the call is not in the module yet")
		}
		return nil
	})
	began, pid := time.Now(), c.PID()
	c.Close()
	if d := time.Since(began); d > 20*time.Second {
		t.Errorf("Close took %v", d)
	}
	if err := gone(pid); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, hsm.ErrTokenAway) && !errors.Is(err, hsm.ErrClosed) {
		t.Errorf("the call that hung: %v", err)
	}
}

// TestSignalsForTheParent: what stops a service's or a terminal's processes all
// together leaves the worker to its parent, which has calls to make while it
// closes.
func TestSignalsForTheParent(t *testing.T) {
	c := start(t, config(t, hsmtest.NewSoftHSM(t)))
	pid := c.PID()
	for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP} {
		kill(t, c, sig)
	}
	for range 20 {
		if _, err := c.Info(hsmtest.Context(t)); err != nil {
			t.Fatal(err)
		}
	}
	if c.PID() != pid || c.Starts() != 1 {
		t.Errorf("the worker was replaced: %d starts", c.Starts())
	}
}

// TestIsolation looks at the process from outside.
func TestIsolation(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "inherited")
	fd, err := unix.Open(secret, unix.O_CREAT|unix.O_RDWR, 0o600) // without O_CLOEXEC
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	s := hsmtest.NewSoftHSM(t)
	c := start(t, config(t, s))
	proc := fmt.Sprintf("/proc/%d/", c.PID())
	limits, err := os.ReadFile(proc + "limits")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(limits)) {
		if f := strings.Fields(line); strings.HasPrefix(line, "Max core file size") && (f[4] != "0" || f[5] != "0") {
			t.Errorf("core dumps are possible: %s", line)
		}
	}
	for _, name := range []string{"cmdline", "environ"} {
		data, err := os.ReadFile(proc + name)
		if errors.Is(err, os.ErrPermission) {
			continue // not dumpable, and we are not root
		}
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, []byte(s.PIN)) {
			t.Errorf("the PIN is in %s", name)
		}
	}
	fds, err := os.ReadDir(proc + "fd")
	if err != nil {
		t.Skipf("the worker is not dumpable, so its descriptors show to root only: %v", err)
	}
	for _, f := range fds {
		if target, _ := os.Readlink(proc + "fd/" + f.Name()); target == secret {
			t.Errorf("descriptor %s was inherited", f.Name())
		}
	}
}
