package conformance

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/kmsfs/kmsfs/keymgr"
)

// material is what the commands below work on. Each test makes its own.
type material struct {
	key, other string // ids
	arn        string
	blob       []byte // of key
	otherBlob  []byte
	blobFile   string // blob's
	otherFile  string
	policy     string
	policyFile string
	grant      keymgr.NewGrant

	external, importToken, wrapped string // the id of a key that waits for its material, and the files of what brings it; the key above where addImport was not called
	token, encrypted               []byte
}

func (r *rig) newMaterial() material {
	r.t.Helper()
	ctx := r.t.Context()
	dir := r.t.TempDir()
	m := material{blobFile: filepath.Join(dir, "blob"), otherFile: filepath.Join(dir, "other"), policyFile: filepath.Join(dir, "policy")}
	for _, k := range []struct {
		id, file *string
		blob     *[]byte
	}{{&m.key, &m.blobFile, &m.blob}, {&m.other, &m.otherFile, &m.otherBlob}} {
		md, err := r.CreateKey(ctx, self, keymgr.CreateKeyInput{})
		if err != nil {
			r.t.Fatal(err)
		}
		*k.id = md.KeyID
		out, err := r.Encrypt(ctx, self, keymgr.EncryptInput{KeyID: md.KeyID, Plaintext: []byte("hello")})
		if err != nil {
			r.t.Fatal(err)
		}
		*k.blob = out.Blob
		if err := os.WriteFile(*k.file, out.Blob, 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
	m.arn = "arn:aws:kms:local:000000000000:key/" + m.key
	for name, id := range map[string]string{"alias/x-": m.key, "alias/y-": m.other} {
		if err := r.CreateAlias(ctx, self, name+m.key, id); err != nil {
			r.t.Fatal(err)
		}
	}
	g, err := r.CreateGrant(ctx, self, keymgr.CreateGrantInput{KeyID: m.key, Grantee: root, Operations: []string{"Encrypt"}})
	if err != nil {
		r.t.Fatal(err)
	}
	m.grant = g
	m.external, m.token, m.encrypted = m.key, []byte("t"), []byte("m")
	if m.policy, err = r.GetKeyPolicy(ctx, self, m.key, ""); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(m.policyFile, []byte(m.policy), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return m
}

const root = "arn:aws:iam::000000000000:root"

// built are the operations of the service model that are built, as commands. ReEncrypt stands twice in the matrix of states.
func (m material) built() map[string][]string {
	return map[string][]string{
		"GetParametersForImport": {"get-parameters-for-import", "--key-id", m.external, "--wrapping-algorithm", "RSAES_OAEP_SHA_256", "--wrapping-key-spec", "RSA_2048"},
		"ImportKeyMaterial": {"import-key-material", "--key-id", m.external, "--import-token", "fileb://" + m.importToken, "--encrypted-key-material",
			"fileb://" + m.wrapped, "--expiration-model", "KEY_MATERIAL_DOES_NOT_EXPIRE"},
		"DeleteImportedKeyMaterial": {"delete-imported-key-material", "--key-id", m.external},
		"CancelKeyDeletion":         {"cancel-key-deletion", "--key-id", m.key}, "CreateAlias": {"create-alias", "--alias-name", "alias/z-" + m.key, "--target-key-id", m.key},
		"CreateGrant": {"create-grant", "--key-id", m.key, "--grantee-principal", root, "--operations", "Decrypt"}, "CreateKey": {"create-key"},
		"Decrypt": {"decrypt", "--ciphertext-blob", "fileb://" + m.blobFile}, "DeleteAlias": {"delete-alias", "--alias-name", "alias/x-" + m.key},
		"DescribeKey": {"describe-key", "--key-id", "alias/x-" + m.key}, "DisableKey": {"disable-key", "--key-id", m.key},
		"DisableKeyRotation": {"disable-key-rotation", "--key-id", m.key}, "EnableKey": {"enable-key", "--key-id", m.key},
		"EnableKeyRotation": {"enable-key-rotation", "--key-id", m.key}, "Encrypt": {"encrypt", "--key-id", m.key, "--plaintext", "aGVsbG8="},
		"GenerateDataKey":                 {"generate-data-key", "--key-id", m.key, "--key-spec", "AES_256"},
		"GenerateDataKeyWithoutPlaintext": {"generate-data-key-without-plaintext", "--key-id", m.key, "--number-of-bytes", "64"},
		"GenerateRandom":                  {"generate-random", "--number-of-bytes", "16"}, "GetKeyPolicy": {"get-key-policy", "--key-id", m.key, "--policy-name", "default"},
		"GetKeyRotationStatus": {"get-key-rotation-status", "--key-id", m.key}, "ListAliases": {"list-aliases", "--key-id", m.key},
		"ListGrants": {"list-grants", "--key-id", m.key}, "ListKeyPolicies": {"list-key-policies", "--key-id", m.key}, "ListKeys": {"list-keys"},
		"ListResourceTags": {"list-resource-tags", "--key-id", m.key}, "ListRetirableGrants": {"list-retirable-grants", "--retiring-principal", root},
		"PutKeyPolicy":  {"put-key-policy", "--key-id", m.key, "--policy-name", "default", "--policy", "file://" + m.policyFile},
		"ReEncrypt":     {"re-encrypt", "--ciphertext-blob", "fileb://" + m.blobFile, "--destination-key-id", m.key},
		"ReEncryptFrom": {"re-encrypt", "--ciphertext-blob", "fileb://" + m.blobFile, "--destination-key-id", m.other},
		"ReEncryptTo":   {"re-encrypt", "--ciphertext-blob", "fileb://" + m.otherFile, "--destination-key-id", m.key},
		"RetireGrant":   {"retire-grant", "--grant-token", m.grant.Token}, "RevokeGrant": {"revoke-grant", "--key-id", m.key, "--grant-id", m.grant.ID},
		"ScheduleKeyDeletion": {"schedule-key-deletion", "--key-id", m.key, "--pending-window-in-days", "7"},
		"TagResource":         {"tag-resource", "--key-id", m.key, "--tags", "TagKey=a,TagValue=b"}, "UntagResource": {"untag-resource", "--key-id", m.key, "--tag-keys", "a"},
		"UpdateAlias":          {"update-alias", "--alias-name", "alias/y-" + m.key, "--target-key-id", m.key},
		"UpdateKeyDescription": {"update-key-description", "--key-id", m.key, "--description", "new"},
	}
}

// refused are the others. All have the same error.
func (m material) refused() map[string][]string {
	store, file := []string{"--custom-key-store-id", "cks-1"}, "fileb://"+m.blobFile
	return map[string][]string{
		"ConnectCustomKeyStore": append([]string{"connect-custom-key-store"}, store...), "DisconnectCustomKeyStore": append([]string{"disconnect-custom-key-store"}, store...),
		"DeleteCustomKeyStore": append([]string{"delete-custom-key-store"}, store...), "UpdateCustomKeyStore": append([]string{"update-custom-key-store"}, store...),
		"CreateCustomKeyStore": {"create-custom-key-store", "--custom-key-store-name", "x"}, "DescribeCustomKeyStores": {"describe-custom-key-stores"},
		"GenerateDataKeyPair":                 {"generate-data-key-pair", "--key-id", m.key, "--key-pair-spec", "RSA_2048"},
		"GenerateDataKeyPairWithoutPlaintext": {"generate-data-key-pair-without-plaintext", "--key-id", m.key, "--key-pair-spec", "RSA_2048"},
		"GenerateMac":                         {"generate-mac", "--key-id", m.key, "--message", file, "--mac-algorithm", "HMAC_SHA_256"},
		"VerifyMac":                           {"verify-mac", "--key-id", m.key, "--message", file, "--mac-algorithm", "HMAC_SHA_256", "--mac", file},
		"GetPublicKey":                        {"get-public-key", "--key-id", m.key},
		"Sign":                                {"sign", "--key-id", m.key, "--message", file, "--signing-algorithm", "ECDSA_SHA_256"},
		"Verify":                              {"verify", "--key-id", m.key, "--message", file, "--signing-algorithm", "ECDSA_SHA_256", "--signature", file},
		"ReplicateKey":                        {"replicate-key", "--key-id", m.key, "--replica-region", "x"},
		"UpdatePrimaryRegion":                 {"update-primary-region", "--key-id", m.key, "--primary-region", "x"},
	}
}

// TestServiceModel walks the operations that the command line knows: each is built or refused with one error, and none is both or neither.
func TestServiceModel(t *testing.T) {
	onTokens(t, func(r *rig) {
		var operations []string
		if err := json.Unmarshal([]byte(r.send(nil).Out), &operations); err != nil || len(operations) < 50 {
			r.t.Fatalf("%d operations, %v", len(operations), err)
		}
		m := r.newMaterial()
		r.addImport(&m)
		built, refused := m.built(), m.refused()
		for _, op := range operations {
			if op == "CancelKeyDeletion" || op == "DeleteAlias" || op == "RevokeGrant" || op == "ScheduleKeyDeletion" { // after the others, below
				continue
			}
			b, isBuilt := built[op]
			f, isRefused := refused[op]
			switch {
			case isBuilt == isRefused:
				r.t.Errorf("%s is on %d lists", op, map[bool]int{true: 2, false: 0}[isBuilt])
			case isBuilt:
				if code, message := r.fault(b...); code != "" {
					r.t.Errorf("%s: %s %s", op, code, message)
				}
				r.enable(m)
			default:
				if code, _ := r.fault(f...); code != "UnsupportedOperationException" {
					r.t.Errorf("%s: %q, want UnsupportedOperationException", op, code)
				}
			}
		}
		m = r.newMaterial()
		for _, op := range []string{"RevokeGrant", "DeleteAlias", "ScheduleKeyDeletion", "CancelKeyDeletion"} {
			if code, message := r.fault(m.built()[op]...); code != "" {
				r.t.Errorf("%s: %s %s", op, code, message)
			}
		}
	})
}

// enable makes the key usable again after DisableKey.
func (r *rig) enable(m material) {
	r.t.Helper()
	if err := r.EnableKey(r.t.Context(), self, m.key); err != nil {
		r.t.Fatal(err)
	}
}

// TestSDKServiceModel is TestServiceModel for AWS' SDK for Go, which knows more operations.
func TestSDKServiceModel(t *testing.T) {
	onTokens(t, func(r *rig) {
		m := r.newMaterial()
		r.addImport(&m)
		built, refused := m.inputs(), m.refusedInputs()
		last := []string{"RevokeGrant", "DeleteAlias", "ScheduleKeyDeletion", "CancelKeyDeletion"} // in this order
		for op := range sdkOperations(t) {
			b, isBuilt := built[op]
			f, isRefused := refused[op]
			switch {
			case slices.Contains(last, op):
			case isBuilt == isRefused:
				r.t.Errorf("%s is on %d lists", op, map[bool]int{true: 2, false: 0}[isBuilt])
			case isBuilt:
				if _, err := r.call(b); err != nil {
					r.t.Errorf("%s: %v", op, err)
				}
				r.enable(m)
			default:
				_, err := r.call(f)
				if got := r.refusal(err); got.code != "UnsupportedOperationException" || got.status != http.StatusBadRequest {
					r.t.Errorf("%s: %v, want UnsupportedOperationException", op, got)
				}
			}
		}
		m = r.newMaterial()
		for _, op := range last {
			if _, err := r.call(m.inputs()[op]); err != nil {
				r.t.Errorf("%s: %v", op, err)
			}
		}
	})
}

// stateAfter is the state that an operation leaves behind where it is allowed; the one before for all others.
var stateAfter = map[string]string{"EnableKey": keymgr.StateEnabled, "DisableKey": keymgr.StateDisabled, "ScheduleKeyDeletion": keymgr.StatePendingDeletion,
	"CancelKeyDeletion": keymgr.StateDisabled}

// readsOnly fits operations after which all is as it was.
var readsOnly = regexp.MustCompile("^(Get|List|Describe|Encrypt|Decrypt|ReEncrypt|GenerateDataKey)")

// TestStateMatrix compares with the table of docs/API.md over the wire: code, message, HTTP status, and the state afterwards.
func TestStateMatrix(t *testing.T) {
	table := stateTable(t)
	onTokens(t, func(r *rig) {
		for i, state := range []string{keymgr.StateEnabled, keymgr.StateDisabled, keymgr.StatePendingDeletion} {
			var m material
			for operation, cells := range table {
				if m.key == "" {
					m = r.newMaterial()
					r.put(m, state)
				}
				_, err := r.call(m.inputs()[operation])
				want := refusal{code: cells[i], status: http.StatusBadRequest}
				switch {
				case want.code == "yes":
					want = refusal{}
				case want.code == "UnsupportedOperationException":
					want.message = m.arn + " origin is AWS_KMS which is not valid for this operation."
				case want.code == "DisabledException":
					want.message = m.arn + " is disabled."
				case operation == "CancelKeyDeletion":
					want.message = m.arn + " is not pending deletion."
				default:
					want.message = m.arn + " is pending deletion."
				}
				if got := r.refusal(err); got != want {
					t.Errorf("%s while %s: %v, want %v", operation, state, got, want)
				}
				after := state
				if err == nil && stateAfter[operation] != "" {
					after = stateAfter[operation]
				}
				if got := must[kms.DescribeKeyOutput](r, &kms.DescribeKeyInput{KeyId: aws.String(m.key)}).KeyMetadata; string(got.KeyState) != after ||
					got.Enabled != (after == keymgr.StateEnabled) || (got.DeletionDate != nil) != (after == keymgr.StatePendingDeletion) {
					t.Errorf("%s while %s leaves %s, deletion %v", operation, state, got.KeyState, got.DeletionDate)
				}
				if err == nil && !readsOnly.MatchString(operation) {
					m = material{}
				}
			}
		}
	})
}

// stateTable reads the table of docs/API.md: what an operation of AWS' gives in each state.
func stateTable(t *testing.T) map[string][]string {
	t.Helper()
	doc, err := os.ReadFile("../../docs/API.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(doc), "| operation | Enabled |")
	table, _, _ = strings.Cut(table, "\n\n")
	out := map[string][]string{}
	for _, row := range strings.Split(table, "\n")[2:] {
		cells := strings.Split(strings.Trim(row, "| "), " | ")
		if cells[0] != "ConfirmKeyDeletion" && cells[0] != "DestroyKeyVersion" { // ours
			out[cells[0]] = cells[1:]
		}
	}
	if len(out) < 34 {
		t.Fatalf("the table in docs/API.md has %d operations", len(out))
	}
	return out
}

func (r *rig) put(m material, state string) {
	r.t.Helper()
	var err error
	switch state {
	case keymgr.StateDisabled:
		err = r.DisableKey(r.t.Context(), self, m.key)
	case keymgr.StatePendingDeletion:
		_, err = r.ScheduleKeyDeletion(r.t.Context(), self, m.key, 7)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// TestBinary runs the command itself.
func TestBinary(t *testing.T) {
	r := embedded(t)
	cmd := exec.Command(awsCommand, "kms", "list-keys", "--endpoint-url", "http://"+r.address)
	cmd.Env = r.env
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), `"Keys": []`) {
		t.Errorf("%v: %s", err, out)
	}
}
