package meta

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

// TestShredRow: what a job of this kind needs to know comes back from its row; a row that is cut, or says it of another kind, is refused.
func TestShredRow(t *testing.T) {
	j := &Job{ID: 3, Kind: JobShred, State: JobRunning, Root: 7, TotalFiles: 9, Problem: "waits", Shred: &Shred{Path: strings.Repeat("p", MaxShredPath), Keys: 5, Digest: [32]byte{1, 31: 2}, Event: "e"}}
	if err := j.check(); err != nil {
		t.Fatal(err)
	}
	row := encodeJob(j)
	got, err := decodeJob(j.ID, row)
	if err != nil || !reflect.DeepEqual(got, j) {
		t.Fatalf("%+v, %v", got, err)
	}
	short := encodeJob(&Job{ID: 3, Kind: JobShred, State: JobRunning, Root: 7, Shred: &Shred{Path: "p", Event: "e"}})
	for n := range short {
		if _, err := decodeJob(3, short[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d bytes of %d: %v", n, len(short), err)
		}
	}
	for name, bad := range map[string]*Job{
		"no shred":             {ID: 3, Kind: JobShred, State: JobRunning, Root: 7},
		"of another kind":      {ID: 3, Kind: JobRewrap, State: JobRunning, Root: 7, Shred: &Shred{}},
		"a path that is long":  {ID: 3, Kind: JobShred, State: JobRunning, Root: 7, Shred: &Shred{Path: strings.Repeat("p", MaxShredPath+1)}},
		"a receipt that is so": {ID: 3, Kind: JobShred, State: JobRunning, Root: 7, Shred: &Shred{Event: strings.Repeat("e", 256)}},
	} {
		if bad.check() == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// TestJobRowWhy: why a file was skipped has a limit, read as written.
func TestJobRowWhy(t *testing.T) {
	row := func(n int) []byte {
		return encodeJob(&Job{ID: 3, Kind: JobReencrypt, State: JobRunning, Root: 7, Failed: 1, Skipped: []Skipped{{9, strings.Repeat("x", n)}}})
	}
	if _, err := decodeJob(3, row(MaxWhy)); err != nil {
		t.Error(err)
	}
	if _, err := decodeJob(3, row(MaxWhy+1)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a longer one: %v", err)
	}
}
