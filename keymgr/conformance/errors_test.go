package conformance

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/keymgr"
)

// TestErrors: codes and texts of AWS, as its command line shows them. "*": any text.
func TestErrors(t *testing.T) {
	r := embedded(t)
	m := r.newMaterial()
	unknown := "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	blob, err := os.ReadFile(m.blobFile)
	if err != nil {
		t.Fatal(err)
	}
	flipped := append([]byte{}, blob...)
	flipped[len(flipped)-1] ^= 1
	foreign := append([]byte{}, blob...)
	foreign[1] ^= 1
	decrypt := func(name, content string, more ...string) []string {
		return append([]string{"decrypt", "--ciphertext-blob", "fileb://" + file(name, content)}, more...)
	}
	for name, c := range map[string]struct {
		args          []string
		code, message string
	}{
		"unsigned":          {[]string{"list-keys", "--no-sign-request"}, "MissingAuthenticationTokenException", "Missing Authentication Token"},
		"signed for there":  {[]string{"list-keys", "--region", "us-east-1"}, "InvalidSignatureException", "Credential should be scoped to a valid region."},
		"not a key id":      {[]string{"describe-key", "--key-id", "fake-key-id"}, "NotFoundException", "Invalid keyId 'fake-key-id'"},
		"unknown key":       {[]string{"describe-key", "--key-id", unknown}, "NotFoundException", "Key 'arn:aws:kms:local:000000000000:key/" + unknown + "' does not exist"},
		"another region":    {[]string{"describe-key", "--key-id", strings.Replace(m.arn, "local", "ap-southeast-1", 1)}, "NotFoundException", "Invalid arn ap-southeast-1"},
		"unknown alias":     {[]string{"describe-key", "--key-id", "alias/none"}, "NotFoundException", "Alias arn:aws:kms:local:000000000000:alias/none is not found."},
		"alias to manage":   {[]string{"disable-key", "--key-id", "alias/x-" + m.key}, "NotFoundException", "*"},
		"bad ARN":           {[]string{"describe-key", "--key-id", "arn:aws:s3:::x"}, "InvalidArnException", "*"},
		"alias, no prefix":  {[]string{"create-alias", "--alias-name", "x", "--target-key-id", m.key}, "ValidationException", `Alias must start with the prefix "alias/". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html`},
		"alias, taken":      {[]string{"create-alias", "--alias-name", "alias/x-" + m.key, "--target-key-id", m.key}, "AlreadyExistsException", "An alias with the name arn:aws:kms:local:000000000000:alias/x-" + m.key + " already exists"},
		"alias, reserved":   {[]string{"create-alias", "--alias-name", "alias/aws/s3", "--target-key-id", m.key}, "NotAuthorizedException", "*"},
		"alias, characters": {[]string{"create-alias", "--alias-name", "alias/a b", "--target-key-id", m.key}, "InvalidAliasNameException", "*"},
		"flipped":           {decrypt("flipped", string(flipped)), "InvalidCiphertextException", "*"},
		"garbage":           {decrypt("garbage", "garbage"), "InvalidCiphertextException", "*"},
		"context":           {decrypt("context", string(blob), "--encryption-context", "a=b"), "InvalidCiphertextException", "*"},
		"foreign blob":      {decrypt("foreign", string(foreign)), "AccessDeniedException", "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access."},
		"incorrect key":     {decrypt("incorrect", string(blob), "--key-id", m.other), "IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation."},
		"random, none":      {[]string{"generate-random"}, "ValidationException", "NumberOfBytes is required."},
		"random, long":      {[]string{"generate-random", "--number-of-bytes", "1025"}, "ValidationException", "1 validation error detected: Value '1025' at 'numberOfBytes' failed to satisfy constraint: Member must have value less than or equal to 1024"},
		"data key, neither": {[]string{"generate-data-key", "--key-id", m.key}, "ValidationException", "*"},
		"window":            {[]string{"schedule-key-deletion", "--key-id", m.key, "--pending-window-in-days", "31"}, "ValidationException", "1 validation error detected: Value '31' at 'pendingWindowInDays' failed to satisfy constraint: Member must have value less than or equal to 30"},
		"tags, twice":       {[]string{"tag-resource", "--key-id", m.key, "--tags", "TagKey=a,TagValue=b", "TagKey=a,TagValue=c"}, "TagException", "Duplicate tag keys"},
		"tags, reserved":    {[]string{"tag-resource", "--key-id", m.key, "--tags", "TagKey=AWS:x,TagValue=b"}, "TagException", "Tags beginning with aws: are reserved"},
		"policy, JSON":      {[]string{"put-key-policy", "--key-id", m.key, "--policy-name", "default", "--policy", "{"}, "MalformedPolicyDocumentException", "*"},
		"policy, lockout":   {[]string{"put-key-policy", "--key-id", m.key, "--policy-name", "default", "--policy", `{"Version":"2012-10-17","Statement":[]}`}, "MalformedPolicyDocumentException", "*"},
		"policy, name":      {[]string{"get-key-policy", "--key-id", m.key, "--policy-name", "other"}, "NotFoundException", "No such policy exists"},
		"grant, principal":  {[]string{"create-grant", "--key-id", m.key, "--grantee-principal", "arn:aws:iam::000000000000:user/nobody", "--operations", "Decrypt"}, "InvalidArnException", "*"},
		"grant, token":      {[]string{"encrypt", "--key-id", m.key, "--plaintext", "aGVsbG8=", "--grant-tokens", "x"}, "InvalidGrantTokenException", "*"},
		"grant, id":         {[]string{"revoke-grant", "--key-id", m.key, "--grant-id", "x"}, "InvalidGrantIdException", "*"},
		"grant, gone":       {[]string{"revoke-grant", "--key-id", m.key, "--grant-id", strings.Repeat("ab", 32)}, "NotFoundException", "*"},
		"marker":            {[]string{"list-keys", "--no-paginate", "--marker", "x"}, "InvalidMarkerException", "*"},
		"limit":             {[]string{"list-keys", "--no-paginate", "--limit", "1001"}, "ValidationException", "*"},
		"RSA":               {[]string{"create-key", "--key-spec", "RSA_2048", "--key-usage", "SIGN_VERIFY"}, "UnsupportedOperationException", "*"},
		"custom key store":  {[]string{"create-key", "--origin", "AWS_CLOUDHSM"}, "UnsupportedOperationException", "*"},
	} {
		code, message := r.fault(c.args...)
		if code != c.code || c.message != "*" && message != c.message {
			t.Errorf("%s: %q %q, want %q %q", name, code, message, c.code, c.message)
		}
	}
}

// TestPaging: the command line goes through all pages, of one entry each.
func TestPaging(t *testing.T) {
	r := embedded(t)
	m := r.newMaterial()
	for _, c := range []struct {
		list string
		args []string
		want int
	}{
		{"Keys", []string{"list-keys"}, 2}, {"Aliases", []string{"list-aliases"}, 2}, {"Grants", []string{"list-grants", "--key-id", m.key}, 3},
	} {
		if c.list == "Grants" {
			for range 2 {
				if _, err := r.CreateGrant(t.Context(), self, keymgr.CreateGrantInput{KeyID: m.key, Grantee: root, Operations: []string{"Decrypt"}}); err != nil {
					t.Fatal(err)
				}
			}
		}
		out := r.ok(append(c.args, "--page-size", "1")...)
		if list, _ := out[c.list].([]any); len(list) != c.want {
			t.Errorf("%s: %v, want %d", c.list, out, c.want)
		}
	}
}
