package policy

import "strings"

// kmsActions are the actions of KMS that a policy may name: its operations, built here or not, and those that are rights only.
var kmsActions = strings.Fields(`
	CancelKeyDeletion ConnectCustomKeyStore CreateAlias CreateCustomKeyStore CreateGrant CreateKey Decrypt DeleteAlias DeleteCustomKeyStore
	DeleteImportedKeyMaterial DeriveSharedSecret DescribeCustomKeyStores DescribeKey DisableKey DisableKeyRotation DisconnectCustomKeyStore
	EnableKey EnableKeyRotation Encrypt GenerateDataKey GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext GenerateDataKeyWithoutPlaintext
	GenerateMac GenerateRandom GetKeyLastUsage GetKeyPolicy GetKeyRotationStatus GetParametersForImport GetPublicKey ImportKeyMaterial
	ListAliases ListGrants ListKeyPolicies ListKeyRotations ListKeys ListResourceTags ListRetirableGrants PutKeyPolicy ReEncryptFrom
	ReEncryptTo ReplicateKey RetireGrant RevokeGrant RotateKeyOnDemand ScheduleKeyDeletion Sign SynchronizeMultiRegionKey TagResource
	UntagResource UpdateAlias UpdateCustomKeyStore UpdateKeyDescription UpdatePrimaryRegion Verify VerifyMac`)

// action is a pattern of Action or NotAction.
type action struct {
	text string // as written
	glob glob   // folded
}

// matches reports whether the pattern matches a folded action.
func (a *action) matches(folded string) bool { return a.glob.match(folded) }

// parseAction checks one pattern; it says why it is refused.
func (r *Rules) parseAction(text string) (action, string) {
	vendor, name, ok := strings.Cut(text, ":")
	if text != "*" && (!ok || vendor == "" || name == "" || !actionCharacters(vendor) || !actionCharacters(name)) {
		return action{}, `has not the form of an action, as "kms:Decrypt" or "kms:*" or "*"`
	}
	a := action{text: text, glob: wildcards(fold(text))}
	if !r.known(&a) {
		if fold(text) == "kms:reencrypt" {
			return action{}, "matches no action: the actions are kms:ReEncryptFrom and kms:ReEncryptTo"
		}
		return action{}, "matches no action that there is"
	}
	return a, ""
}

// known reports whether the pattern matches an action that there is.
func (r *Rules) known(a *action) bool {
	for _, name := range r.Actions {
		if a.matches(fold(name)) {
			return true
		}
	}
	if r.Actions != nil {
		return false
	}
	if strings.HasPrefix(fold(a.text), "kmsfs:") {
		return true
	}
	for _, name := range kmsActions {
		if a.matches("kms:" + fold(name)) {
			return true
		}
	}
	return false
}

func actionCharacters(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '*', c == '?':
		default:
			return false
		}
	}
	return true
}
