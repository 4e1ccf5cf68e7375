package conformance

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// parameters gets parameters for a key and wraps material by them.
func (r *rig) parameters(key string, material []byte) (token, encrypted []byte) {
	r.t.Helper()
	p := must[kms.GetParametersForImportOutput](r, &kms.GetParametersForImportInput{KeyId: aws.String(key), WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256,
		WrappingKeySpec: types.WrappingKeySpecRsa2048})
	if in := time.Until(aws.ToTime(p.ParametersValidTo)); in <= 23*time.Hour || in > 24*time.Hour {
		r.t.Errorf("parameters are valid for %v", in)
	}
	public, err := x509.ParsePKIXPublicKey(p.PublicKey)
	if err != nil {
		r.t.Fatal(err)
	}
	if encrypted, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), material, nil); err != nil {
		r.t.Fatal(err)
	}
	return p.ImportToken, encrypted
}

// external makes a key that waits for its material.
func (r *rig) external() string {
	r.t.Helper()
	md := must[kms.CreateKeyOutput](r, &kms.CreateKeyInput{Origin: types.OriginTypeExternal}).KeyMetadata
	if md.KeyState != types.KeyStatePendingImport || md.Enabled || md.Origin != types.OriginTypeExternal {
		r.t.Errorf("made %+v", md)
	}
	return aws.ToString(md.KeyId)
}

// addImport makes the key, and the files for the command line.
func (r *rig) addImport(m *material) {
	r.t.Helper()
	dir := r.t.TempDir()
	m.external, m.importToken, m.wrapped = r.external(), filepath.Join(dir, "token"), filepath.Join(dir, "wrapped")
	m.token, m.encrypted = r.parameters(m.external, bytes.Repeat([]byte{7}, 32))
	if err := errors.Join(os.WriteFile(m.importToken, m.token, 0o600), os.WriteFile(m.wrapped, m.encrypted, 0o600)); err != nil {
		r.t.Fatal(err)
	}
}

// TestImportedMaterial: the way of key material into the token, out of it and back; the whole of it with AWS' client.
func TestImportedMaterial(t *testing.T) {
	onTokens(t, func(r *rig) {
		key, other := r.external(), r.external()
		id := aws.String(key)
		token, encrypted := r.parameters(key, bytes.Repeat([]byte{1}, 32))
		put := &kms.ImportKeyMaterialInput{KeyId: id, ImportToken: token, EncryptedKeyMaterial: encrypted, ValidTo: aws.Time(time.Now().Add(time.Hour))}
		first := must[kms.ImportKeyMaterialOutput](r, put)
		md := must[kms.DescribeKeyOutput](r, &kms.DescribeKeyInput{KeyId: id}).KeyMetadata
		if md.KeyState != types.KeyStateEnabled || md.ExpirationModel != types.ExpirationModelTypeKeyMaterialExpires || md.ValidTo == nil ||
			aws.ToString(md.CurrentKeyMaterialId) != aws.ToString(first.KeyMaterialId) {
			r.t.Errorf("with material: %+v", md)
		}
		blob, material := r.seal(key, "sealed")
		if material != aws.ToString(first.KeyMaterialId) {
			r.t.Errorf("sealed by %s, imported %s", material, aws.ToString(first.KeyMaterialId))
		}
		must[kms.DeleteImportedKeyMaterialOutput](r, &kms.DeleteImportedKeyMaterialInput{KeyId: id})
		_, err := r.call(&kms.DecryptInput{CiphertextBlob: blob})
		if got := r.refusal(err); got != (refusal{"KMSInvalidStateException", aws.ToString(first.KeyId) + " is pending import.", 400}) {
			r.t.Errorf("without material: %v", got)
		}
		r.importFaults(put, other)
		must[kms.ImportKeyMaterialOutput](r, put)
		if out := must[kms.DecryptOutput](r, &kms.DecryptInput{CiphertextBlob: blob}); string(out.Plaintext) != "sealed" {
			r.t.Errorf("opened %q", out.Plaintext)
		}
		for _, in := range []any{&kms.RotateKeyOnDemandInput{KeyId: id}, &kms.EnableKeyRotationInput{KeyId: id}} {
			_, err := r.call(in)
			if got := r.refusal(err); got.code != "UnsupportedOperationException" || got.message != aws.ToString(first.KeyId)+" origin is EXTERNAL which is not valid for this operation." {
				r.t.Errorf("%T: %v", in, got)
			}
		}
		if all := r.rotations(key); len(all) != 1 || all[0].ImportState != types.ImportStateImported || all[0].ExpirationModel != types.ExpirationModelTypeKeyMaterialExpires {
			r.t.Errorf("materials %+v", all)
		}
	})
}

// importFaults tries what is no import of the material that good brings.
func (r *rig) importFaults(good *kms.ImportKeyMaterialInput, other string) {
	r.t.Helper()
	token, encrypted := r.parameters(aws.ToString(good.KeyId), bytes.Repeat([]byte{2}, 32))
	flipped := bytes.Clone(good.EncryptedKeyMaterial)
	flipped[0] ^= 1
	for name, c := range map[string]struct {
		change func(*kms.ImportKeyMaterialInput)
		target any
	}{
		"another material": {func(in *kms.ImportKeyMaterialInput) { in.ImportToken, in.EncryptedKeyMaterial = token, encrypted }, new(*types.IncorrectKeyMaterialException)},
		"flipped":          {func(in *kms.ImportKeyMaterialInput) { in.EncryptedKeyMaterial = flipped }, new(*types.InvalidCiphertextException)},
		"another token":    {func(in *kms.ImportKeyMaterialInput) { in.ImportToken = token }, new(*types.InvalidCiphertextException)},
		"garbage token":    {func(in *kms.ImportKeyMaterialInput) { in.ImportToken = []byte("garbage") }, new(*types.InvalidImportTokenException)},
		"another key":      {func(in *kms.ImportKeyMaterialInput) { in.KeyId = aws.String(other) }, new(*types.InvalidImportTokenException)},
	} {
		in := *good
		c.change(&in)
		_, err := r.call(&in)
		if !errors.As(err, c.target) || r.refusal(err).status != 400 {
			r.t.Errorf("%s: %v", name, err)
		}
	}
	in := *good
	in.ValidTo = nil
	_, err := r.call(&in)
	if got := r.refusal(err); got != (refusal{"ValidationException", "A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES", 400}) {
		r.t.Errorf("no end: %v", got)
	}
}
