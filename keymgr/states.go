package keymgr

// rule is what a key's state makes of an operation.
type rule uint8

const (
	fine       rule = iota
	disabled        // DisabledException: … is disabled.
	wrongState      // KMSInvalidStateException: … is pending deletion., … is pending import., … is unavailable.
	notPending      // KMSInvalidStateException: … is not pending deletion.
	ifMade          // fine for a key that was made in the token; of others as notHere
	ifImported      // fine for a key whose material is imported; of others as notHere
	notHere         // UnsupportedOperationException: the key's origin does not go with the operation
)

// stateColumns gives the order of the columns of stateRules.
var stateColumns = [...]string{StateEnabled, StateDisabled, StatePendingDeletion, StatePendingImport, StateUnavailable}

// Rows of stateRules that several operations share.
var (
	always         = [5]rule{}
	toUse          = [5]rule{fine, disabled, wrongState, wrongState, wrongState}
	toGrant        = [5]rule{fine, disabled, wrongState, wrongState, fine}
	toSwitch       = [5]rule{fine, fine, wrongState, wrongState, fine}
	toChange       = [5]rule{fine, fine, wrongState, fine, fine}
	toCancel       = [5]rule{notPending, notPending, fine, notPending, notPending}
	toSetRotation  = [5]rule{ifMade, disabled, wrongState, notHere, notHere}
	toReadRotation = [5]rule{fine, fine, fine, fine, notHere}
	toRotate       = [5]rule{ifMade, disabled, wrongState, wrongState, notHere}
	toImport       = [5]rule{ifImported, ifImported, wrongState, ifImported, notHere}
	toDestroy      = [5]rule{ifMade, ifMade, wrongState, notHere, notHere}
	toDropMaterial = [5]rule{ifImported, ifImported, ifImported, ifImported, notHere}
)

// stateRules is the matrix of operations and key states. It names every operation on a key that there is; docs/KMS.md prints it (tested).
var stateRules = map[string][5]rule{
	"Encrypt":                         toUse,
	"Decrypt":                         toUse,
	"ReEncryptFrom":                   toUse,
	"ReEncryptTo":                     toUse,
	"GenerateDataKey":                 toUse,
	"GenerateDataKeyWithoutPlaintext": toUse,

	"DescribeKey": always,
	"ListAliases": always,
	"DeleteAlias": always,
	"CreateAlias": toChange,
	"UpdateAlias": toChange, // the new target; of the old one every state will do

	"CreateGrant": toGrant,
	"ListGrants":  always,
	"RetireGrant": always,
	"RevokeGrant": always,

	"GetKeyPolicy":    always,
	"PutKeyPolicy":    always,
	"ListKeyPolicies": always,

	"EnableKey":            toSwitch,
	"DisableKey":           toSwitch,
	"UpdateKeyDescription": toChange,
	"TagResource":          toChange,
	"UntagResource":        toChange,
	"ListResourceTags":     always,

	"ScheduleKeyDeletion": toChange,
	"CancelKeyDeletion":   toCancel,
	"ConfirmKeyDeletion":  toCancel,

	"EnableKeyRotation":    toSetRotation,
	"DisableKeyRotation":   toSetRotation,
	"GetKeyRotationStatus": toReadRotation,
	"ListKeyRotations":     toReadRotation,
	"RotateKeyOnDemand":    toRotate,

	"DestroyKeyVersion": toDestroy,

	"GetParametersForImport":    toImport,
	"ImportKeyMaterial":         toImport,
	"DeleteImportedKeyMaterial": toDropMaterial,
}

// allows is nil if the key's state allows the operation. Errors: ErrDisabled, ErrInvalidState, ErrUnsupported.
func (k *cmk) allows(operation string) error {
	row, ok := stateRules[operation]
	if !ok {
		return fault(ErrInternal, "no rule for %s", operation)
	}
	arn := k.id.ARN()
	for i, state := range stateColumns {
		if state != k.record.State {
			continue
		}
		r := row[i]
		switch {
		case r == ifMade && k.origin() != OriginToken, r == ifImported && k.origin() != OriginExternal:
			r = notHere
		case r == ifMade, r == ifImported:
			r = fine
		}
		switch r {
		case fine:
			return nil
		case disabled:
			return fault(ErrDisabled, "%s is disabled.", arn)
		case notPending:
			return fault(ErrInvalidState, "%s is not pending deletion.", arn)
		case notHere:
			return fault(ErrUnsupported, "%s origin is %s which is not valid for this operation.", arn, k.origin())
		}
	}
	switch k.record.State {
	case StatePendingDeletion:
		return fault(ErrInvalidState, "%s is pending deletion.", arn)
	case StatePendingImport:
		return fault(ErrInvalidState, "%s is pending import.", arn)
	}
	return fault(ErrInvalidState, "%s is unavailable.", arn)
}
