package keymgr

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/hsm"
)

// wrap wraps material for an import.
func wrap(p ImportParameters, algorithm string, material []byte) []byte {
	public, err := x509.ParsePKIXPublicKey(p.PublicKey)
	if err != nil {
		panic(err)
	}
	h := sha256.New()
	if algorithm == WrapOAEPSHA1 {
		h = sha1.New()
	}
	out, err := rsa.EncryptOAEP(h, rand.Reader, public.(*rsa.PublicKey), material, nil)
	if err != nil {
		panic(err)
	}
	return out
}

func (f *fixture) external(t *testing.T) KeyMetadata {
	t.Helper()
	md, err := f.CreateKey(t.Context(), me, CreateKeyInput{Origin: OriginExternal})
	if err != nil || md.State != StatePendingImport || md.Origin != OriginExternal || md.Enabled || len(md.Versions) != 0 {
		t.Fatalf("%+v %v", md, err)
	}
	return md
}

func (f *fixture) parameters(t *testing.T, keyID string) ImportParameters {
	t.Helper()
	p, err := f.GetParametersForImport(t.Context(), me, keyID, WrapOAEPSHA256, "RSA_2048")
	if err != nil || len(p.Token) > MaxImport || p.ValidTo.Sub(f.clock.now()) > importWindow {
		t.Fatalf("token of %d bytes, valid to %v, %v", len(p.Token), p.ValidTo, err)
	}
	return p
}

// importer returns a function that imports material into a key, by parameters that it gets once.
func (f *fixture) importer(t *testing.T, keyID string) func(material []byte, change func(*ImportInput)) (Imported, error) {
	p := f.parameters(t, keyID)
	return func(material []byte, change func(*ImportInput)) (Imported, error) {
		in := ImportInput{KeyID: keyID, Token: p.Token, Encrypted: wrap(p, WrapOAEPSHA256, material), Model: DoesntExpire}
		if change != nil {
			change(&in)
		}
		return f.ImportKeyMaterial(t.Context(), me, in)
	}
}

func (f *fixture) stateOf(t *testing.T, keyID string) string {
	t.Helper()
	md, err := f.DescribeKey(t.Context(), me, keyID)
	if err != nil {
		t.Fatal(err)
	}
	return md.State
}

// TestImport: material comes, goes and comes again; only the same opens what it sealed, and nothing stays in the token.
func TestImport(t *testing.T) {
	f := newFixture(t)
	md := f.external(t)
	keys := len(f.token.keys)
	put := f.importer(t, md.KeyID)
	material := bytes.Repeat([]byte{7}, hsm.KeySize)
	first, err := put(material, nil)
	if err != nil || first.KeyID != md.ARN || f.stateOf(t, md.KeyID) != StateEnabled {
		t.Fatalf("%+v %v", first, err)
	}
	blob := f.seal(t, md.KeyID, "s", nil)
	f.reopen(t)
	opens := func() error { return second(f.Decrypt(t.Context(), me, DecryptInput{Blob: blob})) }
	if err := opens(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second has nothing to do
		if out, err := f.DeleteImportedKeyMaterial(t.Context(), me, md.KeyID); err != nil || out != first {
			t.Errorf("%+v %v", out, err)
		}
		if err := opens(); !errors.Is(err, ErrInvalidState) || Message(err) != md.ARN+" is pending import." {
			t.Errorf("without its material: %v", err)
		}
		if len(f.token.keys) != keys {
			t.Errorf("%d keys in the token, want %d", len(f.token.keys), keys)
		}
	}
	if _, err := put(bytes.Repeat([]byte{8}, hsm.KeySize), nil); !errors.Is(err, ErrIncorrectMaterial) {
		t.Errorf("another material: %v", err)
	}
	if again, err := put(material, nil); err != nil || again != first {
		t.Errorf("the same material again: %+v %v", again, err)
	}
	if err := opens(); err != nil {
		t.Error(err)
	}
	if _, err := put(material, nil); err != nil || len(f.token.keys) != keys+1 {
		t.Errorf("imported twice: %d keys in the token, %v", len(f.token.keys), err)
	}
	list, err := f.ListKeyRotations(t.Context(), me, md.KeyID, true, Page{})
	if err != nil || len(list.Rotations) != 1 || list.Rotations[0].Import != ImportedState || list.Rotations[0].MaterialID != first.MaterialID {
		t.Errorf("%+v %v", list, err)
	}
}

// TestImportRefusals: what is no import, and that it changes nothing.
func TestImportRefusals(t *testing.T) {
	f := newFixture(t)
	md, other := f.external(t), f.external(t)
	made := f.newKey(t, "")
	put := f.importer(t, md.KeyID)
	foreign := f.parameters(t, other.KeyID)
	material := bytes.Repeat([]byte{7}, hsm.KeySize)
	now := f.clock.now()
	expires := func(at time.Time) func(*ImportInput) {
		return func(in *ImportInput) { in.Model, in.ValidTo = Expires, at }
	}
	keys := len(f.token.keys)
	for name, c := range map[string]struct {
		material []byte
		change   func(*ImportInput)
		want     error
	}{
		"31 bytes":            {material[:31], nil, ErrIncorrectMaterial},
		"33 bytes":            {append(slices.Clone(material), 0), nil, ErrIncorrectMaterial},
		"flipped material":    {material, func(in *ImportInput) { in.Encrypted[9] ^= 1 }, ErrInvalidCiphertext},
		"short material":      {material, func(in *ImportInput) { in.Encrypted = in.Encrypted[:100] }, ErrInvalidCiphertext},
		"wrapped by SHA-1":    {material, func(in *ImportInput) { in.Encrypted = wrap(f.parameters(t, md.KeyID), WrapOAEPSHA1, material) }, ErrInvalidCiphertext},
		"flipped token":       {material, func(in *ImportInput) { in.Token[len(in.Token)-1] ^= 1 }, ErrInvalidImportToken},
		"no token":            {material, func(in *ImportInput) { in.Token = nil }, ErrValidation},
		"long token":          {material, func(in *ImportInput) { in.Token = make([]byte, MaxImport+1) }, ErrValidation},
		"garbage token":       {material, func(in *ImportInput) { in.Token = []byte("garbage") }, ErrInvalidImportToken},
		"another key's token": {material, func(in *ImportInput) { in.Token = foreign.Token }, ErrInvalidImportToken},
		"no end":              {material, expires(time.Time{}), ErrValidation},
		"end in the past":     {material, expires(now), ErrValidation},
		"end too far ahead":   {material, expires(now.Add(maxValidity + time.Second)), ErrValidation},
		"end for none":        {material, func(in *ImportInput) { in.ValidTo = now.Add(time.Hour) }, ErrValidation},
		"model":               {material, func(in *ImportInput) { in.Model = "x" }, ErrValidation},
		"type":                {material, func(in *ImportInput) { in.Type = "x" }, ErrValidation},
		"existing material":   {material, func(in *ImportInput) { in.Type = importExisting }, ErrIncorrectMaterial},
		"a material id":       {material, func(in *ImportInput) { in.MaterialID = "ab" }, ErrIncorrectMaterial},
		"a key made here":     {material, func(in *ImportInput) { in.KeyID = made.KeyID }, ErrUnsupported},
	} {
		_, err := put(c.material, func(in *ImportInput) {
			in.Token = slices.Clone(in.Token)
			if c.change != nil {
				c.change(in)
			}
		})
		if !errors.Is(err, c.want) || c.want == ErrInvalidCiphertext && Message(err) != "" {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	f.clock.advance(importWindow, importWindow)
	if _, err := put(material, nil); !errors.Is(err, ErrExpiredImportToken) {
		t.Errorf("a day later: %v", err)
	}
	if f.stateOf(t, md.KeyID) != StatePendingImport || len(f.token.keys) != keys {
		t.Errorf("left %s, %d keys in the token instead of %d", f.stateOf(t, md.KeyID), len(f.token.keys), keys)
	}
	for _, c := range []struct {
		algorithm, spec string
		want            error
	}{{"RSAES_PKCS1_V1_5", "RSA_2048", ErrUnsupported}, {"RSA_AES_KEY_WRAP_SHA_256", "RSA_2048", ErrUnsupported}, {WrapOAEPSHA256, "RSA_1024", ErrValidation}} {
		if _, err := f.GetParametersForImport(t.Context(), me, md.KeyID, c.algorithm, c.spec); !errors.Is(err, c.want) {
			t.Errorf("%s %s: %v", c.algorithm, c.spec, err)
		}
	}
}

// TestImportExpires: expired material opens nothing from that moment on, is destroyed by the next look at the clock, and can be imported again before and after that.
func TestImportExpires(t *testing.T) {
	for _, observed := range []bool{false, true} {
		f := newFixture(t)
		md := f.external(t)
		keys := len(f.token.keys)
		put := f.importer(t, md.KeyID)
		material := bytes.Repeat([]byte{7}, hsm.KeySize)
		end := f.clock.now().Add(time.Hour)
		if _, err := put(material, func(in *ImportInput) { in.Model, in.ValidTo = "", end }); err != nil {
			t.Fatal(err)
		}
		blob := f.seal(t, md.KeyID, "s", nil)
		if got, err := f.DescribeKey(t.Context(), me, md.KeyID); err != nil || got.Expiration != Expires || !got.ValidTo.Equal(end) {
			t.Errorf("%+v %v", got, err)
		}
		f.clock.advance(time.Hour-time.Second, time.Hour-time.Second)
		opens := func() error { return second(f.Decrypt(t.Context(), me, DecryptInput{Blob: blob})) }
		if err := errors.Join(opens(), f.Observe(t.Context(), me), opens()); err != nil {
			t.Error(err)
		}
		f.clock.advance(time.Second, time.Second)
		if err := opens(); !errors.Is(err, ErrInvalidState) || f.stateOf(t, md.KeyID) != StatePendingImport {
			t.Errorf("when it expires: %v, %s", err, f.stateOf(t, md.KeyID))
		}
		if observed {
			if err := f.Observe(t.Context(), me); err != nil || len(f.token.keys) != keys {
				t.Errorf("%d keys in the token, want %d; %v", len(f.token.keys), keys, err)
			}
			if u := f.tape.last(1)[0]; u.Operation != "DeleteExpiredKeyMaterial" || u.Key != md.ARN {
				t.Errorf("recorded %+v", u)
			}
		}
		if _, err := put(material, nil); err != nil || opens() != nil || len(f.token.keys) != keys+1 {
			t.Errorf("imported again: %v, %v, %d keys in the token", err, opens(), len(f.token.keys))
		}
		if err := f.Observe(t.Context(), me); err != nil || opens() != nil {
			t.Errorf("material without an end: %v, %v", err, opens())
		}
	}
}

// TestImportAndDeletion: a key without material is deleted as any other, and one whose deletion is cancelled waits for its material.
func TestImportAndDeletion(t *testing.T) {
	f := newFixture(t)
	md := f.external(t)
	put := f.importer(t, md.KeyID)
	if _, err := put(bytes.Repeat([]byte{7}, hsm.KeySize), nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		drop bool
		want string
	}{{false, StateDisabled}, {true, StatePendingImport}} {
		if _, err := f.ScheduleKeyDeletion(t.Context(), me, md.KeyID, 7); err != nil {
			t.Fatal(err)
		}
		if c.drop {
			if _, err := f.DeleteImportedKeyMaterial(t.Context(), me, md.KeyID); err != nil || f.stateOf(t, md.KeyID) != StatePendingDeletion {
				t.Errorf("%v, %s", err, f.stateOf(t, md.KeyID))
			}
		}
		if _, err := f.CancelKeyDeletion(t.Context(), me, md.KeyID); err != nil || f.stateOf(t, md.KeyID) != c.want {
			t.Errorf("cancelled: %v, %s, want %s", err, f.stateOf(t, md.KeyID), c.want)
		}
	}
	if _, err := f.ScheduleKeyDeletion(t.Context(), me, md.KeyID, 7); err != nil {
		t.Fatal(err)
	}
	f.pass(t, days(7))
	if _, err := f.DescribeKey(t.Context(), me, md.KeyID); !errors.Is(err, ErrNotFound) {
		t.Errorf("after its window: %v", err)
	}
}

// TestClosedToken: a token that takes no keys makes what needs it an unsupported operation.
func TestClosedToken(t *testing.T) {
	f := newFixture(t)
	md := f.external(t)
	put := f.importer(t, md.KeyID)
	f.token.closed = true
	for name, err := range map[string]error{
		"CreateKey":              second(f.CreateKey(t.Context(), me, CreateKeyInput{Origin: OriginExternal})),
		"GetParametersForImport": second(f.GetParametersForImport(t.Context(), me, md.KeyID, WrapOAEPSHA256, "RSA_2048")),
		"ImportKeyMaterial":      second(put(make([]byte, hsm.KeySize), nil)),
	} {
		if !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
