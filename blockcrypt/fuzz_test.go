package blockcrypt

import (
	"bytes"
	"encoding/hex"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// seedHex adds the values of a field in a class of vectors as seeds. No seed
// fails the test.
func seedHex(f *testing.F, class, field string, add func([]byte)) {
	f.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", class+".json"))
	if err != nil {
		f.Fatal(err)
	}
	found := regexp.MustCompile(`"`+field+`": "([0-9a-f]*)"`).FindAllSubmatch(b, -1)
	if len(found) == 0 {
		f.Fatalf("no seeds in class %s", class)
	}
	for _, m := range found {
		seed, err := hex.DecodeString(string(m[1]))
		if err != nil {
			f.Fatal(err)
		}
		add(seed)
	}
}

func FuzzParseVolumeID(f *testing.F) {
	for _, s := range []string{"", "00112233445566778899aabbccddeeff", "00112233445566778899AABBCCDDEEFF", "0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseVolumeID(s)
		if err != nil {
			if !errors.Is(err, ErrFormat) || !v.IsZero() {
				t.Errorf("%q: %v %v", s, v, err)
			}
			return
		}
		if v.String() != s {
			t.Errorf("%q is written as %q", s, v)
		}
	})
}

func FuzzParseObjectID(f *testing.F) {
	namer, err := NewObjectNamer(&Key{1})
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"", namer.ID(1, 1).String(), "00112233445566778899AABBCCDDEEFF", "..", "0/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseObjectID(s)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		if id.String() != s {
			t.Errorf("%q is written as %q", s, id)
		}
		if inode, serial := namer.Parse(id); namer.ID(inode, serial) != id {
			t.Errorf("%q is not a permutation's image", s)
		}
	})
}

func FuzzParseContext(f *testing.F) {
	seedHex(f, "context", "encoding", func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, b []byte) {
		context, err := ParseContext(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) || context != nil {
				t.Errorf("%x: %v", b, err)
			}
			return
		}
		again, err := EncodeContext(context)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x is written as %x, %v", b, again, err)
		}
	})
}

func FuzzEncodeContext(f *testing.F) {
	f.Add("user", "bob", "a", "1")
	f.Add("a", "bc", "ab", "c")
	f.Add("\xff", "", "", "")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		context := map[string]string{k1: v1, k2: v2}
		b, err := EncodeContext(context)
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrSize) {
				t.Error(err)
			}
			return
		}
		back, err := ParseContext(b)
		if err != nil || !maps.Equal(back, context) {
			t.Errorf("%q is read as %q, %v", context, back, err)
		}
	})
}

func FuzzSealerOpen(f *testing.F) {
	s := testSealer(f, 1)
	aad := RowAAD(VolumeID{1}, []byte("A"))
	good := sealWith(f, s, [SealNonceSize]byte{1}, []byte("a row"), aad) // workers must agree on it
	f.Add(good)
	seedHex(f, "row", "sealed", func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, sealed []byte) {
		before := bytes.Clone(sealed)
		out, err := s.Open(nil, sealed, aad)
		same(t, "input", sealed, before)
		switch {
		case bytes.Equal(sealed, good):
			if err != nil || string(out) != "a row" {
				t.Errorf("%q, %v", out, err)
			}
		case out != nil, len(sealed) < SealOverhead && !errors.Is(err, ErrShort),
			len(sealed) >= SealOverhead && !errors.Is(err, ErrAuth):
			t.Errorf("%x opens to %q, %v", sealed, out, err)
		}
	})
}

func FuzzUnwrap(f *testing.F) {
	s := testSealer(f, 1)
	good := sealWith(f, s, [SealNonceSize]byte{1}, (&Key{9})[:], nil)
	f.Add(good)
	seedHex(f, "wrap", "wrap", func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, w []byte) {
		k, err := s.Unwrap(w, nil)
		switch {
		case bytes.Equal(w, good):
			if err != nil || *k != (Key{9}) {
				t.Error(err)
			}
		case k != nil, len(w) != WrapSize && !errors.Is(err, ErrFormat), len(w) == WrapSize && !errors.Is(err, ErrAuth):
			t.Errorf("%x: %v", w, err)
		}
	})
}

func FuzzOpenInline(f *testing.F) {
	c := newTestCipher(f, MinBlockSize)
	good := c.sealInline(make([]byte, NonceSize), []byte("content"))
	f.Add(good)
	seedHex(f, "inline", "sealed", func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, sealed []byte) {
		out, err := c.OpenInline(nil, sealed)
		switch {
		case bytes.Equal(sealed, good):
			if err != nil || string(out) != "content" {
				t.Errorf("%q, %v", out, err)
			}
		case out != nil, err == nil:
			t.Errorf("%x opens to %q, %v", sealed, out, err)
		}
	})
}

func FuzzOpenBlock(f *testing.F) {
	c := newTestCipher(f, MinBlockSize)
	ciphertext := make([]byte, 100)
	good := c.seal(new(blockScratch), ciphertext, make([]byte, 100), make([]byte, NonceSize), c.aad(nil, kindBlock, 1, 100))
	f.Add(ciphertext, good.Nonce[:], good.Tag[:], uint64(1))
	f.Add([]byte{}, []byte{}, []byte{}, uint64(0))
	f.Fuzz(func(t *testing.T, b, nonce, tag []byte, index uint64) {
		var s Sealed
		copy(s.Nonce[:], nonce)
		copy(s.Tag[:], tag)
		dst := make([]byte, len(b))
		err := c.Open(dst, b, index, s)
		if bytes.Equal(b, ciphertext) && s.Nonce == good.Nonce && s.Tag == good.Tag && index == 1 {
			if err != nil {
				t.Error(err)
			}
		} else if err == nil || !bytes.Equal(dst, make([]byte, len(b))) {
			t.Errorf("opened a forgery: %v", err)
		}
	})
}
