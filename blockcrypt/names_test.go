package blockcrypt

import (
	"strings"
	"testing"
)

// TestNameTagsDiffer: kind, parent, name and key all matter, and the borders
// between them cannot be shifted.
func TestNameTagsDiffer(t *testing.T) {
	a, b := NewNameHasher(&Key{1}), NewNameHasher(&Key{2})
	seen := map[[16]byte]int{}
	for i, tag := range [][16]byte{
		a.Tag(NameDentry, 1, []byte("x")), b.Tag(NameDentry, 1, []byte("x")), a.Tag(NameXattr, 1, []byte("x")),
		a.Tag(NameDentry, 2, []byte("x")), a.Tag(NameDentry, 1, []byte("X")), a.Tag(NameDentry, 1, []byte("x\x00")),
		a.Tag(NameDentry, 1, nil), a.Tag(NameDentry, 1, []byte{1}), a.Tag(0, 1, []byte("x")),
		a.Tag(NameDentry, 1, []byte(strings.Repeat("x", 255))),
	} {
		if j, ok := seen[tag]; ok {
			t.Errorf("%d and %d have the same tag", i, j)
		}
		seen[tag] = i
	}
	if a.Tag(NameDentry, 1, []byte("x")) != a.Tag(NameDentry, 1, []byte("x")) {
		t.Error("not deterministic")
	}
}

func TestNameHasherConcurrent(t *testing.T) {
	h := NewNameHasher(&Key{1})
	want := h.Tag(NameDentry, 7, []byte("name"))
	done := make(chan int)
	for range 8 {
		go func() {
			wrong := 0
			for range 500 {
				if h.Tag(NameDentry, 7, []byte("name")) != want {
					wrong++
				}
			}
			done <- wrong
		}()
	}
	for range 8 {
		if n := <-done; n > 0 {
			t.Errorf("%d wrong tags", n)
		}
	}
}

func TestDerivationsIndependent(t *testing.T) {
	secret := Key{1}
	seen := map[Key]string{}
	add := func(name string, k *Key, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[*k]; ok {
			t.Errorf("%s equals %s", name, other)
		}
		seen[*k] = name
	}
	for _, c := range [][2]string{{"a", ""}, {"b", ""}, {"ab", ""}, {"a", "b"}, {"a", "\x00"}, {"ab", "c"}, {"a", "bc"}} {
		k, err := DeriveKey(&secret, c[0], []byte(c[1]))
		add("key "+c[0]+"/"+c[1], k, err)
		commitment := Key(KeyCommitment(&secret, c[0], []byte(c[1])))
		add("commitment "+c[0]+"/"+c[1], &commitment, nil)
	}
	k, err := DeriveKey(&Key{2}, "a", nil)
	add("other secret", k, err)
	v := VolumeID{1}
	for _, salt := range [][16]byte{{}, {1}} {
		for _, number := range []uint64{0, 1} {
			k, err := JournalSegmentKey(&secret, v, salt, number)
			add("segment", k, err)
		}
	}
}

func TestEncodeContext(t *testing.T) {
	got, err := EncodeContext(map[string]string{"user": "bob", "a": "1"})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "encoding", got, []byte("\x00\x02\x00\x01a\x00\x011\x00\x04user\x00\x03bob"))
	if got, err := EncodeContext(nil); got != nil || err != nil {
		t.Errorf("empty: %x, %v", got, err)
	}
	long := strings.Repeat("v", MaxContext-2-2-1-2)
	if b, err := EncodeContext(map[string]string{"k": long}); err != nil || len(b) != MaxContext {
		t.Errorf("longest: %d, %v", len(b), err)
	}
	for name, c := range map[string]struct {
		context map[string]string
		outcome string
	}{
		"too long":        {map[string]string{"k": long + "v"}, "size"},
		"long beyond u16": {map[string]string{"k": strings.Repeat("v", 1<<16)}, "size"},
		"empty key":       {map[string]string{"": "v"}, "format"},
		"key not UTF-8":   {map[string]string{"\xff": "v"}, "format"},
		"value not UTF-8": {map[string]string{"k": "\xed\xa0\x80"}, "format"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := EncodeContext(c.context)
			checkOutcome(t, err, c.outcome)
		})
	}
}
