package dirpolicy

import (
	"time"

	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta"
)

// Limits of a policy.
const (
	MaxSource = policy.MaxDocument  // bytes
	MaxLearn  = 14 * 24 * time.Hour // of learn mode, from when it is set
	MaxKeyTTL = 24 * time.Hour
)

// Actions are what statements may name, besides patterns of them.
var Actions = []string{"kmsfs:List", "kmsfs:Read", "kmsfs:Write", "kmsfs:Create", "kmsfs:Delete", "kmsfs:Rename", "kmsfs:SetAttr", "kmsfs:Admin"}

// Key names a CMK: id, ARN, or alias.
type Key struct {
	Name         string
	Line, Column int
}

// Policy is a policy that was read.
type Policy struct {
	Keys   []Key       // the first makes the zone's key, any of them opens it; none: the keys stay as they are, or are those of the directory above
	Params meta.Params // of new files
	// Given says which members were written: block_size, compression, inline, key_ttl.
	BlockSizeGiven, CompressionGiven, InlineGiven, KeyTTLGiven bool

	ByCMK          bool          // wrap: cmk
	KeyTTL         time.Duration // 0: the mount's
	Audit          audit.Level   // "" is the default
	Strict         bool          // revocation: strict
	StrictMetadata bool          // metadata: strict
	Learn          time.Time     // until when implicit denials are only recorded; zero: they count

	Statements *policy.Document // nil: access is by permissions and key policies alone
	Programs   bool             // a statement has a condition on the program
	Digests    bool             // a statement has one on the program's digest
	Paths      bool             // a statement has one on the path
	Volumes    bool             // a statement has one on the volume

	source []byte
}

// Source returns a copy of what was read.
func (p *Policy) Source() []byte { return append([]byte(nil), p.source...) }

// Learning reports whether implicit denials are suspended at that time.
func (p *Policy) Learning(now time.Time) bool { return !p.Learn.IsZero() && now.Before(p.Learn) }

// Resolver is asked about names. A nil function accepts all.
type Resolver struct {
	User, Group func(name string) error
	// Now is the time at which the policy is set: what is over by then is refused. Zero when a policy is read that was set before.
	Now time.Time
}
