package keymgr

import (
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr/policy"
)

// Context is an encryption context: pairs that are authenticated with a blob and must be presented again, exactly, to open it. Order does
// not matter, case does; empty and nil are the same. Its canonical encoding (blockcrypt.EncodeContext) is at most 8 KiB.
type Context map[string]string

// ViaFileDaemon is Caller.Via of a request that a file daemon makes on behalf of the process that touched a file.
const ViaFileDaemon = "kmsfs.local.amazonaws.com"

// ViaKeyManager is Caller.Via of a request that the key manager of another host makes for one of its users.
const ViaKeyManager = "keys.kmsfs.local.amazonaws.com"

// Caller is who asks. On the client's side the zero Caller means "I myself": the server fills it in from the socket. A Caller with Via set is forwarded, which
// only a registered front end may do, and only for its own volume.
type Caller struct {
	UID, GID, PID int
	Principal     string           // ARN of the caller; filled in by the server where empty
	AccessKeyID   string           // of a signed request; set by the server
	Parameters    map[string]any   // of the request, for the record: no secret, ciphertext or token; set by the server
	Via           string           // "", or the front end that forwards, e.g. ViaFileDaemon
	Program       string           // path of the program, if known; for the record
	Path          string           // path of the file that is touched, if any; for the record
	Volume        string           // volume for which the front end is registered; set by the server
	Who           policy.Principal // who that is, for policies; set by the server
	Front         policy.Principal // the identity of the key manager that forwards the caller, with ViaKeyManager; set by the server
	From          Origin           // set by the server
	RequestID     string           // identifies the request in the key-use log; set by the server, drawn where empty

	approved *approval // of what is done now; nil: nobody has approved it
}

// Limits of the service; those of AWS KMS, but for MaxContext, which AWS does not publish.
const (
	MaxPlaintext   = 4096                  // bytes of plaintext under a CMK
	MaxBlob        = 6144                  // bytes of a ciphertext blob
	MaxDataKey     = 1024                  // bytes of a data key, and of GenerateRandom
	MaxDescription = 8192                  // characters
	MaxAlias       = 256                   // characters with the prefix alias/
	MaxAliases     = 50                    // of one key
	MaxContext     = blockcrypt.MaxContext // bytes of the canonical encoding
	MaxKeyID       = 2048                  // characters of anything that names a key
)

// Limits of what is kept with a key.
const (
	MaxTags         = 50
	MaxTagKey       = 128 // characters
	MaxTagValue     = 256 // characters
	MaxVersions     = 250 // backing keys of one key; AWS has none
	MinWindow       = 7   // days from ScheduleKeyDeletion to the deletion
	MaxWindow       = 30  // days; the default, too
	MinPeriod       = 90  // days from one rotation to the next
	MaxPeriod       = 2560
	DefaultPeriod   = 365
	onDemandInAWS   = 25 // rotations on demand, with Config.AWSLimits
	maxObservedStep = time.Hour
)

// Kinds of rotation.
const (
	RotationOnDemand  = "ON_DEMAND"
	RotationAutomatic = "AUTOMATIC"
)

// Key states. The last is AWS' for keys that are not made here.
const (
	StateEnabled         = "Enabled"
	StateDisabled        = "Disabled"
	StatePendingDeletion = "PendingDeletion"
	StatePendingImport   = "PendingImport"
	StateUnavailable     = "Unavailable"
)

// KeyMetadata describes a CMK.
type KeyMetadata struct {
	KeyID        string // UUID
	ARN          string
	Description  string
	State        string // one of the states above
	Enabled      bool   // State == StateEnabled
	Manager      string // ManagedByCustomer or ManagedByService
	Origin       string // OriginToken or OriginExternal
	CreationDate time.Time
	Versions     []VersionInfo // oldest first; the last one encrypts
	Aliases      []string      // with the prefix alias/, sorted

	Expiration string    // of imported material that is there: Expires or DoesntExpire
	ValidTo    time.Time // until then, if it expires

	DeletionDate      time.Time // zero unless the state is StatePendingDeletion; moves on while time is not observed
	DeletionSuspended bool      // the clock has jumped, and the deletion waits for ConfirmKeyDeletion
}

// VersionInfo describes one backing key of a CMK.
type VersionInfo struct {
	Number     uint32 // from 1
	MaterialID string // 64 hex digits; the same in every blob of this version
	Created    time.Time
	Destroyed  time.Time // when it was; zero: it was not
	MadeIn     string    // kind of the token that it came from by a migration, and so has been outside of this one; "": it has not
}

// CreateKeyInput asks for a new CMK. Alias (with its prefix alias/), if given, is made together with the key or not at all; that is not AWS'.
type CreateKeyInput struct {
	Description string
	Alias       string
	Tags        []Tag
	Policy      string // "": the default policy
	Bypass      bool   // do not check that the caller could change the policy
	Origin      string // "": OriginToken
}

// Tag is one tag of a key. Names are case-sensitive.
type Tag struct{ Key, Value string }

// TagList is a page of tags, sorted by key; NextMarker is "" on the last one.
type TagList struct {
	Tags       []Tag
	NextMarker string
}

// ScheduledDeletion is a deletion as it was scheduled.
type ScheduledDeletion struct {
	KeyID        string // ARN
	DeletionDate time.Time
	Days         int
}

// RotationStatus is how a key rotates. A key that does not rotate by period has only KeyID.
type RotationStatus struct {
	KeyID   string // UUID
	Enabled bool
	Days    int
	Next    time.Time
}

// Rotation is one backing key in the list of rotations.
type Rotation struct {
	MaterialID string
	Current    bool
	Date       time.Time // zero, as Type is "", for the key's first material
	Type       string    // RotationOnDemand or RotationAutomatic

	Import     string    // of origin EXTERNAL: ImportedState or PendingImportState
	Expiration string    // as KeyMetadata
	ValidTo    time.Time // as KeyMetadata
}

// Values of Rotation.Import.
const (
	ImportedState      = "IMPORTED"
	PendingImportState = "PENDING_IMPORT"
)

// RotationList is a page of rotations, oldest first; NextMarker is "" on the last one.
type RotationList struct {
	KeyID      string // UUID
	Rotations  []Rotation
	NextMarker string
}

// DataKey is a fresh data key, in clear and under a CMK. The caller wipes Plaintext.
type DataKey struct {
	Plaintext  []byte // nil from GenerateDataKeyWithoutPlaintext
	Blob       []byte
	KeyID      string // ARN
	MaterialID string
}

// GenerateDataKeyInput asks for a data key of Bytes (1 to MaxDataKey) random bytes under KeyID (id, ARN, alias or alias ARN).
type GenerateDataKeyInput struct {
	KeyID   string
	Bytes   int
	Context Context
	Tokens  []string // grant tokens
	DryRun  bool     // do nothing; ErrDryRun if it would have succeeded
}

// EncryptInput asks for the blob of 1 to MaxPlaintext bytes. Plaintext is only read.
type EncryptInput struct {
	KeyID     string
	Plaintext []byte
	Context   Context
	Tokens    []string
	DryRun    bool
}

// EncryptOutput is a blob and the ARN of the key it was made under.
type EncryptOutput struct {
	Blob  []byte
	KeyID string
}

// DecryptInput asks for the content of a blob. KeyID, if given, must name the key that made it (ErrIncorrectKey).
type DecryptInput struct {
	Blob    []byte
	Context Context
	KeyID   string
	Tokens  []string
	DryRun  bool
}

// DecryptOutput is the content of a blob. The caller wipes Plaintext.
type DecryptOutput struct {
	Plaintext  []byte
	KeyID      string // ARN
	MaterialID string
	Version    uint32 // of the CMK
}

// ReEncryptInput asks for the content of Blob under the current version of DestinationKeyID, without showing it. SourceKeyID as DecryptInput.KeyID.
type ReEncryptInput struct {
	Blob               []byte
	SourceContext      Context
	SourceKeyID        string
	DestinationKeyID   string
	DestinationContext Context
	Tokens             []string // of both keys
	DryRun             bool
}

// ReEncryptOutput is the new blob and both ARNs.
type ReEncryptOutput struct {
	Blob                  []byte
	SourceKeyID, KeyID    string
	SourceMaterialID      string
	DestinationMaterialID string
}

// Page asks for a part of a listing: at most Limit entries (0: the default; at most 1000, or 100 for aliases) from Marker on ("" = start).
type Page struct {
	Limit  int
	Marker string
}

// KeyEntry is one line of ListKeys.
type KeyEntry struct{ KeyID, ARN string }

// KeyList is a page of keys; NextMarker is "" on the last one.
type KeyList struct {
	Keys       []KeyEntry
	NextMarker string
}

// AliasEntry is one line of ListAliases.
type AliasEntry struct {
	Name, ARN, TargetKeyID string
	Created, Updated       time.Time
}

// AliasList is a page of aliases; NextMarker is "" on the last one.
type AliasList struct {
	Aliases    []AliasEntry
	NextMarker string
}

// VolumeRecord is what the key store knows about a volume. It is authoritative where it and the volume's own superblock disagree.
type VolumeRecord struct {
	ID         blockcrypt.VolumeID
	Name, Path string    // for people; Path is where it was last seen
	CMK        string    // ARN of the volume's CMK
	Superblock []byte    // copy of the volume's superblock, at most MaxSuperblock bytes
	Wraps      []Wrap    // of the volume key, in the superblock's order; nil: one under CMK
	Created    time.Time // set by the key manager when zero

	// FrontEnd is the key that the volume's front end proves itself by (blockcrypt.FrontEndKey). PutVolume takes the first that it is given and no other later;
	// it is never given back.
	FrontEnd *blockcrypt.Key
}

// Wrap says which key made a wrap of a volume key.
type Wrap struct {
	Key      string // ARN; of another key store, too. "" if it is not known
	Material string // as VersionInfo.MaterialID; "" if it is not known
}

// WrappedBy reports whether a wrap of the volume key is under the key, and whether all of them are.
func (v *VolumeRecord) WrappedBy(arn string) (any, only bool) {
	if len(v.Wraps) == 0 {
		return v.CMK == arn, v.CMK == arn
	}
	only = true
	for _, w := range v.Wraps {
		any = any || w.Key == arn
		only = only && w.Key == arn
	}
	return any, only
}

// maxVolumeWraps is how many wraps of a volume key are known: the 5 that it may have, and those that it is about to get instead.
const maxVolumeWraps = 10

// MaxSuperblock is the longest copy of a superblock, in bytes.
const MaxSuperblock = 32 << 10

// Anchor is the newest state of a volume's journal known to be durable: its generation (count of opens), the sequence number and the tag of
// its last record, and whether it was closed cleanly there.
type Anchor struct {
	Generation uint64
	Sequence   uint64
	Head       [16]byte
	Clean      bool
}
