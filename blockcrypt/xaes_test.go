package blockcrypt

import (
	"bytes"
	"crypto/sha3"
	"encoding/hex"
	"errors"
	"os"
	"testing"
)

// TestXAESPublished checks the vectors of c2sp.org/XAES-256-GCM, with their
// intermediate values.
func TestXAESPublished(t *testing.T) {
	for _, v := range []struct {
		key                        byte
		aad, k1, subkey, encrypted string
	}{
		{1, "", "e531954aca063d5b8d9c47a47d4cc6f0",
			"c8612c9ed53fe43e8e005b828a1631a0bbcb6ab2f46514ec4f439fcfd0fa969b",
			"ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{3, "c2sp.org/XAES-256-GCM", "23810ec50edb99f374409466ed1f4b7b",
			"e9c621d4cdd9b11b00a6427ad7e559aeedd66b3857646677748f8ca796cb3fd8",
			"986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		s, err := NewSealer((*Key)(bytes.Repeat([]byte{v.key}, KeySize)))
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(s.k1[:]); got != v.k1 {
			t.Errorf("K1 %s, want %s", got, v.k1)
		}
		nonce := [SealNonceSize]byte([]byte("ABCDEFGHIJKLMNOPQRSTUVWX"))
		var subkey Key
		s.deriveSubkey(&subkey, nonce[:])
		if got := hex.EncodeToString(subkey[:]); got != v.subkey {
			t.Errorf("Kx %s, want %s", got, v.subkey)
		}
		sealed := sealWith(t, s, nonce, []byte("XAES-256-GCM"), []byte(v.aad))
		if got := hex.EncodeToString(sealed[SealNonceSize:]); got != v.encrypted {
			t.Errorf("ciphertext %s, want %s", got, v.encrypted)
		}
	}
}

// TestXAESAccumulated is the specification's randomized test: inputs from one
// SHAKE-128 stream, all ciphertexts into another.
func TestXAESAccumulated(t *testing.T) {
	iterations, want := 10_000, "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"
	if os.Getenv("KMSFS_LONG") == "1" {
		iterations, want = 1_000_000, "2163ae1445985a30b60585ee67daa55674df06901b890593e824b8a7c885ab15"
	}
	random, sum := sha3.NewSHAKE128(), sha3.NewSHAKE128()
	read := func(n int) []byte {
		b := make([]byte, n)
		_, _ = random.Read(b)
		return b
	}
	for range iterations {
		key := Key(read(KeySize))
		nonce := [SealNonceSize]byte(read(SealNonceSize))
		plain := read(int(read(1)[0]))
		aad := read(int(read(1)[0]))
		s, err := NewSealer(&key)
		if err != nil {
			t.Fatal(err)
		}
		sealed := sealWith(t, s, nonce, plain, aad)
		_, _ = sum.Write(sealed[SealNonceSize:])
		got, err := s.Open(nil, sealed, aad)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("opened %x, want %x, %v", got, plain, err)
		}
	}
	digest := make([]byte, 32)
	_, _ = sum.Read(digest)
	if got := hex.EncodeToString(digest); got != want {
		t.Errorf("digest of %d ciphertexts %s, want %s", iterations, got, want)
	}
}

// sealWith seals with a given nonce.
func sealWith(t testing.TB, s *Sealer, nonce [SealNonceSize]byte, plain, aad []byte) []byte {
	t.Helper()
	d, err := s.subkey(nonce[:])
	if err != nil {
		t.Fatal(err)
	}
	return d.seal(nil, &nonce, plain, aad)
}

func testSealer(t testing.TB, first byte) *Sealer {
	t.Helper()
	s, err := NewSealer(&Key{first})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSealerAppends(t *testing.T) {
	s := testSealer(t, 1)
	for _, n := range []int{0, 1, 15, 16, 17, 128 << 10} {
		plain, aad := randomBytes(1, n), randomBytes(2, 33)
		plainBefore, aadBefore := bytes.Clone(plain), bytes.Clone(aad)
		for _, spare := range []int{0, n + SealOverhead} {
			dst := append(make([]byte, 0, 3+spare), "abc"...)
			sealed, err := s.Seal(dst, plain, aad)
			if err != nil {
				t.Fatal(err)
			}
			if len(sealed) != 3+n+SealOverhead || string(sealed[:3]) != "abc" {
				t.Fatalf("%d bytes give %d", n, len(sealed))
			}
			sealedBefore := bytes.Clone(sealed)
			got, err := s.Open([]byte("xyz"), sealed[3:], aad)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "plaintext", got, append([]byte("xyz"), plain...))
			same(t, "input", plain, plainBefore)
			same(t, "associated data", aad, aadBefore)
			same(t, "sealed", sealed, sealedBefore)
		}
	}
}

// TestSealedFlips flips every byte of a sealed row, of its associated data and
// of a wrap.
func TestSealedFlips(t *testing.T) {
	s := testSealer(t, 1)
	aad := RowAAD(VolumeID{1}, []byte("A\x00\x00\x00\x00\x00\x00\x00\x2a"))
	row, err := s.Seal(nil, randomBytes(3, 120), aad)
	if err != nil {
		t.Fatal(err)
	}
	place := Place{VolumeID{1}, 2, 3, [16]byte{4}, 5, 6}.AAD()
	wrap, err := s.Wrap(&Key{7}, place)
	if err != nil {
		t.Fatal(err)
	}
	open := func(b []byte) error { return second(s.Open(nil, b, aad)) }
	unwrap := func(b []byte) error { return second(s.Unwrap(b, place)) }
	for _, c := range []struct {
		what   string
		bytes  []byte
		opener func() error
	}{
		{"row", row, func() error { return open(row) }},
		{"row's associated data", aad, func() error { return open(row) }},
		{"wrap", wrap[:], func() error { return unwrap(wrap[:]) }},
		{"wrap's associated data", place, func() error { return unwrap(wrap[:]) }},
	} {
		if err := c.opener(); err != nil {
			t.Fatalf("%s unchanged: %v", c.what, err)
		}
		for i := range c.bytes {
			c.bytes[i] ^= 0x10
			if err := c.opener(); !errors.Is(err, ErrAuth) {
				t.Fatalf("%s byte %d: %v", c.what, i, err)
			}
			c.bytes[i] ^= 0x10
		}
	}
	for n := range row {
		want := ErrAuth
		if n < SealOverhead {
			want = ErrShort
		}
		if err := open(row[:n]); !errors.Is(err, want) {
			t.Fatalf("row cut to %d: %v", n, err)
		}
	}
}

func TestWrap(t *testing.T) {
	s := testSealer(t, 1)
	want := Key{1, 2, 3}
	w, err := s.Wrap(&want, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Unwrap(w[:], nil)
	if err != nil || *got != want {
		t.Fatalf("another key, %v", err)
	}
	if again, _ := s.Wrap(&want, nil); again == w {
		t.Error("two wraps are equal: the nonce is not random")
	}
	if _, err := testSealer(t, 2).Unwrap(w[:], nil); !errors.Is(err, ErrAuth) {
		t.Errorf("another sealer: %v", err)
	}
}
