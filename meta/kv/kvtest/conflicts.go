package kvtest

import (
	"fmt"
	"testing"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// interfere runs a transaction whose first run is disturbed by other, and returns how often it ran.
func interfere(t *testing.T, s kv.Store, other func(), fn func(kv.Txn) error) int {
	t.Helper()
	runs := 0
	update(t, s, func(x kv.Txn) error {
		runs++
		err := fn(x)
		if runs == 1 {
			other()
		}
		return err
	})
	return runs
}

func testLostUpdate(t *testing.T, s kv.Store) {
	put(t, s, "n", "1")
	runs := interfere(t, s, func() { put(t, s, "n", "10") }, func(x kv.Txn) error {
		x.Put([]byte("n"), []byte(get(t, x, "n")+"+1"))
		return nil
	})
	if runs != 2 {
		t.Errorf("%d runs, want 2", runs)
	}
	expect(t, s, "n=10+1")
	// Who only writes does not conflict.
	runs = interfere(t, s, func() { put(t, s, "n", "5") }, func(x kv.Txn) error {
		x.Put([]byte("n"), []byte("6"))
		return nil
	})
	if runs != 1 {
		t.Errorf("blind write ran %d times", runs)
	}
	expect(t, s, "n=6")
}

// testWriteSkew: two transactions read both rows and each changes one of them.
func testWriteSkew(t *testing.T, s kv.Store) {
	put(t, s, "a", "on")
	put(t, s, "b", "on")
	off := func(mine string) func(kv.Txn) error {
		return func(x kv.Txn) error {
			if get(t, x, "a") == "on" && get(t, x, "b") == "on" {
				x.Put([]byte(mine), []byte("off"))
			}
			return nil
		}
	}
	interfere(t, s, func() { update(t, s, off("b")) }, off("a"))
	expect(t, s, "a=on", "b=off")
}

// testPhantom: a row that appears in a scanned range is a change of what was read.
func testPhantom(t *testing.T, s kv.Store) {
	put(t, s, "d/a", "1")
	count := func(x kv.Txn) error {
		x.Put([]byte("count"), fmt.Append(nil, len(scan(t, x, "d/", "d0", 0))))
		return nil
	}
	if runs := interfere(t, s, func() { put(t, s, "d/b", "1") }, count); runs != 2 {
		t.Errorf("phantom: %d runs, want 2", runs)
	}
	expect(t, s, "count=2", "d/a=1", "d/b=1")
	if runs := interfere(t, s, func() { put(t, s, "e", "1") }, count); runs != 1 {
		t.Errorf("a row outside of the range: %d runs, want 1", runs)
	}
	gone := func() {
		update(t, s, func(x kv.Txn) error { x.Delete([]byte("d/a")); return nil })
	}
	if runs := interfere(t, s, gone, count); runs != 2 {
		t.Errorf("a row that vanishes: %d runs, want 2", runs)
	}
	// A scan that stops has seen nothing behind where it stopped.
	first := func(x kv.Txn) error {
		x.Put([]byte("first"), []byte(scan(t, x, "d/", "d0", 1)[0]))
		return nil
	}
	if runs := interfere(t, s, func() { put(t, s, "d/z", "1") }, first); runs != 1 {
		t.Errorf("a row behind the end of a stopped scan: %d runs, want 1", runs)
	}
	if runs := interfere(t, s, func() { put(t, s, "d/a", "1") }, first); runs != 2 {
		t.Errorf("a row before the end of a stopped scan: %d runs, want 2", runs)
	}
}

// testReadGone: absence is something that was read.
func testReadGone(t *testing.T, s kv.Store) {
	create := func(x kv.Txn) error {
		if get(t, x, "name") == "" {
			x.Put([]byte("name"), []byte("mine"))
		} else {
			x.Put([]byte("loser"), []byte("me"))
		}
		return nil
	}
	interfere(t, s, func() { put(t, s, "name", "theirs") }, create)
	expect(t, s, "loser=me", "name=theirs")
}

// testStarving: a transaction that is disturbed in every run ends all the same.
func testStarving(t *testing.T, s kv.Store) {
	put(t, s, "n", "0")
	runs := 0
	done := make(chan struct{})
	stop := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			_, err := s.Update(background, kv.OpID{}, func(x kv.Txn) error {
				x.Put([]byte("n"), fmt.Append(nil, i))
				return nil
			})
			if err != nil {
				t.Errorf("disturb: %v", err)
				return
			}
		}
	}()
	for range 20 {
		update(t, s, func(x kv.Txn) error {
			runs++
			// Reading it many times makes the transaction slow enough to be disturbed.
			for range 200 {
				get(t, x, "n")
			}
			x.Put([]byte("seen"), []byte(get(t, x, "n")))
			return nil
		})
	}
	close(stop)
	<-done
	if runs > 20*64 {
		t.Errorf("20 transactions ran %d times", runs)
	}
}
