//go:build cgo

package pkcs11_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/hsm/hsmtest"
	"github.com/kmsfs/kmsfs/hsm/pkcs11"
)

func TestTokenAwayAndBack(t *testing.T) {
	s := hsmtest.NewSoftHSM(t)
	tok := open(t, config(t, s))
	id, ctx := hsmtest.NewKey(t, tok), hsmtest.Context(t)
	sealed := hsmtest.Seal(t, tok, id, []byte("x"), nil)
	for round := range 3 {
		s.Away(t)
		unknown := hsm.NewKeyID()
		calls := map[string]func() error{
			"decrypt":  func() error { _, err := tok.Decrypt(ctx, id, sealed, nil); return err },
			"encrypt":  func() error { _, err := tok.Encrypt(ctx, id, []byte("y"), nil); return err },
			"find":     func() error { _, err := tok.FindKey(ctx, id); return err },
			"find new": func() error { _, err := tok.FindKey(ctx, unknown); return err },
			"generate": func() error { _, err := tok.GenerateKey(ctx, unknown, "x"); return err },
			"destroy":  func() error { return tok.DestroyKey(ctx, id) },
			"info":     func() error { _, err := tok.Info(ctx); return err },
		}
		for name, call := range calls { // in any order: each may be the first to notice
			if err := call(); !errors.Is(err, hsm.ErrTokenAway) || errors.Is(err, hsm.ErrKeyNotFound) {
				t.Errorf("round %d, %s while away: %v, want %v", round, name, err, hsm.ErrTokenAway)
			}
		}
		s.Back(t)
		hsmtest.Eventually(t, calls["decrypt"])
		hsmtest.Opens(t, tok, id, sealed, []byte("x"), nil)
		if _, err := tok.FindKey(ctx, unknown); !errors.Is(err, hsm.ErrKeyNotFound) {
			t.Errorf("round %d: a key that nobody made: %v", round, err)
		}
		if got := tok.Connections(); got != round+2 {
			t.Errorf("round %d: %d connections", round, got)
		}
	}
}

// TestAnotherTokenInItsPlace: while the token is away, a new one of the same
// label turns up. It must not be used, least of all for new keys.
func TestAnotherTokenInItsPlace(t *testing.T) {
	s := hsmtest.NewSoftHSM(t)
	tok := open(t, config(t, s))
	id, ctx := hsmtest.NewKey(t, tok), hsmtest.Context(t)
	s.Away(t)
	if err := os.Mkdir(s.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s.AddToken(t, "", s.Label)
	for range 2 {
		if _, err := tok.FindKey(ctx, id); !errors.Is(err, hsm.ErrTokenAway) {
			t.Errorf("find in another token: %v, want %v", err, hsm.ErrTokenAway)
		}
		if _, err := tok.GenerateKey(ctx, hsm.NewKeyID(), "x"); !errors.Is(err, hsm.ErrTokenAway) {
			t.Errorf("generate in another token: %v, want %v", err, hsm.ErrTokenAway)
		}
	}
	if err := os.RemoveAll(s.Dir); err != nil {
		t.Fatal(err)
	}
	s.Back(t)
	hsmtest.Eventually(t, func() error { _, err := tok.FindKey(ctx, id); return err })
}

// objects are the object files of SoftHSM's tokens.
func objects(t *testing.T, s *hsmtest.SoftHSM) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir(s.Dir, func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".object" && filepath.Base(path) != "token.object" {
			found[path] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// newKey makes a key and says which object file it is.
func newKey(t *testing.T, s *hsmtest.SoftHSM, tok hsm.Token, id hsm.KeyID) string {
	t.Helper()
	before := objects(t, s)
	if _, err := tok.GenerateKey(hsmtest.Context(t), id, "label"); err != nil {
		t.Fatal(err)
	}
	for path := range objects(t, s) {
		if !before[path] {
			return path
		}
	}
	t.Fatal("a new key has no new object file")
	return ""
}

// TestDestroyedBehindOurBack: another program destroys a key. That is another
// error than the token being away, and other keys go on.
func TestDestroyedBehindOurBack(t *testing.T) {
	s := hsmtest.NewSoftHSM(t)
	tok, id, ctx := open(t, config(t, s)), hsm.NewKeyID(), hsmtest.Context(t)
	path := newKey(t, s, tok, id)
	other := hsmtest.NewKey(t, tok)
	sealed, sealedOther := hsmtest.Seal(t, tok, id, []byte("x"), nil), hsmtest.Seal(t, tok, other, []byte("y"), nil)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err := tok.Decrypt(ctx, id, sealed, nil)
		if !errors.Is(err, hsm.ErrKeyNotFound) || errors.Is(err, hsm.ErrTokenAway) {
			t.Errorf("decrypt: %v, want %v", err, hsm.ErrKeyNotFound)
		}
		if _, err = tok.FindKey(ctx, id); !errors.Is(err, hsm.ErrKeyNotFound) {
			t.Errorf("find: %v, want %v", err, hsm.ErrKeyNotFound)
		}
		hsmtest.Opens(t, tok, other, sealedOther, []byte("y"), nil)
	}
	if n := tok.Connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestAnotherKeyUnderItsID: while the token was away, a key was replaced by
// another one of the same id and label. Encrypting under it would lose the data
// later.
func TestAnotherKeyUnderItsID(t *testing.T) {
	s := hsmtest.NewSoftHSM(t)
	tok, id, ctx := open(t, config(t, s)), hsm.NewKeyID(), hsmtest.Context(t)
	first := newKey(t, s, tok, id)
	sealed := hsmtest.Seal(t, tok, id, []byte("x"), nil)
	data, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	if err := tok.DestroyKey(ctx, id); err != nil {
		t.Fatal(err)
	}
	second := newKey(t, s, tok, id)
	s.Away(t)
	if _, err := tok.FindKey(ctx, id); !errors.Is(err, hsm.ErrTokenAway) {
		t.Fatal(err)
	}
	s.Back(t)
	if err := os.Remove(second); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(first, data, 0o600); err != nil {
		t.Fatal(err)
	}
	hsmtest.Eventually(t, func() error { _, err := tok.Info(ctx); return err })
	for range 2 {
		if _, err := tok.Encrypt(ctx, id, []byte("y"), nil); !errors.Is(err, hsm.ErrKeyMismatch) {
			t.Errorf("encrypt under the first key where the second was: %v, want %v", err, hsm.ErrKeyMismatch)
		}
		if _, err := tok.FindKey(ctx, id); !errors.Is(err, hsm.ErrKeyMismatch) {
			t.Errorf("find: %v, want %v", err, hsm.ErrKeyMismatch)
		}
	}
	tok.Close()
	// A new process has seen neither; keymgr compares the check value.
	hsmtest.Opens(t, open(t, config(t, s)), id, sealed, []byte("x"), nil)
}

// TestGarbageBesideTraffic: bad blobs must not look like a failing module.
func TestGarbageBesideTraffic(t *testing.T) {
	tok := open(t, config(t, hsmtest.NewSoftHSM(t)))
	id := hsmtest.NewKey(t, tok)
	sealed := hsmtest.Seal(t, tok, id, []byte("x"), nil)
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for !stop.Load() {
				if got, err := tok.Decrypt(t.Context(), id, sealed, nil); err != nil || string(got) != "x" {
					t.Errorf("good traffic: %q, %v", got, err)
					return
				}
			}
		})
	}
	for i := range 1000 {
		bad := hsm.Sealed{Mechanism: hsm.AESGCM, IV: make([]byte, 12), Ciphertext: make([]byte, 17+i)}
		if _, err := tok.Decrypt(t.Context(), id, bad, nil); !errors.Is(err, hsm.ErrAuth) {
			t.Errorf("garbage %d: %v, want %v", i, err, hsm.ErrAuth)
		}
	}
	stop.Store(true)
	wg.Wait()
	if n := tok.Connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestFailingModule: return values that a bad blob gives, but from a module that
// fails the known answer as well, and others that say the device is gone.
func TestFailingModule(t *testing.T) {
	f := hsmtest.NewFaulty(t)
	tok := open(t, config(t, f.SoftHSM))
	id := hsmtest.NewKey(t, tok)
	sealed := hsmtest.Seal(t, tok, id, []byte("x"), nil)
	decrypt := func() error { _, err := tok.Decrypt(hsmtest.Context(t), id, sealed, nil); return err }
	for i, rv := range []string{"5", "6", "40", "30", "32", "e0", "b3", "101", "190", "82", "60"} {
		f.Fail(t, "decrypt", rv)
		for range 3 {
			if err := decrypt(); !errors.Is(err, hsm.ErrTokenAway) || errors.Is(err, hsm.ErrAuth) {
				t.Errorf("decrypt returns 0x%s: %v, want %v", rv, err, hsm.ErrTokenAway)
			}
		}
		f.Heal(t)
		hsmtest.Eventually(t, decrypt)
		if n := tok.Connections(); n != i+2 {
			t.Errorf("0x%s: %d connections, want %d", rv, n, i+2)
		}
	}
}

// TestReconnectBacksOff: while the token is away, not every call goes to it.
func TestReconnectBacksOff(t *testing.T) {
	f := hsmtest.NewFaulty(t)
	tok := open(t, config(t, f.SoftHSM))
	f.Fail(t, "find", "30")
	before, began := f.Calls(t, "initialize"), time.Now()
	for range 2000 {
		if _, err := tok.FindKey(hsmtest.Context(t), hsm.NewKeyID()); !errors.Is(err, hsm.ErrTokenAway) {
			t.Fatal(err)
		}
	}
	// At most one attempt for each 50 ms passed, and one to begin with.
	most := 2 + int(time.Since(began)/(50*time.Millisecond))
	if n := f.Calls(t, "initialize") - before; n > most {
		t.Errorf("%d attempts to connect in %v", n, time.Since(began))
	}
}

// TestPINChanged: the PIN is refused when reconnecting. It is tried once.
func TestPINChanged(t *testing.T) {
	f := hsmtest.NewFaulty(t)
	for _, c := range []struct {
		rv   string
		want error
	}{{"a0", hsm.ErrPIN}, {"a4", hsm.ErrLocked}} {
		tok := open(t, config(t, f.SoftHSM))
		id := hsmtest.NewKey(t, tok)
		f.Away(t)
		if _, err := tok.FindKey(hsmtest.Context(t), id); !errors.Is(err, hsm.ErrTokenAway) {
			t.Error(err)
		}
		f.Back(t)
		f.Fail(t, "login", c.rv)
		logins := f.Calls(t, "login")
		hsmtest.Eventually(t, func() error {
			if _, err := tok.FindKey(hsmtest.Context(t), id); !errors.Is(err, c.want) {
				return fmt.Errorf("login returns 0x%s: %v, want %v", c.rv, err, c.want)
			}
			return nil
		})
		f.Heal(t)
		for range 5 {
			if _, err := tok.FindKey(hsmtest.Context(t), id); !errors.Is(err, c.want) {
				t.Errorf("after a refused PIN: %v, want %v", err, c.want)
			}
		}
		if n := f.Calls(t, "login") - logins; n != 1 {
			t.Errorf("a refused PIN was tried %d times", n)
		}
		tok.Close()
	}
}

// TestHangingModule: calls end in time, and the module is left alone until the
// hanging call returns.
func TestHangingModule(t *testing.T) {
	f := hsmtest.NewFaulty(t)
	cfg := config(t, f.SoftHSM)
	cfg.CallTimeout = 500 * time.Millisecond
	tok := open(t, cfg)
	id := hsmtest.NewKey(t, tok)
	sealed := hsmtest.Seal(t, tok, id, []byte("x"), nil)
	f.Fail(t, "decrypt", "hang")
	began := time.Now()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := tok.Decrypt(t.Context(), id, sealed, nil); !errors.Is(err, hsm.ErrTimeout) || !errors.Is(err, hsm.ErrTokenAway) {
				t.Errorf("decrypt: %v, want %v", err, hsm.ErrTimeout)
			}
		})
	}
	wg.Wait()
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := tok.Info(short); !errors.Is(err, hsm.ErrTimeout) {
		t.Errorf("info: %v, want %v", err, hsm.ErrTimeout)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("five bounded calls took %v", d)
	}
	f.Heal(t)
	hsmtest.Eventually(t, func() error { _, err := tok.Decrypt(t.Context(), id, sealed, nil); return err })
	if n := tok.Connections(); n != 1 {
		t.Errorf("%d connections: a slow module is no lost one", n)
	}
}

var _ hsm.Token = (*pkcs11.Token)(nil)
