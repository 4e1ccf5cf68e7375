package blockcrypt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// TestKeyRedacted prints a key in every way that a careless program might.
func TestKeyRedacted(t *testing.T) {
	k := Key(bytes.Repeat([]byte{0xab}, KeySize))
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%b", "%o", "%T"} {
		fmt.Fprintf(&out, verb+"\n", k)
		fmt.Fprintf(&out, verb+"\n", &k)
		fmt.Fprintf(&out, verb+"\n", struct{ K Key }{k})
		if verb != "%s" && verb != "%q" { // see the comment of Key
			fmt.Fprintf(&out, verb+"\n", struct{ k *Key }{&k})
		}
		fmt.Fprintf(&out, verb+"\n", []Key{k})
		fmt.Fprintf(&out, verb+"\n", map[string]*Key{"k": &k})
	}
	fmt.Fprintln(&out, k, &k, k.String(), k.GoString())
	for _, expanded := range []any{newTestCipher(t, MinBlockSize), testSealer(t, 1), &ObjectNamer{}, NewNameHasher(&k)} {
		if s := fmt.Sprintf("%v %+v %s %#v %x", expanded, expanded, expanded, expanded, expanded); s != strings.TrimSpace(strings.Repeat(redacted+" ", 5)) {
			t.Errorf("%T prints as %s", expanded, s)
		}
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("message", "key", k, "pointer", &k, "struct", struct{ K Key }{k})
	}
	b, err := json.Marshal(map[string]any{"key": k, "pointer": &k, "struct": struct{ K Key }{k}})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(b)
	for _, leak := range []string{"abababab", "ABABABAB", "ab ab", "0xab, 0xab", "171 171", "171,171", "253 253", "10101011 1", "q6urq6ur"} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("output contains %q:\n%s", leak, out.String())
		}
	}
	if n := strings.Count(out.String(), redacted); n < 60 {
		t.Errorf("only %d times %s:\n%s", n, redacted, out.String())
	}
}

func TestKeyLife(t *testing.T) {
	a, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if *a == *b || *a == (Key{}) {
		t.Error("keys are not random")
	}
	raw := bytes.Clone(a[:])
	c, err := KeyFromBytes(raw)
	if err != nil || *c != *a {
		t.Fatal("another key", err)
	}
	a.Wipe()
	if *a != (Key{}) {
		t.Error("not wiped")
	}
	if !bytes.Equal(raw, c[:]) {
		t.Error("wiping one key changed another")
	}
	(*Key)(nil).Wipe()
	for _, n := range []int{0, 31, 33} {
		if _, err := KeyFromBytes(make([]byte, n)); !errors.Is(err, ErrSize) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// TestKeysNotKept: wiping the raw key after construction changes nothing.
func TestKeysNotKept(t *testing.T) {
	k := Key{1, 2, 3}
	c, err := NewBlockCipher(&k, FileID{}, MinBlockSize, SuiteAES256GCM)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSealer(&k)
	if err != nil {
		t.Fatal(err)
	}
	n, err := NewObjectNamer(&k)
	if err != nil {
		t.Fatal(err)
	}
	h := NewNameHasher(&k)
	id, tag := n.ID(1, 2), h.Tag(NameDentry, 1, nil)
	sealed, err := s.Seal(nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	k.Wipe()
	if n.ID(1, 2) != id || h.Tag(NameDentry, 1, nil) != tag {
		t.Error("names changed")
	}
	if _, err := s.Open(nil, sealed, nil); err != nil {
		t.Error(err)
	}
	fresh, err := NewBlockCipher(&Key{1, 2, 3}, FileID{}, MinBlockSize, SuiteAES256GCM)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 10)
	entry, err := c.Seal(block, make([]byte, 10), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := fresh.Open(block, block, 0, entry); err != nil {
		t.Error(err)
	}
}

func TestVolumeID(t *testing.T) {
	v, err := NewVolumeID()
	if err != nil || v.IsZero() {
		t.Fatal(v, err)
	}
	parsed, err := ParseVolumeID(v.String())
	if err != nil || parsed != v {
		t.Fatal(parsed, err)
	}
	type holder struct{ ID VolumeID }
	b, err := json.Marshal(holder{v})
	if err != nil || string(b) != `{"ID":"`+v.String()+`"}` {
		t.Fatalf("%s %v", b, err)
	}
	var back holder
	if err := json.Unmarshal(b, &back); err != nil || back.ID != v {
		t.Fatal(back, err)
	}
	const good = "00112233445566778899aabbccddeeff"
	if _, err := ParseVolumeID(good); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", good[1:], good + "0", strings.ToUpper(good), " " + good[1:], good[1:] + "\n",
		"0x" + good[2:], good[:31] + "g", strings.Repeat("0", 32), strings.Repeat("é", 16)} {
		if _, err := ParseVolumeID(bad); !errors.Is(err, ErrFormat) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	before := v
	if err := v.UnmarshalText([]byte("x")); err == nil || v != before {
		t.Error("changed by a failed parse")
	}
}
