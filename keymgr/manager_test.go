package keymgr

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta/kv"
)

func TestKeyLifeAcrossRestart(t *testing.T) {
	f := newFixture(t)
	md := f.newKey(t, "alias/vol")
	if md.State != StateEnabled || !md.Enabled || md.Description != "a key" || md.Manager != "CUSTOMER" || md.Origin != "AWS_KMS" ||
		len(md.Versions) != 1 || md.Versions[0].Number != 1 || !reflect.DeepEqual(md.Aliases, []string{"alias/vol"}) ||
		md.ARN != "arn:aws:kms:local:000000000000:key/"+md.KeyID {
		t.Fatalf("metadata %+v", md)
	}
	blob := f.seal(t, "alias/vol", "secret", Context{"a": "b"})
	if err := f.DisableKey(t.Context(), me, md.KeyID); err != nil {
		t.Fatal(err)
	}
	f.reopen(t)
	for _, name := range []string{md.KeyID, md.ARN, "alias/vol", "arn:aws:kms:local:000000000000:alias/vol"} {
		got, err := f.DescribeKey(t.Context(), me, name)
		if err != nil || got.KeyID != md.KeyID || got.State != StateDisabled || got.Enabled {
			t.Errorf("describe %s after restart: %+v %v", name, got, err)
		}
	}
	if err := f.EnableKey(t.Context(), me, md.ARN); err != nil {
		t.Fatal(err)
	}
	f.reopen(t)
	out, err := f.Decrypt(t.Context(), me, DecryptInput{Blob: blob, Context: Context{"a": "b"}})
	if err != nil || string(out.Plaintext) != "secret" || out.KeyID != md.ARN || out.Version != 1 || out.MaterialID != md.Versions[0].MaterialID {
		t.Fatalf("decrypt after restart: %+v %v", out, err)
	}
}

func TestContexts(t *testing.T) {
	f := newFixture(t)
	md := f.newKey(t, "")
	long := strings.Repeat("v", MaxContext-2-2-1-2)
	for _, c := range []struct {
		seal, open Context
		err        error
	}{
		{Context{"a": "bc"}, Context{"a": "bc"}, nil},
		{Context{"a": "bc"}, Context{"ab": "c"}, ErrInvalidCiphertext},
		{Context{"a": "1", "b": "2", "c": "3"}, Context{"c": "3", "b": "2", "a": "1"}, nil},
		{Context{"a": "b"}, Context{"A": "b"}, ErrInvalidCiphertext},
		{Context{"a": "b"}, Context{"a": "B"}, ErrInvalidCiphertext},
		{Context{"a": "b"}, nil, ErrInvalidCiphertext},
		{nil, Context{}, nil},
		{Context{}, nil, nil},
		{nil, Context{"a": ""}, ErrInvalidCiphertext},
		{Context{"a": "b"}, Context{"a": "b", "c": "d"}, ErrInvalidCiphertext},
		{Context{"k": "\u00e9"}, Context{"k": "e\u0301"}, ErrInvalidCiphertext}, // no Unicode normalisation
		{Context{"k": long}, Context{"k": long}, nil},
	} {
		blob := f.seal(t, md.KeyID, "secret", c.seal)
		out, err := f.Decrypt(t.Context(), me, DecryptInput{Blob: blob, Context: c.open})
		if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) || err == nil && string(out.Plaintext) != "secret" {
			t.Errorf("sealed %.40v opened %.40v: %v, want %v", c.seal, c.open, err, c.err)
		}
		if err != nil && Message(err) != "" {
			t.Errorf("invalid ciphertext says %q", Message(err))
		}
	}
	for _, c := range []Context{{"": "x"}, {"k": long + "v"}, {"k": "\xff"}} {
		if _, err := f.Encrypt(t.Context(), me, EncryptInput{KeyID: md.KeyID, Plaintext: []byte("p"), Context: c}); !errors.Is(err, ErrValidation) {
			t.Errorf("context %.40v: %v, want ErrValidation", c, err)
		}
	}
}

func TestPlaintextSizes(t *testing.T) {
	f := newFixture(t)
	md := f.newKey(t, "")
	for _, n := range []int{1, 2, 4095, 4096} {
		p := bytes.Repeat([]byte{byte(n)}, n)
		out, err := f.Encrypt(t.Context(), me, EncryptInput{KeyID: md.KeyID, Plaintext: p})
		if err != nil || len(out.Blob) > MaxBlob {
			t.Fatalf("%d bytes: blob of %d, %v", n, len(out.Blob), err)
		}
		got, err := f.Decrypt(t.Context(), me, DecryptInput{Blob: out.Blob})
		if err != nil || !bytes.Equal(got.Plaintext, p) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for _, n := range []int{0, 4097} {
		if _, err := f.Encrypt(t.Context(), me, EncryptInput{KeyID: md.KeyID, Plaintext: make([]byte, n)}); !errors.Is(err, ErrValidation) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for _, n := range []int{-1, 0, 1025} {
		if _, err := f.GenerateDataKey(t.Context(), me, GenerateDataKeyInput{KeyID: md.KeyID, Bytes: n}); !errors.Is(err, ErrValidation) {
			t.Errorf("data key of %d bytes: %v", n, err)
		}
		if _, err := f.GenerateRandom(t.Context(), me, n); !errors.Is(err, ErrValidation) {
			t.Errorf("%d random bytes: %v", n, err)
		}
	}
	if b, err := f.GenerateRandom(t.Context(), me, 1024); err != nil || len(b) != 1024 || bytes.Count(b, []byte{0}) > 100 {
		t.Errorf("random: %d bytes, %v", len(b), err)
	}
}

func TestDataKeys(t *testing.T) {
	f := newFixture(t)
	md := f.newKey(t, "alias/x")
	in := GenerateDataKeyInput{KeyID: "alias/x", Bytes: 32, Context: Context{"kmsfs:volume": "v"}}
	a, err := f.GenerateDataKey(t.Context(), me, in)
	if err != nil || len(a.Plaintext) != 32 || a.KeyID != md.ARN {
		t.Fatalf("%+v %v", a, err)
	}
	b, err := f.GenerateDataKey(t.Context(), me, in)
	if err != nil || bytes.Equal(a.Plaintext, b.Plaintext) || bytes.Equal(a.Blob, b.Blob) {
		t.Fatalf("two data keys are equal (%v)", err)
	}
	out, err := f.Decrypt(t.Context(), me, DecryptInput{Blob: a.Blob, Context: in.Context, KeyID: "alias/x"})
	if err != nil || !bytes.Equal(out.Plaintext, a.Plaintext) {
		t.Fatalf("decrypt data key: %v", err)
	}
	w, err := f.GenerateDataKeyWithoutPlaintext(t.Context(), me, in)
	if err != nil || w.Plaintext != nil {
		t.Fatalf("without plaintext: %d bytes, %v", len(w.Plaintext), err)
	}
	if out, err = f.Decrypt(t.Context(), me, DecryptInput{Blob: w.Blob, Context: in.Context}); err != nil || len(out.Plaintext) != 32 {
		t.Fatalf("decrypt data key: %v", err)
	}
}

func TestReEncryptAndRotation(t *testing.T) {
	f := newFixture(t)
	a, b := f.newKey(t, "alias/a"), f.newKey(t, "alias/b")
	blob := f.seal(t, a.KeyID, "secret", Context{"c": "1"})
	out, err := f.ReEncrypt(t.Context(), me, ReEncryptInput{Blob: blob, SourceContext: Context{"c": "1"}, SourceKeyID: "alias/a",
		DestinationKeyID: "alias/b", DestinationContext: Context{"c": "2"}})
	if err != nil || out.SourceKeyID != a.ARN || out.KeyID != b.ARN {
		t.Fatalf("%+v %v", out, err)
	}
	got, err := f.Decrypt(t.Context(), me, DecryptInput{Blob: out.Blob, Context: Context{"c": "2"}, KeyID: b.ARN})
	if err != nil || string(got.Plaintext) != "secret" {
		t.Fatalf("decrypt: %v", err)
	}
	use := f.tape.last(2)[0]
	if use.Operation != "ReEncrypt" || use.Key != a.ARN || use.DestinationKey != b.ARN || use.Context["c"] != "1" || use.DestinationContext["c"] != "2" ||
		use.Version != 1 || use.DestinationVersion != 1 || use.Decision != Allow {
		t.Errorf("recorded %+v", use)
	}
	if _, err := f.ReEncrypt(t.Context(), me, ReEncryptInput{Blob: blob, SourceContext: Context{"c": "2"}, DestinationKeyID: "alias/b"}); !errors.Is(err, ErrInvalidCiphertext) {
		t.Errorf("wrong source context: %v", err)
	}
	for i := 2; i <= 4; i++ {
		if _, err := f.RotateKeyOnDemand(t.Context(), me, a.KeyID); err != nil {
			t.Fatal(err)
		}
		f.reopen(t)
		md, err := f.DescribeKey(t.Context(), me, a.KeyID)
		if err != nil || len(md.Versions) != i || md.Versions[i-1].MaterialID == md.Versions[i-2].MaterialID {
			t.Fatalf("rotation %d: %+v %v", i, md, err)
		}
		old, err := f.Decrypt(t.Context(), me, DecryptInput{Blob: blob, Context: Context{"c": "1"}})
		if err != nil || old.Version != 1 {
			t.Fatalf("old blob after rotation %d: %+v %v", i, old, err)
		}
		fresh, err := f.Decrypt(t.Context(), me, DecryptInput{Blob: f.seal(t, "alias/a", "new", nil)})
		if err != nil || fresh.Version != uint32(i) || fresh.MaterialID != md.Versions[i-1].MaterialID {
			t.Fatalf("new blob after rotation %d: %+v %v", i, fresh, err)
		}
	}
}

func TestKeyNames(t *testing.T) {
	f := newFixture(t)
	md := f.newKey(t, "alias/x")
	unknown := "11111111-2222-4333-8444-555555555555"
	for name, want := range map[string]struct {
		err error
		msg string
	}{
		"":                        {ErrValidation, "1 validation error detected: Value '' at 'keyId' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		strings.Repeat("k", 2049): {ErrValidation, "1 validation error detected: Value at 'keyId' failed to satisfy constraint: Member must have length less than or equal to 2048"},
		"fake-key-id":             {ErrNotFound, "Invalid keyId 'fake-key-id'"},
		unknown:                   {ErrNotFound, "Key 'arn:aws:kms:local:000000000000:key/" + unknown + "' does not exist"},
		strings.ToUpper(md.KeyID): {ErrNotFound, ""},
		"arn:aws:kms:local:000000000000:key/" + unknown:         {ErrNotFound, ""},
		"arn:aws:kms:eu-central-1:000000000000:key/" + md.KeyID: {ErrNotFound, "Invalid arn eu-central-1"},
		"arn:aws:kms:local:111111111111:key/" + md.KeyID:        {ErrNotFound, ""},
		"arn:aws:s3:::bucket":                                   {ErrInvalidArn, ""},
		"arn:":                                                  {ErrInvalidArn, ""},
		"arn:aws:kms:local:000000000000:thing/x":                {ErrInvalidArn, ""},
		"alias/nothing":                                         {ErrNotFound, "Alias arn:aws:kms:local:000000000000:alias/nothing is not found."},
		"alias/":                                                {ErrNotFound, ""},
		"arn:aws:kms:local:000000000000:alias/no":               {ErrNotFound, ""},
	} {
		_, err := f.Encrypt(t.Context(), me, EncryptInput{KeyID: name, Plaintext: []byte("p")})
		if !errors.Is(err, want.err) || want.msg != "" && Message(err) != want.msg {
			t.Errorf("key %.60q: %v", name, err)
		}
	}
	if err := f.DisableKey(t.Context(), me, "alias/x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("alias in a management operation: %v", err)
	}
}

func TestAliases(t *testing.T) {
	f := newFixture(t)
	md := f.newKey(t, "alias/one")
	for name, want := range map[string]error{
		"alias/aws/x": ErrNotAuthorized, "alias/kmsfs/x": ErrNotAuthorized, "alias/": ErrInvalidAlias, "alias/ä": ErrInvalidAlias, "alias/a b": ErrInvalidAlias,
		"noprefix": ErrValidation, "": ErrValidation, "alias/" + strings.Repeat("x", 251): ErrValidation, "alias/one": ErrAlreadyExists,
	} {
		if err := f.CreateAlias(t.Context(), me, name, md.KeyID); !errors.Is(err, want) {
			t.Errorf("alias %.40q: %v, want %v", name, err, want)
		}
		if name == "" {
			continue // a key without an alias
		}
		if _, err := f.CreateKey(t.Context(), me, CreateKeyInput{Alias: name}); !errors.Is(err, want) {
			t.Errorf("key with alias %.40q: %v, want %v", name, err, want)
		}
	}
	if list, err := f.ListKeys(t.Context(), me, Page{}); err != nil || len(list.Keys) != 1 {
		t.Errorf("refused keys are there: %+v %v", list, err)
	}
	for i := 2; i <= MaxAliases; i++ {
		if err := f.CreateAlias(t.Context(), me, fmt.Sprintf("alias/n/%d", i), md.ARN); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.CreateAlias(t.Context(), me, "alias/more", md.KeyID); !errors.Is(err, ErrLimit) {
		t.Errorf("alias %d: %v", MaxAliases+1, err)
	}
	if err := f.DeleteAlias(t.Context(), me, "alias/one"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.DescribeKey(t.Context(), me, "alias/one"); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted alias: %v", err)
	}
	if err := f.DeleteAlias(t.Context(), me, "alias/one"); !errors.Is(err, ErrNotFound) {
		t.Errorf("delete twice: %v", err)
	}
	other := f.newKey(t, "alias/one")
	list, err := f.ListAliases(t.Context(), me, other.KeyID, Page{})
	if err != nil || len(list.Aliases) != 1 || list.Aliases[0].Name != "alias/one" || list.Aliases[0].TargetKeyID != other.KeyID {
		t.Errorf("aliases of one key: %+v %v", list, err)
	}
}

func TestAliasForName(t *testing.T) {
	for name, want := range map[string]string{"secret": "alias/secret", "My Docs": "alias/My-Docs", "": "alias/volume", "aws/x": "alias/volume-aws/x", "ü": "alias/--"} {
		if got := AliasForName(name); got != want || checkNewAlias(got) != nil {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	if got := AliasForName(strings.Repeat("é", 400)); checkNewAlias(got) != nil {
		t.Errorf("long name: %q", got)
	}
}

func TestPages(t *testing.T) {
	f := newFixture(t)
	want := map[string]bool{}
	for i := range 7 {
		want[f.newKey(t, fmt.Sprintf("alias/%d", i)).KeyID] = true
	}
	for limit := 1; limit <= 8; limit++ {
		got, pages := map[string]bool{}, 0
		aliases := map[string]bool{}
		for page := (Page{Limit: limit}); ; pages++ {
			list, err := f.ListKeys(t.Context(), me, page)
			if err != nil || len(list.Keys) > limit {
				t.Fatalf("page: %d keys, %v", len(list.Keys), err)
			}
			for _, k := range list.Keys {
				got[k.KeyID] = true
			}
			if page.Marker = list.NextMarker; page.Marker == "" {
				break
			}
		}
		for page := (Page{Limit: limit}); ; {
			list, err := f.ListAliases(t.Context(), me, "", page)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range list.Aliases {
				aliases[a.Name] = true
			}
			if page.Marker = list.NextMarker; page.Marker == "" {
				break
			}
		}
		if !reflect.DeepEqual(got, want) || len(aliases) != 7 || pages != (7-1)/limit {
			t.Errorf("limit %d: %d keys, %d aliases, %d pages", limit, len(got), len(aliases), pages)
		}
	}
	for _, page := range []Page{{Limit: -1}, {Limit: 1001}} {
		if _, err := f.ListKeys(t.Context(), me, page); !errors.Is(err, ErrValidation) {
			t.Errorf("%+v: %v", page, err)
		}
	}
	for _, m := range []string{"x", "00", "6b", strings.Repeat("ff", 17), strings.Repeat("61", 17)} {
		if _, err := f.ListKeys(t.Context(), me, Page{Marker: m}); !errors.Is(err, ErrInvalidMarker) {
			t.Errorf("marker %q: %v", m, err)
		}
	}
}

func TestBlobs(t *testing.T) {
	f := newFixture(t)
	md, other := f.newKey(t, "alias/a"), f.newKey(t, "alias/b")
	blob := f.seal(t, md.KeyID, "secret", Context{"a": "b"})
	open := func(b []byte) error {
		out, err := f.Decrypt(t.Context(), me, DecryptInput{Blob: b, Context: Context{"a": "b"}})
		if err != nil && out.Plaintext != nil {
			t.Error("plaintext beside an error")
		}
		return err
	}
	for i := range blob {
		for bit := range 8 {
			bad := bytes.Clone(blob)
			bad[i] ^= 1 << bit
			err := open(bad)
			want := ErrInvalidCiphertext
			if 1 <= i && i < blobHeaderSize {
				want = ErrAccessDenied // a material id that is not known here
			}
			if !errors.Is(err, want) {
				t.Fatalf("bit %d of byte %d: %v", bit, i, err)
			}
		}
	}
	for n := range blob {
		if err := open(blob[:n]); err == nil || Code(err) == "KMSInternalException" {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	for _, b := range [][]byte{append(bytes.Clone(blob), 0), make([]byte, MaxBlob), bytes.Repeat([]byte{1}, MaxBlob), {1}} {
		if err := open(b); err == nil || Code(err) == "KMSInternalException" {
			t.Errorf("garbage of %d bytes: %v", len(b), err)
		}
	}
	for _, n := range []int{0, MaxBlob + 1} {
		if err := open(make([]byte, n)); !errors.Is(err, ErrValidation) {
			t.Errorf("blob of %d bytes: %v", n, err)
		}
	}
	// The header of another key's blob on this one's ciphertext.
	foreign := f.seal(t, other.KeyID, "secret", Context{"a": "b"})
	mixed := append(bytes.Clone(foreign[:blobHeaderSize]), blob[blobHeaderSize:]...)
	if err := open(mixed); !errors.Is(err, ErrInvalidCiphertext) {
		t.Errorf("mixed blob: %v", err)
	}
	for _, demanded := range []string{other.KeyID, other.ARN, "alias/b"} {
		if _, err := f.Decrypt(t.Context(), me, DecryptInput{Blob: blob, Context: Context{"a": "b"}, KeyID: demanded}); !errors.Is(err, ErrIncorrectKey) {
			t.Errorf("demanded %s: %v", demanded, err)
		}
	}
}

func TestTokenErrors(t *testing.T) {
	f := newFixture(t)
	md := f.newKey(t, "")
	blob := f.seal(t, md.KeyID, "secret", nil)
	for _, c := range []struct{ from, want error }{
		{hsm.ErrTokenAway, ErrKeyUnavailable}, {hsm.ErrTimeout, ErrDependencyTimeout}, {hsm.ErrTimeout, ErrKeyUnavailable}, {hsm.ErrKeyNotFound, ErrInvalidState},
		{hsm.ErrKeyMismatch, ErrInvalidState}, {hsm.ErrClosed, ErrKeyUnavailable}, {hsm.ErrLocked, ErrKeyUnavailable}, {hsm.ErrModule, ErrKeyUnavailable},
		{hsm.ErrPIN, ErrKeyUnavailable}, {hsm.ErrAuth, ErrInvalidCiphertext}, {hsm.ErrUnfit, ErrInternal}, {errors.New("odd"), ErrInternal},
		{context.DeadlineExceeded, ErrDependencyTimeout},
	} {
		f.token.failWith(func(string) error { return fmt.Errorf("call: %w", c.from) })
		_, err := f.Decrypt(t.Context(), me, DecryptInput{Blob: blob})
		if !errors.Is(err, c.want) {
			t.Errorf("%v gives %v, want %v", c.from, err, c.want)
		}
		if got := f.tape.last(1)[0]; got.Decision != Allow || got.Error != Code(err) || got.Key != md.ARN {
			t.Errorf("%v recorded as %+v", c.from, got)
		}
		if errors.Is(c.from, hsm.ErrAuth) || errors.Is(c.from, hsm.ErrKeyNotFound) {
			continue // not what making a key answers
		}
		if _, err := f.CreateKey(t.Context(), me, CreateKeyInput{}); err == nil {
			t.Errorf("key created although %v", c.from)
		}
	}
	f.token.failWith(nil)
	if list, err := f.ListKeys(t.Context(), me, Page{}); err != nil || len(list.Keys) != 1 {
		t.Errorf("%d keys, %v", len(list.Keys), err)
	}
	if out, err := f.Decrypt(t.Context(), me, DecryptInput{Blob: blob}); err != nil || string(out.Plaintext) != "secret" {
		t.Errorf("token is back: %v", err)
	}
}

func TestStoreErrors(t *testing.T) {
	f := newFixture(t)
	md := f.newKey(t, "")
	keys := len(f.token.keys)
	for _, c := range []struct{ update, sync, want error }{
		{kv.ErrNoSpace, nil, ErrKeyUnavailable}, {nil, kv.ErrFailed, ErrKeyUnavailable}, {kv.ErrCorrupt, nil, ErrInternal}, {kv.ErrClosed, nil, ErrKeyUnavailable},
	} {
		f.store.failWith(c.update, c.sync)
		_, err := f.CreateKey(t.Context(), me, CreateKeyInput{})
		if !errors.Is(err, c.want) {
			t.Errorf("create: %v, want %v", err, c.want)
		}
		if uses := f.tape.last(2); uses[0].Decision != Allow || uses[0].Error != "" || uses[1].Error != Code(err) {
			t.Errorf("recorded %+v", uses)
		}
		if _, err := f.Encrypt(t.Context(), me, EncryptInput{KeyID: md.KeyID, Plaintext: []byte("p")}); !errors.Is(err, c.want) {
			t.Errorf("encrypt without reserved uses: %v, want %v", err, c.want)
		}
		if err := f.AdvanceAnchor(t.Context(), blockcrypt.VolumeID{1}, Anchor{Generation: 1}); !errors.Is(err, c.want) {
			t.Errorf("anchor: %v, want %v", err, c.want)
		}
	}
	f.store.failWith(nil, nil)
	if n := len(f.token.keys); n != keys {
		t.Errorf("%d backing keys, want %d: a failed CreateKey left one behind", n, keys)
	}
	f.seal(t, md.KeyID, "p", nil)
}

// TestFailClosed: nothing is given out or changed while the key-use log cannot be written.
func TestFailClosed(t *testing.T) {
	f := newFixture(t)
	md := f.newKey(t, "alias/x")
	blob := f.seal(t, md.KeyID, "secret", nil)
	f.tape.failWith(errors.New("disk full"))
	ctx := t.Context()
	for op, run := range map[string]func() (any, error){
		"Decrypt": func() (any, error) {
			out, err := f.Decrypt(ctx, me, DecryptInput{Blob: blob})
			return out.Plaintext, err
		},
		"Decrypt garbage": func() (any, error) {
			out, err := f.Decrypt(ctx, me, DecryptInput{Blob: []byte{9}})
			return out.Plaintext, err
		},
		"Encrypt": func() (any, error) {
			out, err := f.Encrypt(ctx, me, EncryptInput{KeyID: md.KeyID, Plaintext: []byte("p")})
			return out.Blob, err
		},
		"GenerateDataKey": func() (any, error) {
			out, err := f.GenerateDataKey(ctx, me, GenerateDataKeyInput{KeyID: md.KeyID, Bytes: 32})
			return append(out.Plaintext, out.Blob...), err
		},
		"ReEncrypt": func() (any, error) {
			out, err := f.ReEncrypt(ctx, me, ReEncryptInput{Blob: blob, DestinationKeyID: md.KeyID})
			return out.Blob, err
		},
		"GenerateRandom": func() (any, error) { return f.GenerateRandom(ctx, me, 8) },
		"CreateKey":      func() (any, error) { _, err := f.CreateKey(ctx, me, CreateKeyInput{}); return []byte(nil), err },
		"DisableKey":     func() (any, error) { return []byte(nil), f.DisableKey(ctx, me, md.KeyID) },
		"CreateAlias":    func() (any, error) { return []byte(nil), f.CreateAlias(ctx, me, "alias/y", md.KeyID) },
		"PutVolume": func() (any, error) {
			return []byte(nil), f.PutVolume(ctx, me, VolumeRecord{ID: blockcrypt.VolumeID{1}, CMK: md.ARN})
		},
		"RestoreAnchor": func() (any, error) {
			return []byte(nil), f.RestoreAnchor(ctx, me, blockcrypt.VolumeID{1}, Anchor{}, "why")
		},
	} {
		got, err := run()
		if !errors.Is(err, ErrRecord) || !errors.Is(err, ErrKeyUnavailable) || len(got.([]byte)) != 0 {
			t.Errorf("%s: %d bytes, %v", op, len(got.([]byte)), err)
		}
	}
	f.tape.failWith(nil)
	list, err := f.ListKeys(ctx, me, Page{})
	if err != nil || len(list.Keys) != 1 || len(f.token.keys) != 1 {
		t.Errorf("%d keys, %d backing keys, %v", len(list.Keys), len(f.token.keys), err)
	}
	if got, err := f.DescribeKey(ctx, me, md.KeyID); err != nil || !got.Enabled || len(got.Aliases) != 1 {
		t.Errorf("key was changed: %+v %v", got, err)
	}
	if _, err := f.GetVolume(ctx, me, blockcrypt.VolumeID{1}); !errors.Is(err, ErrNotFound) {
		t.Errorf("volume was recorded: %v", err)
	}
}

func TestRecords(t *testing.T) {
	f := newFixture(t)
	md := f.newKey(t, "alias/x")
	by := Caller{UID: 1, GID: 2, PID: 3, Principal: "p", Program: "/bin/cat", Path: "/m/f", RequestID: "req", Who: me.Who}
	if _, err := f.GenerateDataKey(t.Context(), by, GenerateDataKeyInput{KeyID: "alias/x", Bytes: 16, Context: Context{"a": "b"}}); err != nil {
		t.Fatal(err)
	}
	got := f.tape.last(1)[0]
	want := Use{Time: got.Time, RequestID: "req", Operation: "GenerateDataKey", Principal: "p", UID: 1, GID: 2, PID: 3, Program: "/bin/cat", Path: "/m/f",
		Key: md.ARN, Version: 1, Material: md.Versions[0].MaterialID, Context: Context{"a": "b"}, Parameters: map[string]any{"keyId": "alias/x", "numberOfBytes": 16}, Decision: Allow, Reason: "resource-based policy, statement 1 (Enable IAM User Permissions)"}
	if !reflect.DeepEqual(got, want) || !got.Time.Equal(f.now()) {
		t.Errorf("recorded %+v\nwant     %+v", got, want)
	}
	if _, err := f.Encrypt(t.Context(), by, EncryptInput{KeyID: "alias/none", Plaintext: []byte("p")}); err == nil {
		t.Fatal("no such key")
	}
	if got := f.tape.last(1)[0]; got.Decision != Deny || got.Error != "NotFoundException" || got.Key != "alias/none" {
		t.Errorf("denial recorded as %+v", got)
	}
	if _, err := f.GenerateRandom(t.Context(), Caller{Who: me.Who}, 1); err != nil {
		t.Fatal(err)
	}
	if got := f.tape.last(1)[0]; len(got.RequestID) < 16 {
		t.Errorf("request id %q", got.RequestID)
	}
}

func TestForwarded(t *testing.T) {
	f := newFixture(t)
	md := f.newKey(t, "")
	volume := strings.Repeat("ab", 16)
	by := Caller{UID: 5, Via: ViaFileDaemon, Volume: volume, Who: policy.Principal{ARN: policy.UserARN(AccountID, "alice"), Account: AccountID,
		Unix: &policy.Unix{UID: 5, User: "alice"}}}
	own := Context{ContextVolume: volume, "x": "y"}
	if _, err := f.GenerateDataKey(t.Context(), by, GenerateDataKeyInput{KeyID: md.KeyID, Bytes: 32, Context: own}); err != nil {
		t.Errorf("own volume: %v", err)
	}
	blob := f.seal(t, md.KeyID, "p", Context{ContextVolume: "other"})
	for name, err := range map[string]error{
		"other volume": second(f.Decrypt(t.Context(), by, DecryptInput{Blob: blob, Context: Context{ContextVolume: "other"}})),
		"no volume":    second(f.Encrypt(t.Context(), by, EncryptInput{KeyID: md.KeyID, Plaintext: []byte("p")})),
		"unregistered": second(f.Encrypt(t.Context(), Caller{Via: ViaFileDaemon}, EncryptInput{KeyID: md.KeyID, Plaintext: []byte("p"), Context: own})),
		"away":         second(f.ReEncrypt(t.Context(), by, ReEncryptInput{Blob: f.seal(t, md.KeyID, "p", own), SourceContext: own, DestinationKeyID: md.KeyID})),
		"disable":      f.DisableKey(t.Context(), by, md.KeyID),
	} {
		if !errors.Is(err, ErrAccessDenied) {
			t.Errorf("%s: %v", name, err)
		}
		if got := f.tape.last(1)[0]; name == "disable" && got.Decision != Deny {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestUsesAreBounded(t *testing.T) {
	f := newFixture(t)
	md := f.newKey(t, "")
	f.uses.limit = usesReserved + 5
	enc := func() error {
		_, err := f.Encrypt(t.Context(), me, EncryptInput{KeyID: md.KeyID, Plaintext: []byte("p")})
		return err
	}
	syncs := f.store.syncs
	for range 10 {
		if err := enc(); err != nil {
			t.Fatal(err)
		}
	}
	if n := f.store.syncs - syncs; n != 1 {
		t.Errorf("%d syncs for 10 uses, want 1: reserved ahead, durably", n)
	}
	f.reopen(t) // what was reserved and not used is gone
	f.uses.limit = usesReserved + 5
	for i := range 5 {
		if err := enc(); err != nil {
			t.Fatalf("use %d of the last 5: %v", i, err)
		}
	}
	before := f.token.encrypt
	if err := enc(); !errors.Is(err, ErrLimit) || !strings.Contains(Message(err), "rotate") {
		t.Errorf("beyond the limit: %v", err)
	}
	if f.token.encrypt != before {
		t.Error("the token encrypted beyond the limit")
	}
	if _, err := f.RotateKeyOnDemand(t.Context(), me, md.KeyID); err != nil {
		t.Fatal(err)
	}
	if err := enc(); err != nil {
		t.Errorf("after rotation: %v", err)
	}
}

func TestVolumes(t *testing.T) {
	f := newFixture(t)
	md := f.newKey(t, "alias/v")
	id := blockcrypt.VolumeID{9}
	in := VolumeRecord{ID: id, Name: "docs", Path: "/vol", CMK: "alias/v", Superblock: []byte("{}")}
	if err := f.PutVolume(t.Context(), me, in); err != nil {
		t.Fatal(err)
	}
	f.reopen(t)
	got, err := f.GetVolume(t.Context(), me, id)
	want := VolumeRecord{ID: id, Name: "docs", Path: "/vol", CMK: md.ARN, Superblock: []byte("{}"), Created: f.now()}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v %v\nwant %+v", got, err, want)
	}
	if err := f.PutVolume(t.Context(), me, VolumeRecord{ID: blockcrypt.VolumeID{3}, CMK: md.KeyID}); err != nil {
		t.Fatal(err)
	}
	list, err := f.ListVolumes(t.Context(), me)
	if err != nil || len(list) != 2 || list[0].ID != (blockcrypt.VolumeID{3}) || !reflect.DeepEqual(list[1], want) {
		t.Errorf("%+v %v", list, err)
	}
	for name, v := range map[string]VolumeRecord{"no id": {CMK: md.ARN}, "no key": {ID: id}, "big": {ID: id, CMK: md.ARN, Superblock: make([]byte, MaxSuperblock+1)},
		"long name": {ID: id, CMK: md.ARN, Name: strings.Repeat("x", 1025)}} {
		if err := f.PutVolume(t.Context(), me, v); !errors.Is(err, ErrValidation) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := f.PutVolume(t.Context(), me, VolumeRecord{ID: id, CMK: "alias/none"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown key: %v", err)
	}
}

func TestAnchors(t *testing.T) {
	f := newFixture(t)
	id := blockcrypt.VolumeID{1}
	if _, err := f.Anchor(t.Context(), id); !errors.Is(err, ErrNotFound) {
		t.Fatalf("no anchor: %v", err)
	}
	steps := []struct {
		a   Anchor
		err error
	}{
		{Anchor{1, 10, [16]byte{1}, false}, nil},
		{Anchor{1, 10, [16]byte{1}, false}, nil},
		{Anchor{1, 10, [16]byte{1}, true}, nil},
		{Anchor{1, 10, [16]byte{2}, false}, ErrRollback},
		{Anchor{1, 9, [16]byte{1}, false}, ErrRollback},
		{Anchor{0, 11, [16]byte{1}, false}, ErrRollback},
		{Anchor{2, 9, [16]byte{1}, false}, ErrRollback},
		{Anchor{2, 10, [16]byte{1}, false}, nil},
		{Anchor{2, 12, [16]byte{3}, false}, nil},
	}
	current := Anchor{}
	for i, s := range steps {
		syncs := f.store.syncs
		err := f.AdvanceAnchor(t.Context(), id, s.a)
		if !errors.Is(err, s.err) || (err == nil) != (s.err == nil) {
			t.Errorf("step %d: %v, want %v", i, err, s.err)
		}
		if err == nil {
			current = s.a
			if f.store.syncs == syncs {
				t.Errorf("step %d: not durable", i)
			}
		}
		f.reopen(t)
		if got, err := f.Anchor(t.Context(), id); err != nil || got != current {
			t.Errorf("step %d: anchor %+v %v, want %+v", i, got, err, current)
		}
	}
	old := Anchor{1, 1, [16]byte{8}, true}
	if err := f.RestoreAnchor(t.Context(), me, id, old, ""); !errors.Is(err, ErrValidation) {
		t.Errorf("restore without a reason: %v", err)
	}
	if err := f.RestoreAnchor(t.Context(), me, id, old, "backup of monday"); err != nil {
		t.Fatal(err)
	}
	if got, err := f.Anchor(t.Context(), id); err != nil || got != old {
		t.Errorf("restored %+v %v", got, err)
	}
	if u := f.tape.last(1)[0]; u.Operation != "RestoreAnchor" || !strings.Contains(u.Detail, "backup of monday") || u.Decision != Allow {
		t.Errorf("recorded %+v", u)
	}
	if err := f.AdvanceAnchor(t.Context(), blockcrypt.VolumeID{}, old); !errors.Is(err, ErrValidation) {
		t.Errorf("no volume: %v", err)
	}
}

// TestRows: a row opens under its own key, store key and key store only, and holds no name in clear.
func TestRows(t *testing.T) {
	f := newFixture(t)
	f.newKey(t, "alias/visible-name")
	all := map[string][]byte{}
	if err := f.view(t.Context(), func(r kv.Reader) error {
		return r.Scan(t.Context(), nil, nil, 0, func(k, v []byte) bool {
			all[string(k)] = bytes.Clone(v)
			return true
		})
	}); err != nil {
		t.Fatal(err)
	}
	if len(all) != 5 { // info, generation, key, material, alias
		t.Fatalf("%d rows", len(all))
	}
	for k, v := range all {
		if strings.Contains(k+string(v), "visible-name") {
			t.Errorf("row %x shows a name", k)
		}
		for other := range all {
			if err := f.rows.open([]byte(other), v, new(map[string]any)); other != k && !errors.Is(err, blockcrypt.ErrAuth) {
				t.Errorf("row %x under key %x: %v", k, other, err)
			}
		}
		for i := range v {
			bad := bytes.Clone(v)
			bad[i] ^= 1
			if err := f.rows.open([]byte(k), bad, new(map[string]any)); err == nil {
				t.Errorf("row %x with byte %d changed opens", k, i)
			}
		}
	}
	wrong := f.cfg
	wrong.ID = [16]byte{8}
	if _, err := Open(t.Context(), wrong); !errors.Is(err, ErrInternal) {
		t.Errorf("another key store's id: %v", err)
	}
	wrong = f.cfg
	wrong.StoreKey = &blockcrypt.Key{1}
	if _, err := Open(t.Context(), wrong); !errors.Is(err, ErrInternal) {
		t.Errorf("another store key: %v", err)
	}
	if err := Format(t.Context(), f.cfg); !errors.Is(err, ErrAlreadyExists) {
		t.Errorf("format twice: %v", err)
	}
}

func TestCancelled(t *testing.T) {
	f := newFixture(t)
	md := f.newKey(t, "")
	release, err := f.lockChanges(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := f.DisableKey(ctx, me, md.KeyID); !errors.Is(err, context.DeadlineExceeded) || Code(err) != "DependencyTimeoutException" {
		t.Errorf("change while another one is stuck: %v", err)
	}
	if u := f.tape.last(1)[0]; u.Operation != "DisableKey" || u.Error != "DependencyTimeoutException" {
		t.Errorf("recorded %+v", u)
	}
	release()
	if err := f.DisableKey(t.Context(), me, md.KeyID); err != nil {
		t.Error(err)
	}
}

// TestDisableIsSeen: when DisableKey has returned, no use that starts succeeds, whatever was cached meanwhile.
func TestDisableIsSeen(t *testing.T) {
	f := newFixture(t)
	md := f.newKey(t, "")
	blob := f.seal(t, md.KeyID, "s", nil)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = f.Decrypt(t.Context(), me, DecryptInput{Blob: blob})
			}
		}
	}()
	for range 200 {
		if err := f.DisableKey(t.Context(), me, md.KeyID); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Decrypt(t.Context(), me, DecryptInput{Blob: blob}); !errors.Is(err, ErrDisabled) {
			t.Fatalf("decrypt after DisableKey: %v", err)
		}
		if err := f.EnableKey(t.Context(), me, md.KeyID); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Decrypt(t.Context(), me, DecryptInput{Blob: blob}); err != nil {
			t.Fatalf("decrypt after EnableKey: %v", err)
		}
	}
	close(stop)
	<-done
}
