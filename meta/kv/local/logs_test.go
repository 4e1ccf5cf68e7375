package local

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// TestHostileLogs writes lengths into the log of a store whose process died that Badger would make room for: gigabytes, and sums that wrap around.
func TestHostileLogs(t *testing.T) {
	t.Parallel()
	opts := create(t)
	s := open(t, opts)
	for i := range 30 {
		put(t, s, string(rune('a'+i)), "value")
	}
	checkpointNow(t, s)
	want := dump(t, s)
	for _, length := range []uint64{1 << 30, 1<<32 - 1, 1<<32 - 10, 1 << 40, 1<<64 - 1} {
		for _, field := range []int{0, 1} {
			o := copyStore(t, opts)
			logs, err := filepath.Glob(filepath.Join(metaDir(o), "*.mem"))
			if err != nil || len(logs) == 0 {
				t.Fatal(logs, err)
			}
			for _, log := range logs {
				b, err := os.ReadFile(log)
				if err != nil {
					t.Fatal(err)
				}
				at := logHeader + 2
				for range field {
					_, n := binary.Uvarint(b[at:])
					at += n
				}
				copy(b[at:], binary.AppendUvarint(nil, length))
				if err := os.WriteFile(log, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			again, err := Open(ctx, o)
			if errors.Is(err, kv.ErrCorrupt) {
				continue
			}
			if err != nil {
				t.Errorf("length %d in field %d: %v", length, field, err)
				continue
			}
			for k, v := range dump(t, again) { // from where the journal still reaches back to
				if want[k] != v {
					t.Errorf("length %d in field %d: %q is %q", length, field, k, v)
				}
			}
			if err := again.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestLogEnd(t *testing.T) {
	entry := func(key, value int) []byte {
		b := []byte{0, 0}
		b = binary.AppendUvarint(b, uint64(key))
		b = binary.AppendUvarint(b, uint64(value))
		b = binary.AppendUvarint(b, 0)
		return append(b, make([]byte, key+value+logEntrySums)...)
	}
	log := func(parts ...[]byte) (b []byte) {
		b = make([]byte, logHeader)
		for _, p := range parts {
			b = append(b, p...)
		}
		return b
	}
	one, two := entry(5, 300), entry(9, 1)
	whole := len(log(one, two))
	for what, c := range map[string]struct {
		b    []byte
		want int
	}{
		"empty":                {log(), logHeader},
		"shorter than a head":  {make([]byte, 7), 7},
		"entries":              {log(one, two), whole},
		"entries and zeros":    {log(one, two, make([]byte, 100)), whole + 100},
		"last one cut":         {log(one, two)[:whole-1], len(log(one))},
		"a byte more":          {log(one, two, []byte{7}), whole},
		"value too long":       {log(one, []byte{0, 0, 3, 200, 1, 0, 1, 2, 3}), len(log(one))},
		"key too long":         {log(one, entry(logMaxKey+1, 1)), len(log(one))},
		"no key":               {log(one, []byte{0, 0, 0, 5, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9}), len(log(one))},
		"length that overruns": {log([]byte{0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255}), logHeader},
	} {
		if got := logEnd(c.b); got != c.want {
			t.Errorf("%s: ends at %d, want %d", what, got, c.want)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		b := log(one, two, one)
		for range 1 + rng.IntN(4) {
			b[rng.IntN(len(b))] = byte(rng.Uint32())
		}
		if end := logEnd(b); end < min(logHeader, len(b)) || end > len(b) {
			t.Fatalf("%x ends at %d", b, end)
		}
	}
}
