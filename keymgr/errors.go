package keymgr

import (
	"context"
	"errors"
	"fmt"
)

// The error classes of the key manager. Each has a code that is the same on the wire (AWS' name where AWS has one) and survives it: errors.Is
// with one of these holds on both sides. Where ErrKeyUnavailable holds, the same call may succeed later.
var (
	// ErrNotFound: no such key, alias, volume or anchor.
	ErrNotFound = newClass("NotFoundException", "not found", nil)
	// ErrAlreadyExists: the name is taken.
	ErrAlreadyExists = newClass("AlreadyExistsException", "exists already", nil)
	// ErrDisabled: the key is disabled; EnableKey helps.
	ErrDisabled = newClass("DisabledException", "the key is disabled", nil)
	// ErrInvalidState: the key's state does not allow the operation, or its backing key is gone from the token.
	ErrInvalidState = newClass("KMSInvalidStateException", "the key's state does not allow this", nil)
	// ErrInvalidCiphertext: the blob is not authentic: damaged, or presented with another encryption context. It never says which.
	ErrInvalidCiphertext = newClass("InvalidCiphertextException", "invalid ciphertext or encryption context", nil)
	// ErrIncorrectKey: the blob was made under another key than the one demanded.
	ErrIncorrectKey = newClass("IncorrectKeyException", "incorrect key", nil)
	// ErrAccessDenied: the caller may not do this, or the blob's key is not known here.
	ErrAccessDenied = newClass("AccessDeniedException", "access denied", nil)
	// ErrNotAuthorized: the name is reserved.
	ErrNotAuthorized = newClass("NotAuthorizedException", "not authorized", nil)
	// ErrValidation: a member of the request is missing or out of range.
	ErrValidation = newClass("ValidationException", "invalid request", nil)
	// ErrInvalidAlias: not a well-formed alias name.
	ErrInvalidAlias = newClass("InvalidAliasNameException", "invalid alias name", nil)
	// ErrInvalidArn: not a well-formed ARN.
	ErrInvalidArn = newClass("InvalidArnException", "invalid ARN", nil)
	// ErrInvalidMarker: the marker is not one that a listing gave out.
	ErrInvalidMarker = newClass("InvalidMarkerException", "invalid marker", nil)
	// ErrLimit: a limit is reached, among them the number of uses of a key version.
	ErrLimit = newClass("LimitExceededException", "limit exceeded", nil)
	// ErrMissingToken: the request is not signed.
	ErrMissingToken = newClass("MissingAuthenticationTokenException", "the request is not signed", nil)
	// ErrIncompleteSignature: the signature lacks a part, or is of another kind.
	ErrIncompleteSignature = newClass("IncompleteSignatureException", "incomplete signature", nil)
	// ErrInvalidSignature: the signature is not that of the request, too old, or was used already.
	ErrInvalidSignature = newClass("InvalidSignatureException", "invalid signature", nil)
	// ErrUnrecognizedClient: no such access key.
	ErrUnrecognizedClient = newClass("UnrecognizedClientException", "unknown access key", nil)
	// ErrThrottling: too many requests at the moment. Retryable.
	ErrThrottling = newClass("ThrottlingException", "too many requests", nil)
	// ErrInvalidGrantToken: not a grant token of this key store.
	ErrInvalidGrantToken = newClass("InvalidGrantTokenException", "invalid grant token", nil)
	// ErrInvalidGrantID: not the shape of a grant's id.
	ErrInvalidGrantID = newClass("InvalidGrantIdException", "invalid grant id", nil)
	// ErrInvalidImportToken: not an import token of this key.
	ErrInvalidImportToken = newClass("InvalidImportTokenException", "invalid import token", nil)
	// ErrExpiredImportToken: the import token is older than 24 hours.
	ErrExpiredImportToken = newClass("ExpiredImportTokenException", "expired import token", nil)
	// ErrIncorrectMaterial: not the key material that was imported into the key before, or no AES-256 key.
	ErrIncorrectMaterial = newClass("IncorrectKeyMaterialException", "incorrect key material", nil)
	// ErrDryRun: the request would have succeeded, and asked that nothing be done.
	ErrDryRun = newClass("DryRunOperationException", "dry run", nil)
	// ErrApprovalRequired: the change waits for a second person; the message names the request. Not AWS'.
	ErrApprovalRequired = newClass("ApprovalRequiredException", "a second person has to approve", nil)
	// ErrMalformedPolicy: not a policy document, one that says what has no meaning here, or one that would lock its author out.
	ErrMalformedPolicy = newClass("MalformedPolicyDocumentException", "malformed policy document", nil)
	// ErrTag: tags that are doubled, too many, reserved or malformed.
	ErrTag = newClass("TagException", "invalid tags", nil)
	// ErrUnsupported: valid in AWS, not built here.
	ErrUnsupported = newClass("UnsupportedOperationException", "unsupported operation", nil)
	// ErrUnknownOperation: no such operation.
	ErrUnknownOperation = newClass("UnknownOperationException", "unknown operation", nil)
	// ErrSerialization: the request is not well-formed JSON, or too large.
	ErrSerialization = newClass("SerializationException", "malformed request", nil)
	// ErrInternal: something of ours is wrong; the log of the key manager says what.
	ErrInternal = newClass("KMSInternalException", "internal error of the key manager", nil)

	// ErrKeyUnavailable: the key manager or its token does not answer at the moment. Retryable.
	ErrKeyUnavailable = newClass("KeyUnavailableException", "the key is not available at the moment", nil)
	// ErrDependencyTimeout: the token did not answer in time. It is an ErrKeyUnavailable.
	ErrDependencyTimeout = newClass("DependencyTimeoutException", "the token did not answer in time", ErrKeyUnavailable)
	// ErrLocked: the key store is locked and waits for its secret. It is an ErrKeyUnavailable. Not AWS'.
	ErrLocked = newClass("KeyStoreLockedException", "the key store is locked", ErrKeyUnavailable)
	// ErrRecord: the key-use log cannot be written, so the key was not used. It is an ErrKeyUnavailable. Not AWS'.
	ErrRecord = newClass("KeyUseLogException", "the key-use log cannot be written", ErrKeyUnavailable)

	// ErrWrongSecret: the passphrase, key file or PIN does not open the key store. Not AWS'.
	ErrWrongSecret = newClass("IncorrectSecretException", "wrong secret for this key store", nil)
	// ErrRollback: the anchor offered is older than the one that is kept, or contradicts it. Not AWS'.
	ErrRollback = newClass("AnchorRollbackException", "older than the anchored state", nil)
)

// class is one of the sentinels above. An INVARIANT: codes are unique (tested).
type class struct {
	code, text string
	parent     error
}

func newClass(code, text string, parent error) error { return &class{code, text, parent} }

func (c *class) Error() string { return c.text }
func (c *class) Unwrap() error { return c.parent }

// classes returns all sentinels, the more special ones first.
func classes() []error {
	return []error{ErrNotFound, ErrAlreadyExists, ErrDisabled, ErrInvalidState, ErrInvalidCiphertext, ErrIncorrectKey, ErrAccessDenied,
		ErrNotAuthorized, ErrValidation, ErrInvalidAlias, ErrInvalidArn, ErrInvalidMarker, ErrLimit, ErrMissingToken, ErrIncompleteSignature,
		ErrInvalidSignature, ErrUnrecognizedClient, ErrThrottling, ErrInvalidGrantToken, ErrInvalidGrantID,
		ErrInvalidImportToken, ErrExpiredImportToken, ErrIncorrectMaterial,
		ErrDryRun, ErrApprovalRequired, ErrMalformedPolicy, ErrTag, ErrUnsupported, ErrUnknownOperation,
		ErrSerialization, ErrInternal, ErrDependencyTimeout, ErrLocked, ErrRecord, ErrKeyUnavailable, ErrWrongSecret, ErrRollback}
}

// Fault is an answer of the key manager: a class and a message that may be shown to the caller. It holds no secret, and for
// ErrInvalidCiphertext no message at all. Cause is for the key manager's own log and does not cross the wire.
type Fault struct {
	Class   error // one of the sentinels
	Message string
	Cause   error
}

// Error gives class, message and cause.
func (f *Fault) Error() string {
	s := f.Class.Error()
	if f.Message != "" {
		s += ": " + f.Message
	}
	if f.Cause != nil {
		s += ": " + f.Cause.Error()
	}
	return s
}

// Unwrap gives class and cause.
func (f *Fault) Unwrap() []error {
	if f.Cause == nil {
		return []error{f.Class}
	}
	return []error{f.Class, f.Cause}
}

// fault builds a Fault; the format is for the message.
func fault(class error, format string, args ...any) error {
	return &Fault{Class: class, Message: fmt.Sprintf(format, args...)}
}

// Code returns the stable name of the error's class, as it stands on the wire and in the key-use log: "" for nil, KMSInternalException for an error that
// has none, DependencyTimeoutException for a context that ended.
func Code(err error) string {
	if err == nil {
		return ""
	}
	return classOf(err).(*class).code
}

// Message returns what the caller may be told beside the code: the message of the outermost Fault, or nothing.
func Message(err error) string {
	var f *Fault
	if errors.As(err, &f) {
		return f.Message
	}
	return ""
}

// FromCode is the reverse of Code and Message: the error that a client returns for an answer with this code. A code that is not known here
// gives an ErrInternal that names it.
func FromCode(code, message string) error {
	for _, c := range classes() {
		if c.(*class).code == code {
			return &Fault{Class: c, Message: message}
		}
	}
	return &Fault{Class: ErrInternal, Message: fmt.Sprintf("answered %q: %s", code, message)}
}

// classOf finds the class of an error: that of its outermost Fault, or the first sentinel it wraps.
func classOf(err error) error {
	var f *Fault
	if errors.As(err, &f) {
		return f.Class
	}
	for _, c := range classes() {
		if errors.Is(err, c) {
			return c
		}
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return ErrDependencyTimeout
	}
	return ErrInternal
}

// errRow: a row of the key store does not have the shape it was written in. Answered as ErrInternal.
var errRow = errors.New("malformed row")
