package seal

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"math"
	mrand "math/rand/v2"
	"strconv"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const store = "00112233445566778899aabbccddeeff"

func ed25519Key(t *testing.T) (PublicKey, func([]byte) ([]byte, error)) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return PublicKey{KeyName(store), Ed25519, pub}, func(m []byte) ([]byte, error) { return ed25519.Sign(priv, m), nil }
}

func ecdsaKey(t *testing.T) (PublicKey, func([]byte) ([]byte, error)) {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := priv.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return PublicKey{KeyName(store), ECDSAP256, pub}, func(m []byte) ([]byte, error) {
		sum := sha256.Sum256(m)
		r, s, err := ecdsa.Sign(rand.Reader, priv, sum[:])
		if err != nil {
			return nil, err
		}
		sig := make([]byte, 64)
		r.FillBytes(sig[:32])
		s.FillBytes(sig[32:])
		return sig, nil
	}
}

func record(i int64) tlog.Hash { return tlog.RecordHash([]byte(strconv.FormatInt(i, 10))) }

func TestSeals(t *testing.T) {
	for _, make := range []func(*testing.T) (PublicKey, func([]byte) ([]byte, error)){ed25519Key, ecdsaKey} {
		key, sign := make(t)
		other, _ := make(t)
		h := Head{store, "keyd", 42, record(1)}
		seal, err := h.Sign(key, sign)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParsePublicKey(key.String() + "\n")
		if err != nil || again.String() != key.String() {
			t.Fatalf("the key's text does not come back: %v", err)
		}
		if got, err := Open(seal, again); err != nil || got != h {
			t.Errorf("opened %+v, %v", got, err)
		}
		if _, err := Open(seal, other); !errors.Is(err, ErrSeal) {
			t.Errorf("by another key: %v", err)
		}
		for i := range seal {
			bad := bytes.Clone(seal)
			bad[i] ^= 1
			if got, err := Open(bad, key); err == nil && got == h && !bytes.Equal(bad, seal) && i < len(h.Text()) {
				t.Errorf("byte %d changed: opens", i)
			}
		}
		if _, err := h.Sign(key, func([]byte) ([]byte, error) { return bytes.Repeat([]byte{1}, 64), nil }); !errors.Is(err, ErrSeal) {
			t.Errorf("a token that signs nonsense: %v", err)
		}
	}
}

// TestEd25519IsNotes: an Ed25519 key's text and seals are those of the Go checksum database's tools.
func TestEd25519IsNotes(t *testing.T) {
	key, sign := ed25519Key(t)
	v, err := note.NewVerifier(key.String())
	if err != nil {
		t.Fatal(err)
	}
	seal, err := Head{store, "keyd", 1, record(1)}.Sign(key, sign)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open(seal, note.VerifierList(v)); err != nil {
		t.Error(err)
	}
}

func TestMalformed(t *testing.T) {
	key, sign := ed25519Key(t)
	for _, text := range []string{"", "x", "kmsfs/audit/" + store + "/../1\n1\n" + record(1).String() + "\n", Head{store, "keyd", -1, record(1)}.Text(),
		Head{store, "keyd", 1, record(1)}.Text() + "more\n", "kmsfs/audit/" + store + "/keyd\n01\n" + record(1).String() + "\n"} {
		msg, err := note.Sign(&note.Note{Text: text + "\n"[:1-min(1, len(text))]}, signer{must(key.verifier()), sign})
		if err != nil {
			continue
		}
		if h, err := Open(msg, key); !errors.Is(err, ErrSeal) {
			t.Errorf("%q opens as %+v, %v", text, h, err)
		}
	}
	for _, text := range []string{"", "a+b", "a+00000000+", key.String()[1:], key.String() + "AA", "kmsfs/audit/x+00000000+AQ=="} {
		if _, err := ParsePublicKey(text); !errors.Is(err, ErrKey) {
			t.Errorf("key %q: %v", text, err)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestGrowth: for every pair of sizes up to 130 and random larger ones, the claim is accepted from its base and from nothing else, and the roots are tlog's.
func TestGrowth(t *testing.T) {
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range indexes {
			out = append(out, stored[i])
		}
		return out, nil
	})
	const most = 5000
	trees := []Tree{{}}
	for i := range int64(most) {
		stored = append(stored, must(tlog.StoredHashesForRecordHash(i, record(i), reader))...)
		tree := trees[i].Clone()
		tree.Add(record(i))
		trees = append(trees, tree)
	}
	check := func(from, to int64) {
		g := NewGrowth(trees[from])
		for i := from; i < to; i++ {
			g.Add(record(i))
		}
		c, err := g.Claim("s")
		if err != nil {
			t.Fatal(err)
		}
		if to > 0 && c.Root != must(tlog.TreeHash(to, reader)) {
			t.Fatalf("root of %d differs from tlog's", to)
		}
		old := Head{Stream: "s", Size: from, Root: trees[from].Root()}
		if err := c.Check(old); err != nil {
			t.Fatalf("from %d to %d: %v", from, to, err)
		}
		if from == 0 {
			return
		}
		old.Root[3] ^= 1
		if err := c.Check(old); !errors.Is(err, ErrFork) {
			t.Fatalf("from %d to %d, another old root: %v", from, to, err)
		}
		if max := 2 * (bitsOf(to) + 1); len(g.span) > max {
			t.Fatalf("from %d to %d: %d nodes are kept", from, to, len(g.span))
		}
	}
	for to := range int64(130) {
		for from := range to + 1 {
			check(from, to)
		}
	}
	rng := mrand.New(mrand.NewPCG(1, 2))
	for range 50 {
		to := rng.Int64N(most + 1)
		check(rng.Int64N(to+1), to)
	}
}

func bitsOf(n int64) int { return int(math.Log2(float64(n+1))) + 1 }

func TestClaims(t *testing.T) {
	var a, b Tree
	for i := range int64(5) {
		a.Add(record(i))
	}
	for i := range int64(7) {
		b.Add(record(i + 1))
	}
	old := Head{Stream: "s", Size: a.Size(), Root: a.Root()}
	for name, c := range map[string]Claim{
		"older":         {Stream: "s", From: 5, Size: 4, Root: b.Root()},
		"same, another": {Stream: "s", From: 5, Size: 5, Root: b.Root()},
		"from nothing":  {Stream: "s", From: 0, Size: 7, Root: b.Root()},
		"unproven":      {Stream: "s", From: 5, Size: 7, Root: b.Root()},
		"forged":        {Stream: "s", From: 5, Size: 7, Root: b.Root(), Proof: tlog.TreeProof{a.Root(), b.Root(), a.Root()}},
		"bad name":      {Stream: "../s", From: 5, Size: 5, Root: a.Root()},
	} {
		if err := c.Check(old); !errors.Is(err, ErrFork) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (Claim{Stream: "s", From: 5, Size: 5, Root: a.Root()}).Check(old); err != nil {
		t.Errorf("the same again: %v", err)
	}
}
