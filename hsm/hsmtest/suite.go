// Package hsmtest is the suite that every implementation of hsm.Token passes, and
// a helper that makes real SoftHSM tokens for tests.
//
// It knows the contract only: what an implementation does beyond it (passphrases,
// reconnecting, restarting) is tested beside the implementation.
package hsmtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/hsm"
)

// seed makes plaintexts and choices repeatable; failures print it.
const seed = 20260101

// Run tests an implementation. open is called once for each part and returns a
// token that holds no keys of the suite; it arranges for its own cleaning up.
func Run(t *testing.T, open func(t *testing.T) hsm.Token) {
	for _, part := range []struct {
		name string
		run  func(t *testing.T, tok hsm.Token)
	}{
		{"Keys", testKeys},
		{"Sizes", testSizes},
		{"OutOfRange", testOutOfRange},
		{"WrongContext", testWrongContext},
		{"EveryByte", testEveryByte},
		{"Shapes", testShapes},
		{"FreshNonces", testFreshNonces},
		{"NotFound", testNotFound},
		{"Destroyed", testDestroyed},
		{"Arguments", testArguments},
		{"Context", testContext},
		{"Concurrent", testConcurrent},
		{"Info", testInfo},
		{"Signing", Signing},
		{"Import", testImport},
		{"Note", testNote},
		{"Closed", testClosed},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, open(t)) })
	}
}

// Context bounds one test.
func Context(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// NewKey makes a key in the token.
func NewKey(t testing.TB, tok hsm.Token) hsm.KeyID {
	t.Helper()
	id := hsm.NewKeyID()
	if _, err := tok.GenerateKey(Context(t), id, t.Name()); err != nil {
		t.Fatal(err)
	}
	return id
}

// Seal encrypts and fails the test if that does not work.
func Seal(t testing.TB, tok hsm.Token, id hsm.KeyID, plain, aad []byte) hsm.Sealed {
	t.Helper()
	s, err := tok.Encrypt(Context(t), id, plain, aad)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Opens checks that s decrypts to plain.
func Opens(t testing.TB, tok hsm.Token, id hsm.KeyID, s hsm.Sealed, plain, aad []byte) {
	t.Helper()
	got, err := tok.Decrypt(Context(t), id, s, aad)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, plain) {
		t.Fatalf("decrypted %x, want %x", got, plain)
	}
}

// Bench measures one decryption of a wrapped 32-byte key, by as many goroutines
// as there are processors.
func Bench(b *testing.B, tok hsm.Token) {
	id, aad := NewKey(b, tok), bytesOf(200)
	s := Seal(b, tok, id, bytesOf(32), aad)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := tok.Decrypt(b.Context(), id, s, aad); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func bytesOf(n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(seed, uint64(n)))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

func testKeys(t *testing.T, tok hsm.Token) {
	ctx := Context(t)
	a, b := hsm.NewKeyID(), hsm.NewKeyID()
	made := map[hsm.KeyID]hsm.KeyInfo{}
	for _, id := range []hsm.KeyID{a, b} {
		label := "schlüssel " + id.String()[:4]
		info, err := tok.GenerateKey(ctx, id, label)
		if err != nil {
			t.Fatal(err)
		}
		if info.ID != id || info.Label != label || len(info.CheckValue) != 3 {
			t.Errorf("made %+v for id %s and label %q", info, id, label)
		}
		made[id] = info
	}
	for id, want := range made {
		got, err := tok.FindKey(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
			t.Errorf("found %+v, made %+v", got, want)
		}
	}
	if bytes.Equal(made[a].CheckValue, made[b].CheckValue) {
		t.Errorf("two keys with check value %x", made[a].CheckValue)
	}
	_, err := tok.GenerateKey(ctx, a, "again")
	wantErr(t, "generate under a used id", err, hsm.ErrExists)
	if got, err := tok.FindKey(ctx, a); err != nil || !bytes.Equal(got.CheckValue, made[a].CheckValue) {
		t.Errorf("after a refused generate: %+v, %v, want %+v", got, err, made[a])
	}
	s := Seal(t, tok, a, []byte("one"), nil)
	_, err = tok.Decrypt(ctx, b, s, nil)
	wantErr(t, "decrypt under another key", err, hsm.ErrAuth)
}

func testSizes(t *testing.T, tok hsm.Token) {
	id := NewKey(t, tok)
	for _, n := range []int{1, 15, 16, 17, 31, 32, 33, 64, 255, 256, 1024, 4095, hsm.MaxPlaintext} {
		for _, a := range []int{0, 1, 16, 4096, hsm.MaxAAD} {
			plain, aad := bytesOf(n), bytesOf(a)
			keep := slices.Clone(plain)
			s := Seal(t, tok, id, plain, aad)
			if !bytes.Equal(plain, keep) {
				t.Fatalf("%d bytes: Encrypt changed its argument", n)
			}
			if len(s.Ciphertext) != n+hsm.TagSize || len(s.IV) == 0 || len(s.IV) > hsm.MaxIV {
				t.Errorf("%d bytes: ciphertext of %d, IV of %d bytes", n, len(s.Ciphertext), len(s.IV))
			}
			if n >= 16 && bytes.Contains(s.Ciphertext, plain) {
				t.Errorf("%d bytes: the ciphertext contains the plaintext", n)
			}
			Opens(t, tok, id, s, plain, aad)
		}
	}
}

func testOutOfRange(t *testing.T, tok hsm.Token) {
	id, ctx := NewKey(t, tok), Context(t)
	for _, c := range []struct{ plain, aad int }{{0, 0}, {hsm.MaxPlaintext + 1, 0}, {1, hsm.MaxAAD + 1}} {
		_, err := tok.Encrypt(ctx, id, bytesOf(c.plain), bytesOf(c.aad))
		wantErr(t, fmt.Sprintf("encrypt %d bytes with %d of AAD", c.plain, c.aad), err, hsm.ErrSize)
	}
	s := Seal(t, tok, id, []byte("x"), nil)
	_, err := tok.Decrypt(ctx, id, s, bytesOf(hsm.MaxAAD+1))
	wantErr(t, "decrypt with too long an AAD", err, hsm.ErrSize)
}

func testWrongContext(t *testing.T, tok hsm.Token) {
	id := NewKey(t, tok)
	plain, aad := bytesOf(32), []byte("volume=1,zone=2")
	s := Seal(t, tok, id, plain, aad)
	for _, wrong := range [][]byte{nil, {}, aad[:len(aad)-1], append(slices.Clone(aad), 0), []byte("volume=1,zone=3"), aad[1:]} {
		_, err := tok.Decrypt(Context(t), id, s, wrong)
		wantErr(t, fmt.Sprintf("decrypt with AAD %q", wrong), err, hsm.ErrAuth)
	}
	Opens(t, tok, id, s, plain, aad)
	none := Seal(t, tok, id, plain, nil)
	Opens(t, tok, id, none, plain, []byte{})
	_, err := tok.Decrypt(Context(t), id, none, aad)
	wantErr(t, "decrypt with an AAD where there was none", err, hsm.ErrAuth)
}

func testEveryByte(t *testing.T, tok hsm.Token) {
	id := NewKey(t, tok)
	plain, aad := bytesOf(32), bytesOf(24)
	s := Seal(t, tok, id, plain, aad)
	for _, part := range []struct {
		name string
		b    []byte
	}{{"IV", s.IV}, {"ciphertext and tag", s.Ciphertext}, {"AAD", aad}} {
		for i := range part.b {
			bit := byte(1) << (i % 8)
			part.b[i] ^= bit
			got, err := tok.Decrypt(Context(t), id, s, aad)
			if !errors.Is(err, hsm.ErrAuth) || len(got) != 0 {
				t.Errorf("byte %d of the %s changed by %#x: got %d bytes and %v, want %v", i, part.name, bit, len(got), err, hsm.ErrAuth)
			}
			part.b[i] ^= bit
		}
	}
	Opens(t, tok, id, s, plain, aad)
}

func testShapes(t *testing.T, tok hsm.Token) {
	id := NewKey(t, tok)
	good := Seal(t, tok, id, bytesOf(32), nil)
	for name, s := range map[string]hsm.Sealed{
		"empty":             {},
		"no mechanism":      {IV: good.IV, Ciphertext: good.Ciphertext},
		"another mechanism": {Mechanism: "RSA-OAEP", IV: good.IV, Ciphertext: good.Ciphertext},
		"no IV":             {Mechanism: good.Mechanism, Ciphertext: good.Ciphertext},
		"short IV":          {Mechanism: good.Mechanism, IV: good.IV[1:], Ciphertext: good.Ciphertext},
		"long IV":           {Mechanism: good.Mechanism, IV: append(slices.Clone(good.IV), 0), Ciphertext: good.Ciphertext},
		"no ciphertext":     {Mechanism: good.Mechanism, IV: good.IV},
		"tag only":          {Mechanism: good.Mechanism, IV: good.IV, Ciphertext: good.Ciphertext[32:]},
		"short tag":         {Mechanism: good.Mechanism, IV: good.IV, Ciphertext: good.Ciphertext[:len(good.Ciphertext)-1]},
		"long":              {Mechanism: good.Mechanism, IV: good.IV, Ciphertext: append(slices.Clone(good.Ciphertext), 0)},
		"huge":              {Mechanism: good.Mechanism, IV: good.IV, Ciphertext: make([]byte, hsm.MaxCiphertext+1)},
	} {
		_, err := tok.Decrypt(Context(t), id, s, nil)
		wantErr(t, name, err, hsm.ErrAuth)
	}
}

func testFreshNonces(t *testing.T, tok hsm.Token) {
	id := NewKey(t, tok)
	seen := map[string]bool{}
	for range 200 {
		s := Seal(t, tok, id, []byte("the same"), nil)
		if seen[string(s.IV)] {
			t.Fatalf("IV %x twice", s.IV)
		}
		seen[string(s.IV)] = true
	}
}

func testNotFound(t *testing.T, tok hsm.Token) {
	ctx, id := Context(t), hsm.NewKeyID()
	other := NewKey(t, tok)
	s := Seal(t, tok, other, []byte("x"), nil)
	_, err := tok.FindKey(ctx, id)
	wantErr(t, "find", err, hsm.ErrKeyNotFound)
	_, err = tok.Encrypt(ctx, id, []byte("x"), nil)
	wantErr(t, "encrypt", err, hsm.ErrKeyNotFound)
	_, err = tok.Decrypt(ctx, id, s, nil)
	wantErr(t, "decrypt", err, hsm.ErrKeyNotFound)
	wantErr(t, "destroy", tok.DestroyKey(ctx, id), hsm.ErrKeyNotFound)
	if _, err := tok.FindKey(ctx, id); !errors.Is(err, hsm.ErrKeyNotFound) || errors.Is(err, hsm.ErrTokenAway) {
		t.Errorf("find again: %v: asking for a key must not make it", err)
	}
}

func testDestroyed(t *testing.T, tok hsm.Token) {
	ctx, id := Context(t), NewKey(t, tok)
	other := NewKey(t, tok)
	s, so := Seal(t, tok, id, []byte("x"), nil), Seal(t, tok, other, []byte("y"), nil)
	if err := tok.DestroyKey(ctx, id); err != nil {
		t.Fatal(err)
	}
	_, err := tok.Decrypt(ctx, id, s, nil)
	wantErr(t, "decrypt", err, hsm.ErrKeyNotFound)
	_, err = tok.Encrypt(ctx, id, []byte("x"), nil)
	wantErr(t, "encrypt", err, hsm.ErrKeyNotFound)
	wantErr(t, "destroy again", tok.DestroyKey(ctx, id), hsm.ErrKeyNotFound)
	Opens(t, tok, other, so, []byte("y"), nil)
	// The id is free again, and the new key does not open what the old one sealed.
	if _, err := tok.GenerateKey(ctx, id, "second"); err != nil {
		t.Fatal(err)
	}
	_, err = tok.Decrypt(ctx, id, s, nil)
	wantErr(t, "decrypt under a new key of the same id", err, hsm.ErrAuth)
}

func testArguments(t *testing.T, tok hsm.Token) {
	for _, label := range []string{"", string(make([]byte, hsm.MaxLabel+1)), "\xff"} {
		_, err := tok.GenerateKey(Context(t), hsm.NewKeyID(), label)
		wantErr(t, fmt.Sprintf("label %.20q", label), err, hsm.ErrSize)
	}
	id := NewKey(t, tok)
	plain, aad := bytesOf(100), bytesOf(50)
	s := Seal(t, tok, id, plain, aad)
	clear(plain) // ours again
	clear(aad)
	Opens(t, tok, id, s, bytesOf(100), bytesOf(50))
}

func testContext(t *testing.T, tok hsm.Token) {
	id := NewKey(t, tok)
	s := Seal(t, tok, id, []byte("x"), nil)
	over, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	_, err := tok.Decrypt(over, id, s, nil)
	wantErr(t, "decrypt after the deadline", err, hsm.ErrTimeout)
	wantErr(t, "decrypt after the deadline", err, context.DeadlineExceeded)
	gone, cancel2 := context.WithCancel(t.Context())
	cancel2()
	_, err = tok.Encrypt(gone, id, []byte("x"), nil)
	wantErr(t, "encrypt when cancelled", err, context.Canceled)
	_, err = tok.Info(gone)
	wantErr(t, "info when cancelled", err, context.Canceled)
	Opens(t, tok, id, s, []byte("x"), nil)
}

func testConcurrent(t *testing.T, tok hsm.Token) {
	ids := []hsm.KeyID{NewKey(t, tok), NewKey(t, tok), NewKey(t, tok)}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(g)))
			for i := range 60 {
				if err := concurrentStep(t, tok, ids[rng.IntN(len(ids))], g, i, rng); err != nil {
					t.Errorf("seed %d, goroutine %d, step %d: %v", seed, g, i, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func concurrentStep(t *testing.T, tok hsm.Token, id hsm.KeyID, g, i int, rng *rand.Rand) error {
	ctx := t.Context()
	plain, aad := fmt.Appendf(nil, "secret %d of %d", i, g), fmt.Appendf(nil, "context %d/%d", g, i)
	s, err := tok.Encrypt(ctx, id, plain, aad)
	if err != nil {
		return err
	}
	if rng.IntN(4) == 0 {
		bad := slices.Clone(s.Ciphertext)
		bad[rng.IntN(len(bad))] ^= 0x80
		if _, err := tok.Decrypt(ctx, id, hsm.Sealed{Mechanism: s.Mechanism, IV: s.IV, Ciphertext: bad}, aad); !errors.Is(err, hsm.ErrAuth) {
			return fmt.Errorf("a bad blob gives %v", err)
		}
	}
	got, err := tok.Decrypt(ctx, id, s, aad)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, plain) {
		return fmt.Errorf("got %q, want %q", got, plain)
	}
	if rng.IntN(20) != 0 {
		return nil
	}
	own := hsm.NewKeyID()
	if _, err := tok.GenerateKey(ctx, own, "short-lived"); err != nil {
		return err
	}
	if _, err := tok.FindKey(ctx, own); err != nil {
		return err
	}
	return tok.DestroyKey(ctx, own)
}

func testInfo(t *testing.T, tok hsm.Token) {
	info, err := tok.Info(Context(t))
	if err != nil {
		t.Fatal(err)
	}
	if info.Kind != hsm.KindSoft && info.Kind != hsm.KindPKCS11 {
		t.Errorf("kind %q", info.Kind)
	}
	if info.HSM != (info.Kind == hsm.KindPKCS11) {
		t.Errorf("kind %q says HSM=%t", info.Kind, info.HSM)
	}
	if info.Label == "" || info.Serial == "" || info.Model == "" || len(info.Mechanisms) == 0 {
		t.Errorf("incomplete: %+v", info)
	}
	key, err := tok.FindKey(Context(t), NewKey(t, tok))
	if err != nil {
		t.Fatal(err)
	}
	if inHSM := key.Local && key.Sensitive && key.NeverExtractable; inHSM != info.HSM {
		t.Errorf("a key of a token with HSM=%t: %+v", info.HSM, key)
	}
	if s := Seal(t, tok, key.ID, []byte("x"), nil); s.Mechanism != info.Mechanisms[0] {
		t.Errorf("sealed by %q, the token says %q", s.Mechanism, info.Mechanisms)
	}
}

func testClosed(t *testing.T, tok hsm.Token) {
	ctx, id := Context(t), NewKey(t, tok)
	s := Seal(t, tok, id, []byte("x"), nil)
	for range 2 { // the second Close does nothing
		if err := tok.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, err := tok.Encrypt(ctx, id, []byte("x"), nil)
	wantErr(t, "encrypt", err, hsm.ErrClosed)
	_, err = tok.Decrypt(ctx, id, s, nil)
	wantErr(t, "decrypt", err, hsm.ErrClosed)
	_, err = tok.FindKey(ctx, id)
	wantErr(t, "find", err, hsm.ErrClosed)
	_, err = tok.GenerateKey(ctx, hsm.NewKeyID(), "x")
	wantErr(t, "generate", err, hsm.ErrClosed)
	wantErr(t, "destroy", tok.DestroyKey(ctx, id), hsm.ErrClosed)
	_, err = tok.Info(ctx)
	wantErr(t, "info", err, hsm.ErrClosed)
}
