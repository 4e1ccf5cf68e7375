package conformance

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/kmsfs/kmsfs/keymgr"
)

// dry sets DryRun in an input that has it.
func dry(in any) bool {
	f := reflect.ValueOf(in).Elem().FieldByName("DryRun")
	if !f.IsValid() {
		return false
	}
	f.Set(reflect.ValueOf(aws.Bool(true)))
	return true
}

// TestDryRun: every operation that has DryRun says that it would have succeeded, and has done nothing; or is refused as it would have been.
func TestDryRun(t *testing.T) {
	r := embedded(t)
	m := r.newMaterial()
	var with []string
	for operation, in := range m.inputs() {
		if !dry(in) {
			continue
		}
		with = append(with, operation)
		_, err := r.call(in)
		var would *types.DryRunOperationException
		want := refusal{"DryRunOperationException", "The request would have succeeded, but the DryRun option is set.", http.StatusBadRequest}
		if got := r.refusal(err); got != want || !errors.As(err, &would) {
			t.Errorf("%s: %v, want %v", operation, got, want)
		}
	}
	slices.Sort(with)
	if want := []string{"CreateGrant", "Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncrypt", "ReEncryptFrom", "ReEncryptTo", "RetireGrant",
		"RevokeGrant"}; !slices.Equal(with, want) {
		t.Errorf("%v have DryRun, want %v", with, want)
	}
	if got := must[kms.ListGrantsOutput](r, &kms.ListGrantsInput{KeyId: aws.String(m.key)}).Grants; len(got) != 1 || aws.ToString(got[0].GrantId) != m.grant.ID {
		t.Errorf("grants afterwards: %v", got)
	}
	must[kms.DisableKeyOutput](r, &kms.DisableKeyInput{KeyId: aws.String(m.key)})
	in := m.inputs()["Decrypt"]
	dry(in)
	_, err := r.call(in)
	if got := r.refusal(err); got.code != "DisabledException" {
		t.Errorf("dry, of a disabled key: %v", got)
	}
}

// TestTypedErrors: the SDK makes its own error types of ours.
func TestTypedErrors(t *testing.T) {
	r := embedded(t)
	m := r.newMaterial()
	key := aws.String(m.key)
	broken := append([]byte{}, m.blob...)
	broken[len(broken)-1] ^= 1
	tags := func(n int) (out []types.Tag) {
		for i := range n {
			out = append(out, types.Tag{TagKey: aws.String(fmt.Sprint("t", i)), TagValue: aws.String("")})
		}
		return out
	}
	aliases := must[kms.CreateKeyOutput](r, &kms.CreateKeyInput{}).KeyMetadata.KeyId
	for i := range keymgr.MaxAliases {
		must[kms.CreateAliasOutput](r, &kms.CreateAliasInput{AliasName: aws.String(fmt.Sprint("alias/n-", i)), TargetKeyId: aliases})
	}
	grant := &kms.CreateGrantInput{KeyId: key, GranteePrincipal: aws.String(root), Operations: []types.GrantOperation{types.GrantOperationDecrypt}}
	ask := *grant
	ask.Operations = []types.GrantOperation{types.GrantOperationSign}
	for name, c := range map[string]struct {
		in      any
		target  any
		code    string
		message string // "*": any
	}{
		"unknown key": {&kms.DescribeKeyInput{KeyId: aws.String("aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee")}, new(*types.NotFoundException), "",
			"Key 'arn:aws:kms:local:000000000000:key/aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee' does not exist"},
		"ARN of S3":        {&kms.DescribeKeyInput{KeyId: aws.String("arn:aws:s3:::x")}, new(*types.InvalidArnException), "", "*"},
		"alias taken":      {&kms.CreateAliasInput{AliasName: aws.String("alias/x-" + m.key), TargetKeyId: key}, new(*types.AlreadyExistsException), "", "*"},
		"alias characters": {&kms.CreateAliasInput{AliasName: aws.String("alias/a b"), TargetKeyId: key}, new(*types.InvalidAliasNameException), "", "*"},
		"alias of AWS":     {&kms.CreateAliasInput{AliasName: aws.String("alias/aws/s3"), TargetKeyId: key}, nil, "NotAuthorizedException", "*"},
		"51st alias":       {&kms.CreateAliasInput{AliasName: aws.String("alias/n-50"), TargetKeyId: aliases}, new(*types.LimitExceededException), "", "*"},
		"broken blob":      {&kms.DecryptInput{CiphertextBlob: broken}, new(*types.InvalidCiphertextException), "", ""},
		"wrong context":    {&kms.DecryptInput{CiphertextBlob: m.blob, EncryptionContext: map[string]string{"a": "b"}}, new(*types.InvalidCiphertextException), "", ""},
		"another key": {&kms.DecryptInput{CiphertextBlob: m.blob, KeyId: aws.String(m.other)}, new(*types.IncorrectKeyException), "",
			"The key ID in the request does not identify a CMK that can perform this operation."},
		"another key, ReEncrypt": {&kms.ReEncryptInput{CiphertextBlob: m.blob, SourceKeyId: aws.String(m.other), DestinationKeyId: key}, new(*types.IncorrectKeyException), "", "*"},
		"neither length":         {&kms.GenerateDataKeyInput{KeyId: key}, nil, "ValidationException", "*"},
		"both lengths":           {&kms.GenerateDataKeyInput{KeyId: key, KeySpec: types.DataKeySpecAes128, NumberOfBytes: aws.Int32(16)}, nil, "ValidationException", "*"},
		"empty plaintext":        {&kms.EncryptInput{KeyId: key, Plaintext: []byte{}}, nil, "ValidationException", "*"},
		"long plaintext":         {&kms.EncryptInput{KeyId: key, Plaintext: make([]byte, 4097)}, nil, "ValidationException", "*"},
		"long blob":              {&kms.DecryptInput{CiphertextBlob: make([]byte, 6145)}, nil, "ValidationException", "*"},
		"long context":           {&kms.EncryptInput{KeyId: key, Plaintext: []byte("p"), EncryptionContext: map[string]string{"a": strings.Repeat("b", 8<<10)}}, nil, "ValidationException", "*"},
		"grant token":            {&kms.EncryptInput{KeyId: key, Plaintext: []byte("p"), GrantTokens: []string{"x"}}, new(*types.InvalidGrantTokenException), "", "*"},
		"grant id":               {&kms.RevokeGrantInput{KeyId: key, GrantId: aws.String("x")}, new(*types.InvalidGrantIdException), "", "*"},
		"grant to sign":          {&ask, nil, "ValidationException", "*"},
		"grant, eleven tokens":   {&kms.DescribeKeyInput{KeyId: key, GrantTokens: slices.Repeat([]string{m.grant.Token}, 11)}, nil, "ValidationException", "*"},
		"marker":                 {&kms.ListKeysInput{Marker: aws.String("x")}, new(*types.InvalidMarkerException), "", "*"},
		"marker of another list": {&kms.ListGrantsInput{KeyId: key, Marker: r.markerOfKeys()}, new(*types.InvalidMarkerException), "", "*"},
		"policy":                 {&kms.PutKeyPolicyInput{KeyId: key, Policy: aws.String("{")}, new(*types.MalformedPolicyDocumentException), "", "*"},
		"long policy":            {&kms.PutKeyPolicyInput{KeyId: key, Policy: aws.String(pad(m.policy, 32769))}, new(*types.LimitExceededException), "", "*"},
		"tags, 51":               {&kms.TagResourceInput{KeyId: key, Tags: tags(51)}, new(*types.TagException), "", "Too many tags"},
		"RSA":                    {&kms.CreateKeyInput{KeySpec: types.KeySpecRsa2048, KeyUsage: types.KeyUsageTypeSignVerify}, new(*types.UnsupportedOperationException), "", "*"},
		"multi-Region":           {&kms.CreateKeyInput{MultiRegion: aws.Bool(true)}, new(*types.UnsupportedOperationException), "", "*"},
	} {
		_, err := r.call(c.in)
		got := r.refusal(err)
		if c.target != nil && !errors.As(err, c.target) || c.code != "" && got.code != c.code {
			t.Errorf("%s: %T %v", name, c.target, err)
		}
		if got.status != http.StatusBadRequest || c.message != "*" && got.message != c.message {
			t.Errorf("%s: status %d, message %q, want %q", name, got.status, got.message, c.message)
		}
	}
	must[kms.PutKeyPolicyOutput](r, &kms.PutKeyPolicyInput{KeyId: key, Policy: aws.String(pad(m.policy, 32768))})
}

// pad makes a document n bytes long.
func pad(document string, n int) string { return document + strings.Repeat(" ", n-len(document)) }

// markerOfKeys is a marker of ListKeys.
func (r *rig) markerOfKeys() *string {
	r.t.Helper()
	return must[kms.ListKeysOutput](r, &kms.ListKeysInput{Limit: aws.Int32(1)}).NextMarker
}

// TestContexts: a context is a set of pairs, in no order, with case, and nothing else opens a blob.
func TestContexts(t *testing.T) {
	r := embedded(t)
	key := aws.String(r.newMaterial().key)
	long := map[string]string{"k": strings.Repeat("v", 8<<10-7)} // 2 for the count, 2 for each length
	for _, c := range []struct{ sealed, opens, not map[string]string }{
		{map[string]string{"a": "bc"}, map[string]string{"a": "bc"}, map[string]string{"ab": "c"}},
		{map[string]string{"a": "1", "b": "2", "ä": "3"}, map[string]string{"ä": "3", "b": "2", "a": "1"}, map[string]string{"a": "1", "b": "2"}},
		{map[string]string{"A": "1"}, map[string]string{"A": "1"}, map[string]string{"a": "1"}},
		{nil, map[string]string{}, map[string]string{"": ""}},
		{map[string]string{"aws-crypto-public-key": "x"}, map[string]string{"aws-crypto-public-key": "x"}, nil},
		{long, long, map[string]string{"k": strings.Repeat("v", 8<<10-8)}},
	} {
		blob := must[kms.EncryptOutput](r, &kms.EncryptInput{KeyId: key, Plaintext: []byte("p"), EncryptionContext: c.sealed}).CiphertextBlob
		if out := must[kms.DecryptOutput](r, &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: c.opens}); string(out.Plaintext) != "p" {
			t.Errorf("%q", out.Plaintext)
		}
		_, err := r.call(&kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: c.not})
		if got := r.refusal(err); got.code != "InvalidCiphertextException" && got.code != "ValidationException" {
			t.Errorf("%v opens what %v sealed: %v", c.not, c.sealed, got)
		}
	}
}

// TestPages: lists of more than a hundred entries (in the long form, a thousand), one by one.
func TestPages(t *testing.T) {
	n := 101
	if os.Getenv("KMSFS_LONG") == "1" {
		n = 1001
	}
	r := embedded(t)
	key := r.newMaterial().key // 2 keys, 1 grant
	for range n {
		if _, err := r.CreateGrant(t.Context(), self, keymgr.CreateGrantInput{KeyID: key, Grantee: root, Operations: []string{"Decrypt"}}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.CreateKey(t.Context(), self, keymgr.CreateKeyInput{}); err != nil {
			t.Fatal(err)
		}
	}
	keys, grants := map[string]bool{}, map[string]bool{}
	for pages := kms.NewListKeysPaginator(r.sdk, &kms.ListKeysInput{Limit: aws.Int32(1)}); pages.HasMorePages(); {
		page, err := pages.NextPage(t.Context())
		if err != nil || len(page.Keys) != 1 {
			t.Fatalf("%d keys, %v", len(page.Keys), err)
		}
		keys[aws.ToString(page.Keys[0].KeyId)] = true
	}
	for pages := kms.NewListGrantsPaginator(r.sdk, &kms.ListGrantsInput{KeyId: aws.String(key), Limit: aws.Int32(1)}); pages.HasMorePages(); {
		page, err := pages.NextPage(t.Context())
		if err != nil || len(page.Grants) != 1 {
			t.Fatalf("%d grants, %v", len(page.Grants), err)
		}
		grants[aws.ToString(page.Grants[0].GrantId)] = true
	}
	if len(keys) != n+2 || len(grants) != n+1 {
		t.Errorf("%d keys, want %d; %d grants, want %d", len(keys), n+2, len(grants), n+1)
	}
}
