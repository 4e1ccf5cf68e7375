package conformance

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// secrets are what must be nowhere in the log, by name.
type secrets map[string][]byte

// uses goes through everything that has plaintext, ciphertext or tokens in it, and gives them.
func (r *rig) uses() secrets {
	t, s := r.t, secrets{"plaintext": []byte("a plaintext that nobody else has"), "material": bytes.Repeat([]byte("0123456789ABCDEF"), 2)}
	id := aws.String("alias/audited")
	md := must[kms.CreateKeyOutput](r, &kms.CreateKeyInput{Tags: []types.Tag{{TagKey: aws.String("team"), TagValue: aws.String("red")}}}).KeyMetadata
	must[kms.CreateAliasOutput](r, &kms.CreateAliasInput{AliasName: id, TargetKeyId: md.KeyId})
	context := map[string]string{"department": "payroll"}
	sealed := must[kms.EncryptOutput](r, &kms.EncryptInput{KeyId: id, Plaintext: s["plaintext"], EncryptionContext: context})
	s["blob of Encrypt"] = sealed.CiphertextBlob
	made := must[kms.GenerateDataKeyOutput](r, &kms.GenerateDataKeyInput{KeyId: id, KeySpec: types.DataKeySpecAes256, EncryptionContext: context})
	s["data key"], s["blob of GenerateDataKey"] = made.Plaintext, made.CiphertextBlob
	s["blob of GenerateDataKeyWithoutPlaintext"] = must[kms.GenerateDataKeyWithoutPlaintextOutput](r, &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: id, NumberOfBytes: aws.Int32(16)}).CiphertextBlob
	s["random"] = must[kms.GenerateRandomOutput](r, &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(32)}).Plaintext
	s["blob of ReEncrypt"] = must[kms.ReEncryptOutput](r, &kms.ReEncryptInput{CiphertextBlob: sealed.CiphertextBlob, SourceEncryptionContext: context, DestinationKeyId: md.Arn}).CiphertextBlob
	grant := must[kms.CreateGrantOutput](r, &kms.CreateGrantInput{KeyId: md.KeyId, GranteePrincipal: aws.String("arn:aws:iam::000000000000:user/admin"), Operations: []types.GrantOperation{types.GrantOperationDecrypt, types.GrantOperationRetireGrant}})
	s["grant token"] = []byte(aws.ToString(grant.GrantToken))
	must[kms.DecryptOutput](r, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: context, GrantTokens: []string{aws.ToString(grant.GrantToken)}})
	must[kms.RetireGrantOutput](r, &kms.RetireGrantInput{GrantToken: grant.GrantToken})
	must[kms.PutKeyPolicyOutput](r, &kms.PutKeyPolicyInput{KeyId: md.KeyId, Policy: must[kms.GetKeyPolicyOutput](r, &kms.GetKeyPolicyInput{KeyId: md.KeyId}).Policy})
	external := r.external()
	s["import token"], s["wrapped material"] = r.parameters(external, s["material"])
	must[kms.ImportKeyMaterialOutput](r, &kms.ImportKeyMaterialInput{KeyId: aws.String(external), ImportToken: s["import token"], EncryptedKeyMaterial: s["wrapped material"], ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire})
	must[kms.ScheduleKeyDeletionOutput](r, &kms.ScheduleKeyDeletionInput{KeyId: aws.String(external), PendingWindowInDays: aws.Int32(7)})
	for _, refused := range []any{
		&kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: map[string]string{"department": "other"}},
		&kms.EncryptInput{KeyId: aws.String("alias/none"), Plaintext: s["plaintext"]},
		&kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, GrantTokens: []string{aws.ToString(grant.GrantToken)[1:]}},
		&kms.ImportKeyMaterialInput{KeyId: md.KeyId, ImportToken: s["import token"], EncryptedKeyMaterial: s["wrapped material"]},
	} {
		if _, err := r.call(refused); err == nil {
			t.Errorf("%T was not refused", refused)
		}
	}
	k, err := r.CreateIdentity(t.Context(), self, "somebody", false)
	if err != nil {
		t.Fatal(err)
	}
	s["secret access key"] = []byte(k.Secret)
	return s
}

// log gives the whole audit log of the daemon, as bytes.
func (r *rig) log() (all []byte) {
	r.t.Helper()
	st, err := r.Status(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	err = filepath.WalkDir(filepath.Join(st.Dir, "audit"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all = append(all, b...)
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

// TestNothingSecretIsRecorded: plaintext, ciphertext, key material and tokens are in the audit log in no form, whether the call succeeds or not.
func TestNothingSecretIsRecorded(t *testing.T) {
	r := embedded(t)
	s := r.uses()
	log := r.log()
	if n := bytes.Count(log, []byte(`"payroll"`)); n < 5 {
		t.Fatalf("the log of %d bytes names the encryption context %d times: these are not its events", len(log), n)
	}
	for name, secret := range s {
		for form, text := range map[string]string{"as it is": string(secret), "base64": base64.StdEncoding.EncodeToString(secret), "hex": hex.EncodeToString(secret),
			"the middle of it in base64": base64.StdEncoding.EncodeToString(secret[6:])[:12]} {
			if bytes.Contains(log, []byte(text)) {
				t.Errorf("%s, %s, is in the log", name, form)
			}
		}
	}
}

// recorded is an event of CloudTrail's schema.
type recorded struct {
	UserIdentity         map[string]any
	EventName            string
	SourceIPAddress      string
	UserAgent            string
	RequestParameters    map[string]any
	ResponseElements     map[string]any
	Resources            []map[string]any
	ReadOnly             bool
	ErrorCode            string
	AdditionalEventData  map[string]any
	ManagementEvent      bool
	RecipientAccountId   string
	EventCategory        string
	EventType, RequestID string
}

// TestEvents: what stands in the events of each kind of operation.
func TestEvents(t *testing.T) {
	r := embedded(t)
	r.uses()
	first := map[string]recorded{}
	for line := range strings.Lines(string(r.log())) {
		var e recorded
		if json.Unmarshal([]byte(line), &e) != nil || e.EventName == "" || e.SourceIPAddress == "" {
			continue
		}
		if _, ok := first[e.EventName]; !ok {
			first[e.EventName] = e
		}
	}
	key, _ := first["Encrypt"].AdditionalEventData["key"].(string)
	crypto := map[string]any{"keyId": "alias/audited", "encryptionContext": map[string]any{"department": "payroll"}}
	with := func(more ...any) map[string]any {
		out := map[string]any{}
		for k, v := range crypto {
			out[k] = v
		}
		for i := 0; i < len(more); i += 2 {
			out[more[i].(string)] = more[i+1]
		}
		return out
	}
	for name, want := range map[string]struct {
		parameters, response map[string]any // nil: null, or of a response, only that it is there
		answers, alert       bool
	}{
		"Encrypt":             {parameters: with("encryptionAlgorithm", "SYMMETRIC_DEFAULT")},
		"GenerateDataKey":     {parameters: with("numberOfBytes", 32.0)},
		"Decrypt":             {parameters: map[string]any{"keyId": key, "encryptionContext": crypto["encryptionContext"], "encryptionAlgorithm": "SYMMETRIC_DEFAULT"}},
		"GenerateRandom":      {},
		"GetKeyPolicy":        {parameters: map[string]any{"keyId": key[strings.Index(key, "/")+1:], "policyName": nil}},
		"CreateKey":           {answers: true},
		"CreateAlias":         {answers: true, parameters: map[string]any{"aliasName": "alias/audited", "targetKeyId": nil}},
		"CreateGrant":         {answers: true, alert: true, parameters: map[string]any{"granteePrincipal": "arn:aws:iam::000000000000:user/admin", "operations": nil}},
		"PutKeyPolicy":        {answers: true, alert: true, parameters: map[string]any{"policy": nil}},
		"ScheduleKeyDeletion": {answers: true, alert: true, response: map[string]any{"keyState": "PendingDeletion", "pendingWindowInDays": 7.0}},
	} {
		e, ok := first[name]
		if !ok {
			t.Errorf("no event %s", name)
			continue
		}
		for k, v := range want.parameters {
			if got, ok := e.RequestParameters[k]; v != nil && !reflect.DeepEqual(got, v) || v == nil && !ok && k != "policyName" {
				t.Errorf("%s: requestParameters.%s is %v, want %v", name, k, got, v)
			}
		}
		for k, v := range want.response {
			if got := e.ResponseElements[k]; !reflect.DeepEqual(got, v) {
				t.Errorf("%s: responseElements.%s is %v, want %v", name, k, got, v)
			}
		}
		alert, _ := e.AdditionalEventData["alert"].(bool)
		if (e.ResponseElements != nil) != want.answers || alert != want.alert || e.ReadOnly == want.answers {
			t.Errorf("%s: responseElements %v, alert %v, readOnly %v", name, e.ResponseElements, alert, e.ReadOnly)
		}
		if id, _ := e.UserIdentity["accessKeyId"].(string); !strings.HasPrefix(id, "AKIA") || e.UserIdentity["userName"] != "admin" || e.UserIdentity["type"] != "IAMUser" ||
			e.SourceIPAddress != "127.0.0.1" || !strings.Contains(e.UserAgent, "aws-sdk-go-v2") || e.RequestID == "" || e.RecipientAccountId != "000000000000" || !e.ManagementEvent {
			t.Errorf("%s: %+v", name, e)
		}
		if about := name != "GenerateRandom"; about != (len(e.Resources) == 1) || about && e.Resources[0]["type"] != "AWS::KMS::Key" {
			t.Errorf("%s: resources %v", name, e.Resources)
		}
	}
	if id, _ := first["Encrypt"].AdditionalEventData["keyMaterialId"].(string); len(id) != 64 {
		t.Errorf("keyMaterialId %q", id)
	}
	if e := first["ReEncrypt"]; len(e.Resources) != 2 || e.RequestParameters["destinationKeyId"] == nil || e.RequestParameters["sourceKeyId"] == nil {
		t.Errorf("ReEncrypt: %+v", e)
	}
}
