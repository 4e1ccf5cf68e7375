package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/kmsfs/kmsfs/keymgr/server"
)

// seal returns the blob of a plaintext, and the id of the material that made it.
func (r *rig) seal(key, plaintext string) (blob []byte, material string) {
	r.t.Helper()
	blob = must[kms.EncryptOutput](r, &kms.EncryptInput{KeyId: aws.String(key), Plaintext: []byte(plaintext)}).CiphertextBlob
	out := must[kms.DecryptOutput](r, &kms.DecryptInput{CiphertextBlob: blob})
	if string(out.Plaintext) != plaintext {
		r.t.Fatalf("%q became %q", plaintext, out.Plaintext)
	}
	return blob, aws.ToString(out.KeyMaterialId)
}

// rotations lists all material of a key.
func (r *rig) rotations(key string) []types.RotationsListEntry {
	r.t.Helper()
	return must[kms.ListKeyRotationsOutput](r, &kms.ListKeyRotationsInput{KeyId: aws.String(key), IncludeKeyMaterial: types.IncludeKeyMaterialAllKeyMaterial}).Rotations
}

// TestRotation: what a key wrapped opens after three rotations, new blobs are of the new material, and the lists say so.
func TestRotation(t *testing.T) {
	onTokens(t, func(r *rig) {
		key := r.newMaterial().key
		first, material := r.seal(key, "first")
		want := []string{material}
		for range 3 {
			out := must[kms.RotateKeyOnDemandOutput](r, &kms.RotateKeyOnDemandInput{KeyId: aws.String(key)})
			if aws.ToString(out.KeyId) != "arn:aws:kms:local:000000000000:key/"+key {
				r.t.Errorf("rotated %s", aws.ToString(out.KeyId))
			}
			_, material := r.seal(key, "later")
			want = append(want, material)
		}
		out := must[kms.DecryptOutput](r, &kms.DecryptInput{CiphertextBlob: first, KeyId: aws.String(key)})
		if string(out.Plaintext) != "first" || aws.ToString(out.KeyMaterialId) != want[0] {
			r.t.Errorf("after 3 rotations: %q of %s", out.Plaintext, aws.ToString(out.KeyMaterialId))
		}
		moved := must[kms.ReEncryptOutput](r, &kms.ReEncryptInput{CiphertextBlob: first, DestinationKeyId: aws.String(key)})
		if aws.ToString(moved.SourceKeyMaterialId) != want[0] || aws.ToString(moved.DestinationKeyMaterialId) != want[3] {
			r.t.Errorf("ReEncrypt: %s to %s, want %s to %s", aws.ToString(moved.SourceKeyMaterialId), aws.ToString(moved.DestinationKeyMaterialId), want[0], want[3])
		}
		r.checkRotations(key, want)
	})
}

func (r *rig) checkRotations(key string, want []string) {
	r.t.Helper()
	all := r.rotations(key)
	for i, e := range all {
		state, kind := types.KeyMaterialStateNonCurrent, types.RotationTypeOnDemand
		if i == len(want)-1 {
			state = types.KeyMaterialStateCurrent
		}
		if i == 0 {
			kind = ""
		}
		if i >= len(want) || aws.ToString(e.KeyMaterialId) != want[i] || e.KeyMaterialState != state || e.RotationType != kind || (e.RotationDate != nil) != (i > 0) {
			r.t.Errorf("rotation %d: %s %s %s %v", i, aws.ToString(e.KeyMaterialId), e.KeyMaterialState, e.RotationType, e.RotationDate)
		}
	}
	var paged []string // without the first: it is no rotation
	for pages := kms.NewListKeyRotationsPaginator(r.sdk, &kms.ListKeyRotationsInput{KeyId: aws.String(key), Limit: aws.Int32(1)}); pages.HasMorePages(); {
		page, err := pages.NextPage(r.t.Context())
		if err != nil || len(page.Rotations) > 1 {
			r.t.Fatalf("a page of %v: %v", page, err)
		}
		for _, e := range page.Rotations {
			paged = append(paged, aws.ToString(e.KeyMaterialId))
		}
	}
	if len(all) != len(want) || fmt.Sprint(paged) != fmt.Sprint(want[1:]) {
		r.t.Errorf("%d materials, rotations %v, want %v", len(all), paged, want)
	}
}

// TestRotationByPeriod: periods and their limits, and what a key that is overdue does.
func TestRotationByPeriod(t *testing.T) {
	onTokens(t, func(r *rig) {
		key := r.newMaterial().key
		id := aws.String(key)
		_, before := r.seal(key, "x")
		status := func() *kms.GetKeyRotationStatusOutput {
			return must[kms.GetKeyRotationStatusOutput](r, &kms.GetKeyRotationStatusInput{KeyId: id})
		}
		if s := status(); s.KeyRotationEnabled || s.NextRotationDate != nil || s.RotationPeriodInDays != nil || aws.ToString(s.KeyId) != key {
			r.t.Errorf("at first: %+v", s)
		}
		for days, message := range map[int32]string{
			89: "Member must have value greater than or equal to 90", 2561: "Member must have value less than or equal to 2560", 0: "Member must have value greater than or equal to 90",
		} {
			_, err := r.call(&kms.EnableKeyRotationInput{KeyId: id, RotationPeriodInDays: aws.Int32(days)})
			if got := r.refusal(err); got.code != "ValidationException" || !bytes.Contains([]byte(got.message), []byte("'rotationPeriodInDays' failed to satisfy constraint: "+message)) {
				r.t.Errorf("%d days: %v", days, got)
			}
		}
		for _, days := range []int32{0, 2560, 90} { // 0: none given
			in := &kms.EnableKeyRotationInput{KeyId: id}
			if days != 0 {
				in.RotationPeriodInDays = aws.Int32(days)
			}
			must[kms.EnableKeyRotationOutput](r, in)
			if days == 0 {
				days = 365
			}
			s := status()
			if in := time.Until(aws.ToTime(s.NextRotationDate)); !s.KeyRotationEnabled || aws.ToInt32(s.RotationPeriodInDays) != days || in.Round(24*time.Hour) != time.Duration(days)*24*time.Hour {
				r.t.Errorf("every %d days: %+v, in %v", days, s, in)
			}
		}
		r.overdue(key, before)
		must[kms.DisableKeyRotationOutput](r, &kms.DisableKeyRotationInput{KeyId: id})
		if s := status(); s.KeyRotationEnabled || s.NextRotationDate != nil {
			r.t.Errorf("in the end: %+v", s)
		}
	})
}

// overdue lets a key's time pass while it is disabled.
func (r *rig) overdue(key, before string) {
	r.t.Helper()
	must[kms.DisableKeyOutput](r, &kms.DisableKeyInput{KeyId: aws.String(key)})
	r.clock.Store(int64(91 * 24 * time.Hour))
	err := r.EnableKey(r.t.Context(), self, key) // over the socket: the SDK's clock has not moved
	r.clock.Store(0)
	if err != nil {
		r.t.Fatal(err)
	}
	_, after := r.seal(key, "x")
	all := r.rotations(key)
	if after == before || len(all) != 2 || all[1].RotationType != types.RotationTypeAutomatic || aws.ToString(all[1].KeyMaterialId) != after {
		r.t.Errorf("a key that was overdue went from %s to %s, rotations %+v", before, after, all)
	}
}

// TestRotationLimit: AWS' limit holds where it is asked for, and nowhere else.
func TestRotationLimit(t *testing.T) {
	for _, limited := range []bool{true, false} {
		r := embedded(t, func(c *server.RunConfig) { c.AWSLimits = limited })
		m := r.newMaterial()
		for i := range 25 {
			if _, err := r.call(&kms.RotateKeyOnDemandInput{KeyId: aws.String(m.key)}); err != nil {
				t.Fatalf("rotation %d: %v", i+1, err)
			}
		}
		_, err := r.call(&kms.RotateKeyOnDemandInput{KeyId: aws.String(m.key)})
		var limit *types.LimitExceededException
		if errors.As(err, &limit) != limited {
			t.Errorf("26th rotation, limited %v: %v", limited, err)
		}
		if want := "The on-demand rotations limit has been reached for the given keyId. No more on-demand rotations can be performed for this key: " + m.arn; limited &&
			limit.ErrorMessage() != want {
			t.Errorf("%q, want %q", limit.ErrorMessage(), want)
		}
		if n := len(r.rotations(m.key)); n != map[bool]int{true: 26, false: 27}[limited] {
			t.Errorf("limited %v: %d materials", limited, n)
		}
	}
}
