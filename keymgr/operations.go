package keymgr

import (
	"context"

	"github.com/kmsfs/kmsfs/keymgr/policy"
)

// operation is what there is to say of an operation beside what it does.
type operation struct {
	states    *[5]rule // what the key's state makes of it; nil: it is not about a key
	emergency bool     // break-glass may do it, whatever policies say, and nothing else: look, and put keys and approval right again; none of it shows or makes plaintext
	internal  bool     // nobody asks for it: the key manager does it by itself

	// Of those that may have to wait for a second person.
	request   func() request // makes what is asked for; nil: it never waits
	ownerOnly bool           // an approver need not have the right to do it, which only the owner has
	newKey    bool           // its key is made by it: the request names none
	secret    bool           // what is asked for is shown to nobody, and gone when it was carried out
}

// request is what a guarded operation asks for, as the request's row has it in JSON.
type request interface {
	describeTo(c *policy.Context)                                                             // what policies may ask for beside the key
	carryOut(ctx context.Context, m *Manager, by Caller, key string) (done string, err error) // as by, who asked for it and has a second person's approval; done tells what was done
}

// asks makes an empty request.
func asks[T any, P interface {
	*T
	request
}]() request {
	return P(new(T))
}

// operations is the table of operations. It names all that are about a key, with what its state makes of them (docs/API.md prints that: tested), and of the others those that are special.
var operations = map[string]operation{
	"Encrypt":                         {states: toUse},
	"Decrypt":                         {states: toUse},
	"ReEncryptFrom":                   {states: toUse},
	"ReEncryptTo":                     {states: toUse},
	"GenerateDataKey":                 {states: toUse},
	"GenerateDataKeyWithoutPlaintext": {states: toUse},

	"CreateKey":            {request: asks[CreateKeyInput], newKey: true},
	"DescribeKey":          {states: always, emergency: true},
	"ListKeys":             {emergency: true},
	"EnableKey":            {states: toSwitch, emergency: true},
	"DisableKey":           {states: toSwitch, emergency: true},
	"UpdateKeyDescription": {states: toChange},
	"TagResource":          {states: toChange},
	"UntagResource":        {states: toChange},
	"ListResourceTags":     {states: always, emergency: true},

	"ListAliases": {states: always, emergency: true},
	"CreateAlias": {states: toChange},
	"UpdateAlias": {states: toChange, request: asks[aliasParams]}, // the new target's state; of the old one every state will do
	"DeleteAlias": {states: always, request: asks[aliasParams]},

	"CreateGrant":         {states: toGrant, request: asks[CreateGrantInput]},
	"ListGrants":          {states: always, emergency: true},
	"ListRetirableGrants": {emergency: true},
	"RetireGrant":         {states: always},
	"RevokeGrant":         {states: always, emergency: true},

	"GetKeyPolicy":    {states: always, emergency: true},
	"PutKeyPolicy":    {states: always, emergency: true, request: asks[putPolicyParams]},
	"ListKeyPolicies": {states: always, emergency: true},

	"ScheduleKeyDeletion": {states: toChange, request: asks[scheduleParams]},
	"CancelKeyDeletion":   {states: toCancel, emergency: true},
	"ConfirmKeyDeletion":  {states: toCancel},
	"SuspendKeyDeletion":  {internal: true},
	"DeleteKey":           {internal: true},

	"EnableKeyRotation":    {states: toSetRotation},
	"DisableKeyRotation":   {states: toSetRotation},
	"GetKeyRotationStatus": {states: toReadRotation, emergency: true},
	"ListKeyRotations":     {states: toReadRotation, emergency: true},
	"RotateKeyOnDemand":    {states: toRotate},
	"RotateKey":            {internal: true},
	"DestroyKeyVersion":    {states: toDestroy, request: asks[DestroyVersionInput], ownerOnly: true},

	"GetParametersForImport":    {states: toImport},
	"ImportKeyMaterial":         {states: toImport},
	"DeleteImportedKeyMaterial": {states: toDropMaterial},
	"DeleteExpiredKeyMaterial":  {internal: true},

	"SetApproval":   {request: asks[setApprovalParams], ownerOnly: true},
	"SetBreakGlass": {request: asks[setBreakGlassParams], ownerOnly: true, secret: true},
	"EndBreakGlass": {internal: true},
}
