package keymgr

import (
	"fmt"
	"slices"

	"github.com/kmsfs/kmsfs/keymgr/policy"
)

// Roles are identity policies that nobody writes. An explicit Deny in them binds whatever key policies and grants say.
const (
	RoleKeyAdmin = "key-admin" // administers keys, and uses none
	RoleOperator = "operator"  // mounts volumes and wraps keys anew, and gets no data key in clear but volume keys
	RoleUser     = "user"      // uses keys
	RoleAuditor  = "auditor"   // looks, and changes and uses nothing
)

// noCrypto denies what shows or makes plaintext and ciphertext.
const noCrypto = `{"Sid":"NoCryptography","Effect":"Deny","Action":["kms:Decrypt","kms:Encrypt","kms:GenerateDataKey*","kms:ReEncrypt*"],"Resource":"*"}`

const look = `"kms:Describe*","kms:Get*","kms:List*"`

// rolePolicies are the documents of the roles.
var rolePolicies = map[string]string{
	RoleKeyAdmin: `{"Version":"2012-10-17","Statement":[{"Sid":"KeyAdmin","Effect":"Allow","Action":[` + look + `,"kms:CreateKey","kms:CreateAlias","kms:UpdateAlias","kms:DeleteAlias",
 "kms:UpdateKeyDescription","kms:TagResource","kms:UntagResource","kms:EnableKey","kms:DisableKey","kms:EnableKeyRotation","kms:DisableKeyRotation","kms:RotateKeyOnDemand",
 "kms:PutKeyPolicy","kms:CreateGrant","kms:RetireGrant","kms:RevokeGrant","kms:ScheduleKeyDeletion","kms:CancelKeyDeletion","kms:ImportKeyMaterial","kms:DeleteImportedKeyMaterial"],"Resource":"*"},` + noCrypto + `]}`,
	RoleOperator: `{"Version":"2012-10-17","Statement":[{"Sid":"Operator","Effect":"Allow","Action":["kms:DescribeKey","kms:List*","kms:GenerateDataKeyWithoutPlaintext","kms:ReEncrypt*",
 "kmsfs:FrontEnd"],"Resource":"*"},
 {"Sid":"VolumeKeys","Effect":"Allow","Action":"kms:Decrypt","Resource":"*","Condition":{"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":"kmsfs:volume"},"Null":{"kms:EncryptionContextKeys":"false"}}},
 {"Sid":"NoPlaintextKeys","Effect":"Deny","Action":["kms:GenerateDataKey","kms:Encrypt"],"Resource":"*"},
 {"Sid":"NoZoneKeys","Effect":"Deny","Action":"kms:Decrypt","Resource":"*","Condition":{"ForAnyValue:StringNotEquals":{"kms:EncryptionContextKeys":"kmsfs:volume"}}}]}`,
	RoleUser: `{"Version":"2012-10-17","Statement":{"Sid":"User","Effect":"Allow","Action":["kms:DescribeKey","kms:ListAliases","kms:Encrypt","kms:Decrypt","kms:GenerateDataKey*",
 "kms:ReEncrypt*","kms:GenerateRandom"],"Resource":"*"}}`,
	RoleAuditor: `{"Version":"2012-10-17","Statement":[{"Sid":"Auditor","Effect":"Allow","Action":[` + look + `],"Resource":"*"},` + noCrypto + `]}`,
}

// parseRoles reads the documents of the roles.
func parseRoles() (map[string]*policy.Document, error) {
	out := map[string]*policy.Document{}
	for role, text := range rolePolicies {
		d, err := policy.Rules{Kind: policy.IdentityPolicy}.Parse([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("role %s: %w", role, err)
		}
		out[role] = d
	}
	return out, nil
}

// checkRole refuses a role that there is none of; "" is none.
func (m *Manager) checkRole(role string) error {
	if role == "" || m.builtin.roles[role] != nil {
		return nil
	}
	var known []string
	for name := range m.builtin.roles {
		known = append(known, name)
	}
	slices.Sort(known)
	return fault(ErrValidation, "there is no role %s; the roles are %v", printable(role), known)
}
