package local

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/kmsfs/kmsfs/meta/kv"
	"github.com/kmsfs/kmsfs/meta/kv/kvtest"
)

// TestScrub: what was deleted is in no file of the store any more, wherever it had got to, and the rest is there, also rebuilt from the export.
func TestScrub(t *testing.T) {
	opts := exporting(t)
	s := open(t, opts)
	r := rand.New(rand.NewPCG(8, 8))
	model := map[string]string{}
	secret := func(i int) []byte { return []byte(fmt.Sprintf("the secret of row %d is %x", i, i*7919)) }
	put := func(key string, value []byte) {
		t.Helper()
		_, err := s.Update(ctx, kv.OpID{}, func(tx kv.Txn) error {
			if value == nil {
				tx.Delete([]byte(key))
			} else {
				tx.Put([]byte(key), bytes.Clone(value))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	expect := func() {
		t.Helper()
		got := dump(t, s)
		delete(got, "meanwhile")
		if !maps.Equal(got, model) {
			t.Errorf("%d rows, want %d", len(got), len(model))
		}
	}
	const rows = 12
	for i := range rows { // each has several versions, in tables, logs, exports and segments of all ages
		churn(t, s, r, model, 25)
		put("secret", secret(i))
		if i%3 == 0 {
			checkpointNow(t, s)
		}
		if i == rows/2 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, opts)
		}
	}
	seen := 0
	for i := range rows {
		seen += len(kvtest.FilesWith(t, opts.Dir, secret(i)))
	}
	if seen < rows { // or the search would show nothing
		t.Fatalf("%d rows are in %d files before the scrub", rows, seen)
	}
	put("secret", nil)

	stop, over := make(chan struct{}), sync.WaitGroup{}
	over.Go(func() { // others write meanwhile
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
				_, err := s.Update(ctx, kv.OpID{}, func(tx kv.Txn) error {
					tx.Put([]byte("meanwhile"), fmt.Appendf(nil, "%d", n))
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		}
	})
	if err := s.Scrub(ctx); err != nil {
		t.Fatal(err)
	}
	close(stop)
	over.Wait()
	put("meanwhile", nil)
	for i := range rows {
		if found := kvtest.FilesWith(t, opts.Dir, secret(i)); found != nil {
			t.Errorf("version %d is in %q", i, found)
		}
	}
	churn(t, s, r, model, 40)
	expect()
	if err := s.Scrub(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, opts)
	expect()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got, _ := rebuilt(t, opts); len(got) != len(model) {
		t.Errorf("%d rows rebuilt from the export, there are %d", len(got), len(model))
	}
}

// TestScrubWaits: a snapshot of before keeps what it may read, and a scrub waits for it.
func TestScrubWaits(t *testing.T) {
	s := open(t, exporting(t))
	defer s.Close()
	if _, err := s.Update(ctx, kv.OpID{}, func(tx kv.Txn) error { tx.Put([]byte("k"), []byte("v")); return nil }); err != nil {
		t.Fatal(err)
	}
	checkpointNow(t, s)
	done := make(chan error, 1)
	err := s.View(ctx, func(rd kv.Reader) error {
		if _, err := s.Update(ctx, kv.OpID{}, func(tx kv.Txn) error { tx.Delete([]byte("k")); return nil }); err != nil {
			return err
		}
		go func() { done <- s.Scrub(ctx) }()
		checkpointNow(t, s) // the scrub's own, or one beside it
		select {
		case err := <-done:
			t.Errorf("the scrub did not wait: %v", err)
		default:
		}
		vals, err := rd.Get(ctx, []byte("k"))
		if err == nil && string(vals[0]) != "v" {
			t.Errorf("%q", vals[0])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
