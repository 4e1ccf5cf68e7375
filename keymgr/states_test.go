package keymgr

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// testMaterial is what is imported.
var testMaterial = blockcrypt.Key([]byte("0123456789abcdef0123456789abcdef"))

// setStateTo puts a key into a state, also one that nothing leads to here.
func (f *fixture) setStateTo(t *testing.T, keyID, state string) {
	t.Helper()
	id, ok := parseKeyUUID(keyID)
	if !ok {
		t.Fatalf("key id %s", keyID)
	}
	if state == StatePendingDeletion {
		if _, err := f.ScheduleKeyDeletion(t.Context(), me, keyID, 7); err != nil {
			t.Fatal(err)
		}
		return
	}
	err := f.update(t.Context(), func(tx kv.Txn) error {
		k, err := f.loadKey(t.Context(), tx, id)
		if err != nil {
			return err
		}
		rec := k.record
		rec.State = state
		if state == StatePendingImport {
			rec.Origin, rec.Import = OriginExternal, &importRecord{}
			commitment := blockcrypt.KeyCommitment(&testMaterial, "imported material", id[:])
			rec.Versions[0].Commitment = hex.EncodeToString(commitment[:])
		}
		return f.rows.put(tx, key(rowKey, id[:]), rec)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// subject is a key in some state, and what its operations need.
type subject struct {
	f               *fixture
	md, other       KeyMetadata
	blob, otherBlob []byte
	grant           NewGrant
}

func newSubject(t *testing.T) subject {
	f := newFixture(t)
	s := subject{f: f, md: f.newKey(t, "alias/x"), other: f.newKey(t, "alias/other")}
	s.blob, s.otherBlob = f.seal(t, s.md.KeyID, "s", nil), f.seal(t, s.other.KeyID, "s", nil)
	s.grant = f.grant(t, me, CreateGrantInput{KeyID: s.md.KeyID, Grantee: local("grantee").Who.ARN, Operations: []string{"Encrypt"}})
	return s
}

// keyOperations calls each operation on the subject's key.
var keyOperations = map[string]func(context.Context, subject) error{
	"Encrypt": func(ctx context.Context, s subject) error {
		return second(s.f.Encrypt(ctx, me, EncryptInput{KeyID: s.md.KeyID, Plaintext: []byte("p")}))
	},
	"Decrypt": func(ctx context.Context, s subject) error {
		return second(s.f.Decrypt(ctx, me, DecryptInput{Blob: s.blob}))
	},
	"ReEncryptFrom": func(ctx context.Context, s subject) error {
		return second(s.f.ReEncrypt(ctx, me, ReEncryptInput{Blob: s.blob, DestinationKeyID: s.other.KeyID}))
	},
	"ReEncryptTo": func(ctx context.Context, s subject) error {
		return second(s.f.ReEncrypt(ctx, me, ReEncryptInput{Blob: s.otherBlob, DestinationKeyID: s.md.KeyID}))
	},
	"GenerateDataKey": func(ctx context.Context, s subject) error {
		return second(s.f.GenerateDataKey(ctx, me, GenerateDataKeyInput{KeyID: s.md.KeyID, Bytes: 32}))
	},
	"GenerateDataKeyWithoutPlaintext": func(ctx context.Context, s subject) error {
		return second(s.f.GenerateDataKeyWithoutPlaintext(ctx, me, GenerateDataKeyInput{KeyID: "alias/x", Bytes: 32}))
	},
	"DescribeKey": func(ctx context.Context, s subject) error { return second(s.f.DescribeKey(ctx, me, "alias/x")) },
	"ListAliases": func(ctx context.Context, s subject) error {
		return second(s.f.ListAliases(ctx, me, s.md.KeyID, Page{}))
	},
	"CreateAlias": func(ctx context.Context, s subject) error { return s.f.CreateAlias(ctx, me, "alias/y", s.md.KeyID) },
	"UpdateAlias": func(ctx context.Context, s subject) error {
		return s.f.UpdateAlias(ctx, me, "alias/other", s.md.KeyID)
	},
	"DeleteAlias": func(ctx context.Context, s subject) error { return s.f.DeleteAlias(ctx, me, "alias/x") },
	"CreateGrant": func(ctx context.Context, s subject) error {
		return second(s.f.CreateGrant(ctx, me, CreateGrantInput{KeyID: s.md.KeyID, Grantee: local("x").Who.ARN, Operations: []string{"Encrypt"}}))
	},
	"ListGrants": func(ctx context.Context, s subject) error {
		return second(s.f.ListGrants(ctx, me, s.md.KeyID, GrantFilter{}, Page{}))
	},
	"RetireGrant": func(ctx context.Context, s subject) error {
		return s.f.RetireGrant(ctx, me, RetireGrantInput{KeyID: s.md.ARN, ID: s.grant.ID})
	},
	"RevokeGrant": func(ctx context.Context, s subject) error {
		return s.f.RevokeGrant(ctx, me, s.md.KeyID, s.grant.ID, false)
	},
	"GetKeyPolicy": func(ctx context.Context, s subject) error {
		return second(s.f.GetKeyPolicy(ctx, me, s.md.KeyID, ""))
	},
	"PutKeyPolicy": func(ctx context.Context, s subject) error {
		return s.f.PutKeyPolicy(ctx, me, s.md.KeyID, "", string(policy.DefaultPolicy(AccountID)), false)
	},
	"ListKeyPolicies": func(ctx context.Context, s subject) error {
		return second(s.f.ListKeyPolicies(ctx, me, s.md.KeyID, Page{}))
	},
	"EnableKey":  func(ctx context.Context, s subject) error { return s.f.EnableKey(ctx, me, s.md.KeyID) },
	"DisableKey": func(ctx context.Context, s subject) error { return s.f.DisableKey(ctx, me, s.md.KeyID) },
	"UpdateKeyDescription": func(ctx context.Context, s subject) error {
		return s.f.UpdateKeyDescription(ctx, me, s.md.KeyID, "new")
	},
	"TagResource": func(ctx context.Context, s subject) error {
		return s.f.TagResource(ctx, me, s.md.KeyID, []Tag{{"a", "b"}})
	},
	"UntagResource": func(ctx context.Context, s subject) error {
		return s.f.UntagResource(ctx, me, s.md.KeyID, []string{"a"})
	},
	"ListResourceTags": func(ctx context.Context, s subject) error {
		return second(s.f.ListResourceTags(ctx, me, s.md.KeyID, Page{}))
	},
	"ScheduleKeyDeletion": func(ctx context.Context, s subject) error {
		return second(s.f.ScheduleKeyDeletion(ctx, me, s.md.KeyID, 0))
	},
	"CancelKeyDeletion": func(ctx context.Context, s subject) error {
		return second(s.f.CancelKeyDeletion(ctx, me, s.md.KeyID))
	},
	"ConfirmKeyDeletion": func(ctx context.Context, s subject) error { return s.f.ConfirmKeyDeletion(ctx, me, s.md.KeyID) },
	"EnableKeyRotation": func(ctx context.Context, s subject) error {
		return s.f.EnableKeyRotation(ctx, me, s.md.KeyID, 0)
	},
	"DisableKeyRotation": func(ctx context.Context, s subject) error {
		return s.f.DisableKeyRotation(ctx, me, s.md.KeyID)
	},
	"GetKeyRotationStatus": func(ctx context.Context, s subject) error {
		return second(s.f.GetKeyRotationStatus(ctx, me, s.md.KeyID))
	},
	"ListKeyRotations": func(ctx context.Context, s subject) error {
		return second(s.f.ListKeyRotations(ctx, me, s.md.KeyID, true, Page{}))
	},
	"DestroyKeyVersion": func(ctx context.Context, s subject) error {
		id, _ := parseKeyUUID(s.md.KeyID)
		// In whatever state; what it fails for, imported material, the operation refuses by itself.
		_ = s.f.rotate(ctx, me, &Use{Operation: "RotateKey", Key: s.md.ARN}, RotationOnDemand, func() (*cmk, error) { return s.f.keyByID(ctx, id) })
		s.f.clock.advance(VersionGrace, VersionGrace)
		return second(s.f.DestroyKeyVersion(ctx, me, DestroyVersionInput{KeyID: s.md.KeyID, Version: 1}))
	},
	"GetParametersForImport": func(ctx context.Context, s subject) error {
		return second(s.f.GetParametersForImport(ctx, me, s.md.KeyID, WrapOAEPSHA256, "RSA_2048"))
	},
	"ImportKeyMaterial": func(ctx context.Context, s subject) error {
		id, _ := parseKeyUUID(s.md.KeyID)
		p := ImportParameters{}
		var err error
		if p.PublicKey, p.Token, err = s.f.imports.make(id, WrapOAEPSHA256, 2048, s.f.clock.now().Add(time.Hour)); err != nil {
			return err
		}
		return second(s.f.ImportKeyMaterial(ctx, me, ImportInput{KeyID: s.md.KeyID, Token: p.Token, Encrypted: wrap(p, WrapOAEPSHA256, testMaterial[:]), Model: DoesntExpire}))
	},
	"DeleteImportedKeyMaterial": func(ctx context.Context, s subject) error {
		return second(s.f.DeleteImportedKeyMaterial(ctx, me, s.md.KeyID))
	},
	"RotateKeyOnDemand": func(ctx context.Context, s subject) error { return second(s.f.RotateKeyOnDemand(ctx, me, s.md.KeyID)) },
}

// stateAfter is the state that an operation leaves behind where it is allowed; "" for the one before.
var stateAfter = map[string]string{"EnableKey": StateEnabled, "DisableKey": StateDisabled, "ScheduleKeyDeletion": StatePendingDeletion, "CancelKeyDeletion": StateDisabled,
	"ImportKeyMaterial": StateEnabled}

// TestStateMatrix runs every operation in every state and compares with the table: class, message, and the state afterwards.
func TestStateMatrix(t *testing.T) {
	for operation, is := range operations {
		row := is.states
		if row == nil {
			continue
		}
		run := keyOperations[operation]
		if run == nil {
			t.Errorf("%s is in the table and cannot be called", operation)
			continue
		}
		for i, state := range stateColumns {
			s := newSubject(t)
			s.f.setStateTo(t, s.md.KeyID, state)
			err := run(t.Context(), s)
			arn := s.md.ARN
			want := map[rule]struct {
				class   error
				message string
			}{
				fine:       {nil, ""},
				disabled:   {ErrDisabled, arn + " is disabled."},
				notPending: {ErrInvalidState, arn + " is not pending deletion."},
				wrongState: {ErrInvalidState, arn + map[string]string{StatePendingDeletion: " is pending deletion.", StatePendingImport: " is pending import.",
					StateUnavailable: " is unavailable."}[state]},
				ifImported: {ErrUnsupported, arn + " origin is AWS_KMS which is not valid for this operation."},
				notHere: {ErrUnsupported, arn + " origin is " + map[bool]string{true: "EXTERNAL", false: "AWS_KMS"}[state == StatePendingImport] +
					" which is not valid for this operation."},
			}[row[i]]
			if row[i] == ifImported && state == StatePendingImport {
				want.class, want.message = nil, ""
			}
			if !errors.Is(err, want.class) || Message(err) != want.message {
				t.Errorf("%s while %s: %v, want %v", operation, state, err, want)
			}
			after := state
			if err == nil && stateAfter[operation] != "" {
				after = stateAfter[operation]
			}
			if got, err := s.f.DescribeKey(t.Context(), me, s.md.KeyID); err != nil || got.State != after || got.Enabled != (after == StateEnabled) ||
				got.DeletionDate.IsZero() != (after != StatePendingDeletion) {
				t.Errorf("%s while %s leaves %+v %v", operation, state, got, err)
			}
		}
	}
	for operation := range keyOperations {
		if operations[operation].states == nil {
			t.Errorf("%s has no row in the table", operation)
		}
	}
}

// TestStateTable holds docs/API.md to the table.
func TestStateTable(t *testing.T) {
	doc, err := os.ReadFile("../docs/API.md")
	if err != nil {
		t.Fatal(err)
	}
	cell := [...]string{"yes", "DisabledException", "KMSInvalidStateException", "KMSInvalidStateException", "yes", "UnsupportedOperationException", "UnsupportedOperationException"}
	for _, operation := range slices.Sorted(maps.Keys(operations)) {
		row := operations[operation].states
		if row == nil {
			continue
		}
		var cells []string
		for i, r := range row {
			if r == ifImported && stateColumns[i] == StatePendingImport {
				r = fine
			}
			cells = append(cells, cell[r])
		}
		if row := fmt.Sprintf("| %s | %s |\n", operation, strings.Join(cells, " | ")); !strings.Contains(string(doc), row) {
			t.Errorf("docs/API.md lacks: %s", row)
		}
	}
}

// TestUpdateAliasFromAnyState: the key that loses its alias may be in any state.
func TestUpdateAliasFromAnyState(t *testing.T) {
	for _, state := range stateColumns {
		s := newSubject(t)
		s.f.setStateTo(t, s.md.KeyID, state)
		if err := s.f.UpdateAlias(t.Context(), me, "alias/x", s.other.KeyID); err != nil {
			t.Errorf("from a key that is %s: %v", state, err)
		}
		got, err := s.f.DescribeKey(t.Context(), me, "alias/x")
		if err != nil || got.KeyID != s.other.KeyID || !slices.Equal(got.Aliases, []string{"alias/other", "alias/x"}) {
			t.Errorf("%+v %v", got, err)
		}
		if old, err := s.f.DescribeKey(t.Context(), me, s.md.KeyID); err != nil || len(old.Aliases) != 0 {
			t.Errorf("%+v %v", old, err)
		}
	}
}
