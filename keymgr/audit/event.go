package audit

import "time"

// Class is the kind of an event.
type Class uint8

const (
	// Access: a successful operation on a file. The event survives the death of the process when Record returns, and a power cut within FlushWithin.
	Access Class = iota + 1
	// Denial: an operation on a file that was refused. It survives a power cut when Record returns, as do all classes below.
	Denial
	// KeyUse: a key was used, or its use was refused.
	KeyUse
	// Admin: something was changed: keys, policies, grants, volumes, identities; an emergency right was used.
	Admin
	// Integrity: something was found that is not as we left it.
	Integrity
	// Repair: the log itself, and what puts it right. It may use the space kept in reserve, as may Admin.
	Repair
)

// String is the class's name in the log.
func (c Class) String() string {
	if c < Access || c > Repair {
		return "unknown"
	}
	return [...]string{"access", "denial", "keyUse", "admin", "integrity", "repair"}[c-1]
}

// parseClass is the inverse of String; 0 for a name that is none.
func parseClass(s string) Class {
	for c := Access; c <= Repair; c++ {
		if c.String() == s {
			return c
		}
	}
	return 0
}

// FlushWithin bounds how long an Access event that is not Durable may be lost to a power cut.
const FlushWithin = 200 * time.Millisecond

// Decision is how a request was decided.
type Decision string

const (
	Allow Decision = "allow" // ErrorCode says if it failed all the same
	Deny  Decision = "deny"
)

// Source is the service an event comes from.
type Source string

const (
	Keys  Source = "kms.amazonaws.com"         // the key manager
	Files Source = "kmsfs.local.amazonaws.com" // a file daemon
)

// Names of file events. Names of key events are those of AWS' operations.
const (
	Open         = "Open" // open(2); OpenDirectory and Create likewise
	OpenDir      = "OpenDirectory"
	Create       = "Create" // a file, directory, link or node
	Close        = "Close"  // the last reference to an open file is gone; has the bytes exchanged
	Remove       = "Remove" // a name
	Rename       = "Rename" // Path to NewPath
	SetAttr      = "SetAttributes"
	SetXattr     = "SetExtendedAttribute"
	ReadLink     = "ReadLink"
	Lookup       = "Lookup" // in zones that decide it
	PutPolicy    = "PutZonePolicy"
	DeletePolicy = "DeleteZonePolicy"
	Shred        = "Shred" // files were removed, and every copy of their keys in the volume
	Lock         = "LockZone"
	Unlock       = "UnlockZone"
	Damage       = "IntegrityViolation"
	SubmitJob    = "SubmitJob" // long work on a volume; the others likewise
	PauseJob     = "PauseJob"
	ResumeJob    = "ResumeJob"
	CancelJob    = "CancelJob"
	EndJob       = "EndJob" // nobody's request: it is done, or not allowed any more
)

// Event is one event. The recorder sets ID, Time (where zero) and Sequence. Strings are valid UTF-8 or are made so when written; a member that is empty is not written.
type Event struct {
	Class   Class // required
	Durable bool  // survives a power cut when Record returns, though its class does not ask for that
	Source  Source
	Name    string    // required; eventName
	Time    time.Time // eventTime, UTC
	ID      string    // UUID; eventID
	// RequestID is the request's own id; KeyRequestID that of the key call behind a file event, empty where a cached key did.
	RequestID, KeyRequestID string
	ReadOnly                bool
	Internal                bool // nobody asked for it (AwsServiceEvent)

	Identity
	Object

	Parameters map[string]any // requestParameters beyond what Object says: no secret, marshals as JSON
	Response   map[string]any // responseElements: of changes only

	Decision     Decision      // required
	Statement    string        // the rule that decided: a policy's statement, a grant, or that none allows it
	ErrorCode    string        // AWS' name, or the errno's ("EIO"); empty for success
	ErrorMessage string        // for people
	Detail       string        // what a change is about, a cause; for people
	Latency      time.Duration // from the request to the decision
	Alert        bool          // somebody should look at it: authority was given, taken or used in an emergency
	Cached       bool          // decided with a key or decision in memory

	BytesRead, BytesWritten uint64 // of Close
	Count                   uint64 // how many such things happened, where one event stands for many

	// Sealed is the event itself, sealed to an auditor: then nothing else is set but Class, Source, Name, Time, ID, ReadOnly and Decision.
	Sealed string

	Sequence uint64 // place in its log, from 0; set by reading
}

// Identity is who asked.
type Identity struct {
	Principal     string // ARN
	AccessKeyID   string // of a signed request
	UID, GID, PID int
	Program       string // path of the executable
	ProgramSHA256 string // hex
	Via           string // the front end that asked for it
	ForwardedBy   string // ARN of the identity that asked for it, of another host's key manager
	SourceAddress string // of a signed request
	UserAgent     string
	TLS           *TLS // of a request over TLS; nil: it came otherwise. Not changed
}

// TLS says how a request was protected on the way, as CloudTrail's tlsDetails.
type TLS struct {
	Version string `json:"tlsVersion"`               // "TLSv1.3"
	Suite   string `json:"cipherSuite"`              // its name at IANA
	Host    string `json:"clientProvidedHostHeader"` // what the client called the server
}

// Object is what was asked for.
type Object struct {
	Key        string            // ARN, or what the caller named while it is not resolved
	KeyVersion uint32            // 0: not known
	MaterialID string            // of the key's version
	Context    map[string]string // encryption context

	DestinationKey     string // of ReEncrypt
	DestinationVersion uint32
	DestinationContext map[string]string

	Volume  string // id, 32 hex digits
	Zone    uint64 // 0: none
	Path    string // within the volume, from its root: "/a/b"
	NewPath string // of Rename and of links
	Inode   uint64
}
