package kvtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// refused runs a transaction that must fail with want and change nothing.
func refused(t *testing.T, s kv.Store, want error, what string, fn func(kv.Txn)) {
	t.Helper()
	_, err := s.Update(background, kv.OpID{}, func(x kv.Txn) error {
		x.Put([]byte("beside"), []byte("v"))
		fn(x)
		return nil
	})
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
	expect(t, s)
}

func testLimits(t *testing.T, s kv.Store) {
	caps := s.Caps()
	refused(t, s, kv.ErrTooBig, "value above the limit", func(x kv.Txn) { x.Put([]byte("k"), make([]byte, caps.MaxValue+1)) })
	refused(t, s, kv.ErrTooBig, "key above the limit", func(x kv.Txn) {
		x.Put(bytes.Repeat([]byte("k"), caps.MaxKey+1), []byte("v"))
	})
	refused(t, s, kv.ErrTooBig, "too many bytes", func(x kv.Txn) {
		for i := range caps.MaxTxnBytes/caps.MaxValue + 1 {
			x.Put(fmt.Appendf(nil, "k%d", i), make([]byte, caps.MaxValue))
		}
	})
	refused(t, s, kv.ErrTooBig, "too many changes", func(x kv.Txn) {
		for i := range caps.MaxOps {
			x.Put(fmt.Appendf(nil, "k%d", i), []byte("v"))
		}
	})
	// At the limit it works, and is counted by what is left at the end.
	key, value := bytes.Repeat([]byte("k"), caps.MaxKey), bytes.Repeat([]byte("v"), caps.MaxValue)
	update(t, s, func(x kv.Txn) error {
		for range caps.MaxTxnBytes/caps.MaxValue + 1 {
			x.Put(key, bytes.Clone(value))
		}
		return nil
	})
	view(t, s, func(r kv.Reader) {
		if got := get(t, r, string(key)); got != string(value) {
			t.Errorf("largest row came back with %d bytes of %d", len(got), len(value))
		}
	})
}

func testInvalid(t *testing.T, s kv.Store) {
	refused(t, s, kv.ErrInvalid, "empty value", func(x kv.Txn) { x.Put([]byte("k"), nil) })
	refused(t, s, kv.ErrInvalid, "empty key", func(x kv.Txn) { x.Put(nil, []byte("v")) })
	refused(t, s, kv.ErrInvalid, "key of the implementation", func(x kv.Txn) { x.Put([]byte("\x00k"), []byte("v")) })
	refused(t, s, kv.ErrInvalid, "delete a key of the implementation", func(x kv.Txn) { x.Delete([]byte("\x00k")) })
	view(t, s, func(r kv.Reader) {
		for _, k := range [][]byte{nil, []byte("\x00k")} {
			if _, err := r.Get(background, k); !errors.Is(err, kv.ErrInvalid) {
				t.Errorf("get %q: %v", k, err)
			}
		}
		if got := scan(t, r, "\x00", "\x01", 0); len(got) > 0 {
			t.Errorf("the implementation's own rows are visible: %q", got)
		}
	})
}

// testBuffers changes every key buffer after the call, as callers that reuse them do.
func testBuffers(t *testing.T, s kv.Store) {
	k := []byte("a")
	update(t, s, func(x kv.Txn) error {
		for i := range 40 {
			k = append(k[:0], fmt.Sprintf("k%02d", i)...)
			x.Put(k, []byte("v"))
			if i%2 == 0 {
				x.Delete(k)
			}
			if _, err := x.Get(background, append(k[:0], "other"...)); err != nil {
				return err
			}
		}
		copy(k, "zzzz")
		return nil
	})
	view(t, s, func(r kv.Reader) {
		if got := scan(t, r, "", "", 0); len(got) != 20 || got[0] != "k01=v" || got[19] != "k39=v" {
			t.Errorf("got %q", got)
		}
	})
	lo, hi := []byte("k01"), []byte("k05")
	runs := 0
	update(t, s, func(x kv.Txn) error {
		runs++
		err := x.Scan(background, lo, hi, 0, func(_, _ []byte) bool {
			copy(lo, "zzz")
			copy(hi, "zzz")
			return true
		})
		copy(lo, "k01")
		copy(hi, "k05")
		if runs == 1 {
			put(t, s, "k03", "changed")
		}
		x.Put([]byte("done"), []byte("v"))
		return err
	})
	if runs != 2 {
		t.Errorf("scan with reused bounds: %d runs, want 2", runs)
	}
}

func testLargeTxn(t *testing.T, s kv.Store) {
	n := min(s.Caps().MaxOps, s.Caps().MaxTxnBytes/32, 2000)
	update(t, s, func(x kv.Txn) error {
		for i := range n {
			x.Put(fmt.Appendf(nil, "k%06d", i), fmt.Appendf(nil, "v%d", i))
		}
		for i := range n {
			if got := get(t, x, fmt.Sprintf("k%06d", i)); got != fmt.Sprint("v", i) {
				t.Fatalf("row %d reads %q in its own transaction", i, got)
			}
		}
		return nil
	})
	view(t, s, func(r kv.Reader) {
		if got := len(scan(t, r, "", "", 0)); got != n {
			t.Errorf("%d rows of %d", got, n)
		}
	})
}

func testCancelled(t *testing.T, s kv.Store) {
	ctx, cancel := context.WithCancel(background)
	err := s.View(ctx, func(r kv.Reader) error {
		cancel()
		if _, err := r.Get(ctx, []byte("k")); !errors.Is(err, context.Canceled) {
			t.Errorf("get: %v", err)
		}
		if err := r.Scan(ctx, nil, nil, 0, func(_, _ []byte) bool { return true }); !errors.Is(err, context.Canceled) {
			t.Errorf("scan: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Errorf("view: %v", err)
	}
	called := false
	if err := s.View(ctx, func(kv.Reader) error { called = true; return nil }); !errors.Is(err, context.Canceled) || called {
		t.Errorf("view: %v, called %v", err, called)
	}
	_, err = s.Update(ctx, kv.OpID{}, func(kv.Txn) error { called = true; return nil })
	if !errors.Is(err, context.Canceled) || called {
		t.Errorf("update: %v, called %v", err, called)
	}
}

func testSync(t *testing.T, s kv.Store) {
	if err := s.Sync(background, 0); err != nil {
		t.Errorf("sync of nothing: %v", err)
	}
	rev := put(t, s, "a", "1")
	for range 2 {
		if err := s.Sync(background, rev); err != nil {
			t.Errorf("sync: %v", err)
		}
	}
	if err := s.Sync(background, rev+1); !errors.Is(err, kv.ErrInvalid) {
		t.Errorf("sync of the future: %v", err)
	}
}

func testClosed(t *testing.T, s kv.Store) {
	rev := put(t, s, "a", "1")
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	if err := s.Close(); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("second close: %v", err)
	}
	if err := s.View(background, func(kv.Reader) error { return nil }); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("view: %v", err)
	}
	if _, err := s.Update(background, kv.OpID{}, func(kv.Txn) error { return nil }); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("update: %v", err)
	}
	if err := s.Sync(background, rev); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("sync: %v", err)
	}
}
