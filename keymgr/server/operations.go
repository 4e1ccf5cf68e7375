package server

import (
	"context"
	"slices"
	"strings"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

// operation is one entry of the tables below.
type operation struct {
	name        string
	forwardable bool // a registered front end may ask for others
	slow        bool // has the time of Unlock
	token       bool // the token has to work for it
	aws         bool // one of AWS'
	signed      bool // ours, and open to identities, which sign
	run         func(ctx context.Context, s *server, r *request) (any, error)
}

// operations finds an operation by its full name.
func operations(target string) (operation, bool) {
	if name, ok := strings.CutPrefix(target, wire.ServiceAWS); ok {
		op, ok := awsOperations[name]
		if !ok && slices.Contains(refused, name) {
			op, ok = refuse(name), true
		}
		op.aws, op.name = true, name
		return op, ok
	}
	if name, ok := strings.CutPrefix(target, wire.ServiceKmsfs); ok {
		op, ok := kmsfsOperations[name]
		op.name = name
		return op, ok
	}
	return operation{}, false
}

// awsOperations are AWS' operations.
var awsOperations = map[string]operation{
	"CreateKey":                       manage(createKey),
	"DescribeKey":                     manage(describeKey),
	"ListKeys":                        manage(listKeys),
	"EnableKey":                       manage(enableKey),
	"DisableKey":                      manage(disableKey),
	"RotateKeyOnDemand":               manage(rotateKeyOnDemand),
	"CreateAlias":                     manage(createAlias),
	"DeleteAlias":                     manage(deleteAlias),
	"ListAliases":                     manage(listAliases),
	"UpdateAlias":                     manage(updateAlias),
	"UpdateKeyDescription":            manage(updateKeyDescription),
	"TagResource":                     manage(tagResource),
	"UntagResource":                   manage(untagResource),
	"ListResourceTags":                manage(listResourceTags),
	"ScheduleKeyDeletion":             manage(scheduleKeyDeletion),
	"CancelKeyDeletion":               manage(cancelKeyDeletion),
	"EnableKeyRotation":               manage(enableKeyRotation),
	"DisableKeyRotation":              manage(disableKeyRotation),
	"GetKeyRotationStatus":            manage(getKeyRotationStatus),
	"CreateGrant":                     manage(createGrant),
	"ListGrants":                      manage(listGrants),
	"ListRetirableGrants":             manage(listRetirableGrants),
	"RetireGrant":                     manage(retireGrant),
	"RevokeGrant":                     manage(revokeGrant),
	"PutKeyPolicy":                    manage(putKeyPolicy),
	"GetKeyPolicy":                    manage(getKeyPolicy),
	"ListKeyPolicies":                 manage(listKeyPolicies),
	"ListKeyRotations":                manage(listKeyRotations),
	"GetParametersForImport":          slowly(manage(getParametersForImport)),
	"ImportKeyMaterial":               manage(importKeyMaterial),
	"DeleteImportedKeyMaterial":       manage(deleteImportedKeyMaterial),
	"GenerateDataKey":                 inToken(use(generateDataKey)),
	"GenerateDataKeyWithoutPlaintext": inToken(use(generateDataKeyWithoutPlaintext)),
	"Encrypt":                         inToken(use(encrypt)),
	"Decrypt":                         inToken(use(decrypt)),
	"ReEncrypt":                       inToken(use(reEncrypt)),
	"GenerateRandom":                  manage(generateRandom),
}

// refused are AWS' operations on kinds of keys and key stores that there are none of here.
var refused = strings.Fields(`ConnectCustomKeyStore CreateCustomKeyStore Decapsulate DeleteCustomKeyStore DeriveSharedSecret DescribeCustomKeyStores
	DisconnectCustomKeyStore Encapsulate GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext GenerateMac GetKeyLastUsage GetPublicKey
	ReplicateKey Sign SynchronizeMultiRegionKey UpdateCustomKeyStore UpdatePrimaryRegion Verify VerifyMac`)

// refuse makes an operation that is always answered by ErrUnsupported.
func refuse(name string) operation {
	return operation{run: func(context.Context, *server, *request) (any, error) {
		return nil, unsupported(name + " is not supported")
	}}
}

// kmsfsOperations are ours.
var kmsfsOperations = map[string]operation{
	"ConfirmKeyDeletion": manage(confirmKeyDeletion),
	"DestroyKeyVersion":  manage(destroyKeyVersion),
	"GetManagedKey":      manage(getManagedKey),

	"CreateIdentity":    manage(createIdentity),
	"ListIdentities":    manage(listIdentities),
	"DisableIdentity":   manage(disableIdentity),
	"EnableIdentity":    manage(enableIdentity),
	"DeleteIdentity":    manage(deleteIdentity),
	"RotateIdentityKey": manage(rotateIdentityKey),

	"PutIdentityPolicy":    manage(putIdentityPolicy),
	"GetIdentityPolicy":    manage(getIdentityPolicy),
	"DeleteIdentityPolicy": manage(deleteIdentityPolicy),
	"MapIdentity":          manage(mapIdentity),
	"UnmapIdentity":        manage(unmapIdentity),

	"SetApproval":          signed(manage(setApproval)),
	"GetApproval":          signed(manage(getApproval)),
	"ListApprovalRequests": signed(manage(listApprovalRequests)),
	"GetApprovalRequest":   signed(manage(getApprovalRequest)),
	"ApproveRequest":       signed(manage(approveRequest)),
	"RejectRequest":        signed(manage(rejectRequest)),
	"SetBreakGlass":        slowly(manage(setBreakGlass)),
	"OpenBreakGlass":       slowly(manage(openBreakGlass)),
	"CloseBreakGlass":      signed(manage(closeBreakGlass)),

	"RegisterVolume": {run: registerVolume},
	"PutVolume":      manage(putVolume),
	"GetVolume":      manage(getVolume),
	"ListVolumes":    manage(listVolumes),
	"GetAnchor":      manage(getAnchor),
	"AdvanceAnchor":  frontEnd(advanceAnchor),
	"RestoreAnchor":  manage(restoreAnchor),

	"SealAudit":       frontEnd(sealAudit),
	"GetAuditHead":    manage(getAuditHead),
	"ListAuditHeads":  {run: listAuditHeads},
	"ArchiveAuditLog": manage(archiveAudit),
	"AcceptAuditLog":  manage(acceptAudit),

	"Authorize":      use(authorize),
	"Watch":          {run: watch, slow: true},
	"BackupKeyStore": {run: backupKeyStore, slow: true},

	"ReportViolation": {run: reportViolation},

	"Status": {run: status},
	"Unlock": {run: unlock, slow: true},
}

// call is an operation on the unlocked key store.
type call[In, Out any] func(ctx context.Context, m *keymgr.Manager, r *request, in *In) (Out, error)

// manage makes an operation that is asked for in one's own name.
func manage[In, Out any](fn call[In, Out]) operation { return operation{run: runCall(fn, true)} }

// slowly gives an operation the time of Unlock.
func slowly(op operation) operation {
	op.slow = true
	return op
}

// inToken says that the token works for an operation, so that it takes turns.
func inToken(op operation) operation {
	op.token = true
	return op
}

// signed opens an operation to identities.
func signed(op operation) operation {
	op.signed = true
	return op
}

// use makes an operation that a front end may forward.
func use[In, Out any](fn call[In, Out]) operation {
	return operation{run: runCall(fn, false), forwardable: true}
}

// frontEnd makes an operation that is for the front end of a volume.
func frontEnd[In, Out any](fn call[In, Out]) operation {
	run := runCall(fn, false)
	return operation{run: func(ctx context.Context, s *server, r *request) (any, error) {
		if err := s.proveFrontEnd(ctx, r.session, r.by); err != nil {
			return nil, err
		}
		return run(ctx, s, r)
	}}
}

// runCall runs an operation. recorded: the key manager records the parameters of the request as they are; of what uses a key it says itself what matters.
func runCall[In, Out any](fn call[In, Out], recorded bool) func(context.Context, *server, *request) (any, error) {
	return func(ctx context.Context, s *server, r *request) (any, error) {
		m, err := s.manager()
		if err != nil {
			return nil, err
		}
		in := new(In)
		defer wire.Wipe(in)
		if err := wire.Decode(r.body, in); err != nil {
			return nil, err
		}
		if recorded {
			r.by.Parameters = wire.Parameters(in)
		}
		out, err := fn(ctx, m, r, in)
		if err != nil {
			return nil, err
		}
		if _, empty := any(out).(none); empty {
			return nil, nil
		}
		return &out, nil
	}
}

// none is the output of an operation without one; the answer has no body.
type none struct{}
