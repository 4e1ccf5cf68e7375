package local

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// hexBytes is a byte string in JSON.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

type vector struct {
	Volume      hexBytes            `json:"volume"`
	Key         hexBytes            `json:"key"`
	SegmentSize int64               `json:"segment_size"`
	Stamp       uint64              `json:"stamp"`
	Badger      map[string]hexBytes `json:"badger"`
	Segments    []hexBytes          `json:"segments"`
	Recovered   map[string]hexBytes `json:"recovered"`
	Records     int                 `json:"records"`
	Generation  uint64              `json:"generation"`
	Sequence    uint64              `json:"sequence"`
	Tags        []hexBytes          `json:"tags"`
}

// TestVector opens a store whose journal and checkpoint row testdata/journal.py wrote from the text of
// docs/FORMAT.md.
func TestVector(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "journal.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v vector
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	opts := v.store(t)
	for seq, tag := range v.Tags {
		opts.Head = Head{Sequence: uint64(seq), Tag: [TagSize]byte(tag)}
		wrong := opts
		wrong.Head.Sequence++
		if _, err := Open(ctx, wrong); !errors.Is(err, kv.ErrRollback) {
			t.Errorf("anchor %d with the tag of %d: %v", seq+1, seq, err)
		}
		ro := opts
		ro.ReadOnly = true
		s, err := Open(ctx, ro)
		if err != nil {
			t.Fatalf("anchor %d: %v", seq, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, opts)
	want := map[string]string{}
	for k, value := range v.Recovered {
		want[k] = string(value)
	}
	if got := dump(t, s); !maps.Equal(got, want) {
		t.Errorf("recovered %q, want %q", got, want)
	}
	st, head := s.Stats(), s.Head()
	if st.Recovery.Records != v.Records || st.Recovery.Clean || st.Generation != v.Generation || st.Sequence != v.Sequence {
		t.Errorf("%+v", st)
	}
	if head.Sequence != v.Sequence || head.Tag != [TagSize]byte(v.Tags[v.Sequence]) {
		t.Errorf("head %+v", head)
	}
}

// store makes the vector's store on disk.
func (v vector) store(t *testing.T) Options {
	t.Helper()
	key := blockcrypt.Key(v.Key)
	opts := testOptions(filepath.Join(t.TempDir(), "vol"))
	opts.Volume, opts.Key, opts.Settler = blockcrypt.VolumeID(v.Volume), &key, newSettler()
	opts.SegmentSize, opts.MaxJournal = v.SegmentSize, 8*v.SegmentSize
	if err := Create(ctx, opts); err != nil {
		t.Fatal(err)
	}
	full, err := opts.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	db, err := openBadger(full)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	txn := db.NewTransactionAt(latest, true)
	defer txn.Discard()
	for k, value := range v.Badger {
		k, err := hex.DecodeString(k)
		if err != nil {
			t.Fatal(err)
		}
		if err := txn.Set(k, value); err != nil {
			t.Fatal(err)
		}
	}
	if err := txn.CommitAt(v.Stamp, nil); err != nil {
		t.Fatal(err)
	}
	for i, b := range v.Segments {
		whole := append(b, make([]byte, int(v.SegmentSize)-len(b))...)
		// The names mean nothing.
		name := filepath.Join(journalDir(opts), fmt.Sprintf("%08d.seg", 100-i))
		if err := os.WriteFile(name, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return opts
}
