package meta_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/meta"
)

func TestKept(t *testing.T) {
	v := newTree(t)
	one := &meta.Kept{Found: meta.Time{Sec: 7, Nsec: 8}, Ino: 9, Offset: 4096, Length: 4096, Where: "inode 9 block 1", What: "does not open"}
	two := &meta.Kept{Where: "row 41", What: "not authentic", Key: []byte{'A', 1}, Value: make([]byte, meta.MaxKeptValue)}
	for _, k := range []*meta.Kept{one, two} {
		if err := v.PutKept(bg, k); err != nil {
			t.Fatal(err)
		}
	}
	got, err := v.Kept(bg)
	if err != nil || len(got) != 2 || one.ID == two.ID {
		t.Fatal(got, err)
	}
	one.Key, one.Value = []byte(nil), []byte(nil)
	if !reflect.DeepEqual(got[0], one) || !reflect.DeepEqual(got[1], two) {
		t.Errorf("%+v\n%+v", got[0], got[1])
	}
	_, err = v.Check(bg, meta.CheckOptions{}, func(f meta.Fault) { t.Errorf("%+v", f) })
	if err != nil {
		t.Error(err)
	}
	for _, bad := range []*meta.Kept{{}, {Where: strings.Repeat("x", meta.MaxKeptText+1)}, {Where: "x", Value: make([]byte, meta.MaxKeptValue+1)},
		{Where: "x", Offset: 1 << 63, Length: 1 << 63}} {
		if err := v.PutKept(bg, bad); !errors.Is(err, meta.ErrInvalid) {
			t.Errorf("%.100v: %v", bad, err)
		}
	}
	if err := v.DeleteKept(bg, one.ID); err != nil {
		t.Fatal(err)
	}
	if got, err := v.Kept(bg); err != nil || len(got) != 1 || got[0].ID != two.ID {
		t.Error(got, err)
	}
}
