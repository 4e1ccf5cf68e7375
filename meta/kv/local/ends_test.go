package local

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// TestEnds asks for keys before, at and behind the ends of classes, one by one and by scans of what begins alike, while rows come and go at the ends, through checkpoints and openings.
func TestEnds(t *testing.T) {
	rng := rand.New(rand.NewPCG(41, 1))
	opts := create(t)
	s := open(t, opts)
	want := map[string]string{}
	next := map[byte]int{'a': 0, 'b': 0, 'c': 5000}
	for round := range rounds(40, 400) {
		for range 30 {
			class := byte('a' + rng.IntN(3))
			key := fmt.Sprintf("%c%06d", class, next[class])
			if rng.IntN(4) == 0 && next[class] > 0 { // the last one goes
				next[class]--
				key = fmt.Sprintf("%c%06d", class, next[class])
				remove(t, s, key)
				delete(want, key)
				continue
			}
			next[class]++
			put(t, s, key, fmt.Sprint(round))
			want[key] = fmt.Sprint(round)
		}
		switch rng.IntN(4) {
		case 0:
			checkpointNow(t, s)
		case 1:
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, opts)
		}
		for class, n := range next {
			for i := n - 3; i < n+4; i++ {
				compare(t, s, want, fmt.Sprintf("%c%06d", class, max(i, 0)))
			}
		}
		compare(t, s, want, "\xff")
		compare(t, s, want, "d")
	}
	known := 0
	for i := range s.base.table.ends {
		if s.base.table.ends[i].Load() != nil {
			known++
		}
	}
	if known < 3 {
		t.Errorf("the ends of %d classes are known", known)
	}
}

func remove(t *testing.T, s *Store, key string) {
	t.Helper()
	if _, err := s.Update(ctx, kv.OpID{}, func(x kv.Txn) error {
		x.Delete([]byte(key))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// compare reads a key, and scans what begins with it.
func compare(t *testing.T, s *Store, want map[string]string, key string) {
	t.Helper()
	err := s.View(ctx, func(r kv.Reader) error {
		v, err := r.Get(ctx, []byte(key))
		if err != nil {
			return err
		}
		if string(v[0]) != want[key] {
			t.Errorf("%s: %q, want %q", key, v[0], want[key])
		}
		found := ""
		err = r.Scan(ctx, []byte(key), []byte(key+"\xff"), 0, func(_, v []byte) bool {
			found = string(v)
			return true
		})
		if found != want[key] {
			t.Errorf("scan from %s: %q, want %q", key, found, want[key])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestEndRemoved removes the last row of a class behind the store's back: that it is not there is refused, and so is what is behind it as long as the end is not known for sure.
func TestEndRemoved(t *testing.T) {
	opts, _ := filled(t, 600)
	behind(t, opts, func(txn *badger.Txn) error { return txn.Delete([]byte("row 00599")) })
	s := open(t, opts)
	for _, key := range []string{"row 00599", "row 00600"} {
		err := s.View(ctx, func(r kv.Reader) error {
			_, err := r.Get(ctx, []byte(key))
			return err
		})
		if !errors.Is(err, kv.ErrTampered) {
			t.Errorf("%s: %v", key, err)
		}
	}
}
