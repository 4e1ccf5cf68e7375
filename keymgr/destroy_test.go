package keymgr

import (
	"errors"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/hsm"
)

// rotated is a key with a blob of each of its versions, all of them old enough to be destroyed but the last.
func (f *fixture) rotated(t *testing.T, versions int) (md KeyMetadata, blobs [][]byte) {
	t.Helper()
	md = f.newKey(t, "alias/rotated")
	for i := range versions {
		if i > 0 {
			if _, err := f.RotateKeyOnDemand(t.Context(), me, md.KeyID); err != nil {
				t.Fatal(err)
			}
		}
		blobs = append(blobs, f.seal(t, md.KeyID, "p", nil))
	}
	f.clock.advance(VersionGrace, VersionGrace)
	md, err := f.DescribeKey(t.Context(), me, md.KeyID)
	if err != nil {
		t.Fatal(err)
	}
	return md, blobs
}

// opens fails the test unless exactly the wanted blobs open, and the others say which version is gone.
func (f *fixture) opens(t *testing.T, blobs [][]byte, want ...bool) {
	t.Helper()
	for i, blob := range blobs {
		_, err := f.Decrypt(t.Context(), me, DecryptInput{Blob: blob})
		switch {
		case want[i] && err != nil:
			t.Errorf("version %d: %v", i+1, err)
		case !want[i] && (!errors.Is(err, ErrInvalidState) || !strings.Contains(err.Error(), "was destroyed on")):
			t.Errorf("version %d: %v, want that it is destroyed", i+1, err)
		}
	}
}

// TestDestroyKeyVersion: what the version encrypted does not open any more, and says why; everything else does; the token has the key no more. It cannot be undone, and is recorded as an alert.
func TestDestroyKeyVersion(t *testing.T) {
	f := newFixture(t)
	md, blobs := f.rotated(t, 3)
	keys := len(f.token.keys)
	out, err := f.DestroyKeyVersion(t.Context(), me, DestroyVersionInput{KeyID: md.KeyID, Version: 2})
	if err != nil || out.Version != 2 || out.MaterialID != md.Versions[1].MaterialID || out.KeyID != md.ARN {
		t.Fatalf("%+v, %v", out, err)
	}
	u := f.tape.last(1)[0]
	if u.Operation != "DestroyKeyVersion" || !u.Alert || u.Decision != Allow || u.Version != 2 || u.Detail != "version 2" {
		t.Errorf("recorded %+v", u)
	}
	if len(f.token.keys) != keys-1 {
		t.Errorf("the token has %d keys, had %d", len(f.token.keys), keys)
	}
	f.opens(t, blobs, true, false, true)
	f.reopen(t)
	f.opens(t, blobs, true, false, true)
	if _, err := f.DestroyKeyVersion(t.Context(), me, DestroyVersionInput{KeyID: md.KeyID, Version: 2}); !errors.Is(err, ErrInvalidState) {
		t.Errorf("again: %v", err)
	}
	after, err := f.DescribeKey(t.Context(), me, md.KeyID)
	if err != nil || len(after.Versions) != 3 || after.Versions[1].Destroyed.IsZero() || !after.Versions[0].Destroyed.IsZero() {
		t.Errorf("%+v, %v", after.Versions, err)
	}
	if _, err := f.ReEncrypt(t.Context(), me, ReEncryptInput{Blob: blobs[1], DestinationKeyID: md.KeyID}); !errors.Is(err, ErrInvalidState) {
		t.Errorf("ReEncrypt: %v", err)
	}
	if _, err := f.Encrypt(t.Context(), me, EncryptInput{KeyID: md.KeyID, Plaintext: []byte("p")}); err != nil {
		t.Errorf("the newest version: %v", err)
	}
	var moved []BackingKey
	moved, err = f.ExportRows(t.Context(), me, "test", func(_, _ []byte) error { return nil })
	if err != nil || len(moved) != 2 {
		t.Errorf("a migration takes %d backing keys along, %v", len(moved), err)
	}
}

// TestDestroyRefused: whatever speaks against it, nothing is changed.
func TestDestroyRefused(t *testing.T) {
	f := newFixture(t)
	md, blobs := f.rotated(t, 3)
	one, two := VolumeRecord{ID: blockcrypt.VolumeID{1}, CMK: md.ARN, Wraps: []Wrap{{Key: md.ARN, Material: md.Versions[0].MaterialID}}}, VolumeRecord{ID: blockcrypt.VolumeID{2}, CMK: md.ARN}
	for _, v := range []VolumeRecord{one, two} {
		if err := f.PutVolume(t.Context(), me, v); err != nil {
			t.Fatal(err)
		}
	}
	both := []blockcrypt.VolumeID{one.ID, two.ID}
	for name, c := range map[string]struct {
		by    Caller
		in    DestroyVersionInput
		class error
		text  string
	}{
		"the newest":                {me, DestroyVersionInput{Version: 3, Clear: both}, ErrInvalidState, "rotate the key first"},
		"none":                      {me, DestroyVersionInput{Version: 0, Clear: both}, ErrValidation, "no version 0"},
		"no such version":           {me, DestroyVersionInput{Version: 4, Clear: both}, ErrValidation, "no version 4"},
		"a wrap of a volume key":    {me, DestroyVersionInput{Version: 1, Clear: both}, ErrInvalidState, one.ID.String() + " is wrapped by version 1"},
		"a volume not looked at":    {me, DestroyVersionInput{Version: 2, Clear: both[:1]}, ErrInvalidState, "not known what of volume " + two.ID.String()},
		"not the owner":             {local("stranger"), DestroyVersionInput{Version: 2, Clear: both}, ErrAccessDenied, ""},
		"asked for by a front end":  {forwarded(me, one.ID.String()), DestroyVersionInput{Version: 2, Clear: both}, ErrAccessDenied, "front ends"},
		"the token does not answer": {me, DestroyVersionInput{Version: 2, Clear: both}, ErrKeyUnavailable, ""},
	} {
		c.in.KeyID = md.KeyID
		if name == "the token does not answer" {
			f.token.failWith(func(string) error { return hsm.ErrTokenAway })
		}
		_, err := f.DestroyKeyVersion(t.Context(), c.by, c.in)
		f.token.failWith(nil)
		if !errors.Is(err, c.class) || !strings.Contains(Message(err), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := f.RotateKeyOnDemand(t.Context(), me, md.KeyID); err != nil {
		t.Fatal(err)
	}
	if _, err := f.DestroyKeyVersion(t.Context(), me, DestroyVersionInput{KeyID: md.KeyID, Version: 3, Clear: both}); !errors.Is(err, ErrInvalidState) || !strings.Contains(err.Error(), "less than") {
		t.Errorf("replaced a moment ago: %v", err)
	}
	f.opens(t, blobs, true, true, true)
	_, err := f.DestroyKeyVersion(t.Context(), me, DestroyVersionInput{KeyID: md.KeyID, Version: 1, Clear: both[1:], Lose: both[:1]})
	if err != nil {
		t.Fatalf("a volume that is given up: %v", err)
	}
	if u := f.tape.last(1)[0]; !strings.Contains(u.Detail, "lost as far as it is under it: "+one.ID.String()) {
		t.Errorf("recorded %+v", u)
	}
	f.opens(t, blobs, false, true, true)
}

// TestDestroyInterrupted: a version whose backing key went, and whose row did not come to say so, is finished by the same call.
func TestDestroyInterrupted(t *testing.T) {
	f := newFixture(t)
	md, blobs := f.rotated(t, 2)
	id, _ := parseKeyUUID(md.KeyID)
	k, err := f.keyByID(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.token.DestroyKey(t.Context(), k.versions[0].tokenKey); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Decrypt(t.Context(), me, DecryptInput{Blob: blobs[0]}); !errors.Is(err, ErrInvalidState) {
		t.Errorf("its backing key is gone: %v", err)
	}
	if _, err := f.DestroyKeyVersion(t.Context(), me, DestroyVersionInput{KeyID: md.KeyID, Version: 1}); err != nil {
		t.Error(err)
	}
	f.opens(t, blobs, false, true)
}
