package keymgr

import (
	"encoding/hex"
	"fmt"
	"time"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/keymgr/policy"
)

// infoRecord is the row that says what the store is. Its opening proves that store and store key belong together.
type infoRecord struct {
	Created time.Time `json:"created"`
}

// keyRecord is the row of a CMK.
type keyRecord struct {
	Description string          `json:"description"`
	State       string          `json:"state"`
	Created     time.Time       `json:"created"`
	Versions    []versionRecord `json:"versions"` // oldest first; INVARIANT: numbers 1..n, and n > 0 unless Origin is OriginExternal, then n < 2
	Aliases     []string        `json:"aliases"`  // sorted; INVARIANT: each has its alias row

	Origin   string          `json:"origin,omitempty"`   // "": OriginToken
	Import   *importRecord   `json:"import,omitempty"`   // INVARIANT: there if and only if Origin is OriginExternal
	Managed  bool            `json:"managed,omitempty"`  // by the service: its policy is managedPolicy
	Grants   int             `json:"grants,omitempty"`   // how many there are
	Deletion *deletionRecord `json:"deletion,omitempty"` // INVARIANT: there if and only if the state is PendingDeletion, and then its row d is, too
	Rotation *rotationRecord `json:"rotation,omitempty"` // INVARIANT: there if and only if its row r is
}

// deletionRecord is a deletion that was scheduled.
type deletionRecord struct {
	Requested time.Time     `json:"requested"`
	Days      int           `json:"days"`
	Remaining time.Duration `json:"remaining"` // nanoseconds that the key manager has yet to observe
	Due       time.Time     `json:"due"`       // what Remaining meant when it was written, if nothing gets in between
	Suspended bool          `json:"suspended"` // the clock has jumped; it goes on when somebody confirms it
}

// rotationRecord is the rotation of a key by period.
type rotationRecord struct {
	Days int       `json:"days"`
	Next time.Time `json:"next"`
}

// tagsRecord is the row of a key's tags.
type tagsRecord struct {
	Tags map[string]string `json:"tags"`
}

// remainsRecord is what is left of a deleted key.
type remainsRecord struct {
	TokenKeys []string `json:"tokenKeys"` // ids in the token of backing keys to be destroyed
}

// versionRecord is one backing key.
type versionRecord struct {
	Number   uint32    `json:"number"`
	Material string    `json:"material"`   // 64 hex digits
	TokenKey string    `json:"tokenKey"`   // 32 hex digits: its id in the token
	Check    string    `json:"checkValue"` // hex
	Created  time.Time `json:"created"`
	Rotation string    `json:"rotation,omitempty"` // RotationOnDemand or RotationAutomatic; "" of the first

	MadeIn     string `json:"madeIn,omitempty"`     // kind of the token that it was made in and came from; "": this one, or imported
	Commitment string `json:"commitment,omitempty"` // hex; of imported material: tells it from other material

	Destroyed time.Time `json:"destroyed,omitzero"` // its backing key is no more since then; INVARIANT: never of the last version
}

// materialRecord leads from a blob to its key.
type materialRecord struct {
	Key     string `json:"key"` // UUID
	Version uint32 `json:"version"`
}

// usesRecord counts the uses of a backing key that were reserved, used or not.
type usesRecord struct {
	Reserved uint64 `json:"reserved"`
}

// aliasRecord is the row of an alias.
type aliasRecord struct {
	Name    string    `json:"name"`
	Key     string    `json:"key"` // UUID
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
}

// volumeRecord is the row of a volume.
type volumeRecord struct {
	Name       string       `json:"name"`
	Path       string       `json:"path"`
	CMK        string       `json:"cmk"` // ARN
	Superblock []byte       `json:"superblock"`
	Created    time.Time    `json:"created"`
	Wraps      []wrapRecord `json:"wraps,omitempty"`
	FrontEnd   []byte       `json:"frontEnd,omitempty"` // key that its front end proves itself by
}

// wrapRecord is a wrap of a volume key.
type wrapRecord struct {
	Key      string `json:"key"`
	Material string `json:"material"` // 64 hex digits
}

// anchorRecord is the row of an anchor.
type anchorRecord struct {
	Generation uint64 `json:"generation"`
	Sequence   uint64 `json:"sequence"`
	Head       string `json:"head"` // 32 hex digits
	Clean      bool   `json:"clean"`
}

// cmk is a keyRecord, checked and ready for use. Never changed once built.
type cmk struct {
	id       keyUUID
	record   keyRecord
	versions []version // as record.Versions

	// Only of what keyByID returns.
	tags   map[string]string
	policy *policy.Document
	facts  *policy.Context // what policies may ask about it
}

// version is a versionRecord with its ids parsed.
type version struct {
	number   uint32
	material materialID
	tokenKey hsm.KeyID
	created  time.Time
	rotation string

	destroyed time.Time // zero: it was not
}

func newCMK(id keyUUID, rec keyRecord) (*cmk, error) {
	k := &cmk{id: id, record: rec}
	if n := len(rec.Versions); (rec.Origin == OriginExternal) != (rec.Import != nil) || rec.Import == nil && n == 0 || rec.Import != nil && (n > 1 || n == 0 && rec.Import.Present) {
		return nil, fmt.Errorf("key %s of origin %q has %d versions: %w", id, printable(rec.Origin), n, errRow)
	}
	for i, v := range rec.Versions {
		material, err := parseMaterial(v.Material)
		if err != nil || v.Number != uint32(i+1) {
			return nil, fmt.Errorf("version %d of key %s: %w", v.Number, id, errRow)
		}
		tokenKey, err := hsm.ParseKeyID(v.TokenKey)
		if err != nil {
			return nil, fmt.Errorf("version %d of key %s: %v: %w", v.Number, id, err, errRow)
		}
		if !v.Destroyed.IsZero() && i == len(rec.Versions)-1 {
			return nil, fmt.Errorf("version %d of key %s, the newest, is destroyed: %w", v.Number, id, errRow)
		}
		k.versions = append(k.versions, version{v.Number, material, tokenKey, v.Created, v.Rotation, v.Destroyed})
	}
	return k, nil
}

// current is the version that encrypts; nil of a key into which nothing was imported yet.
func (k *cmk) current() *version {
	if len(k.versions) == 0 {
		return nil
	}
	return &k.versions[len(k.versions)-1]
}

// origin is where the key's material comes from.
func (k *cmk) origin() string {
	if k.record.Origin == "" {
		return OriginToken
	}
	return k.record.Origin
}

// manager is who manages the key.
func (k *cmk) manager() string {
	if k.record.Managed {
		return ManagedByService
	}
	return ManagedByCustomer
}

func (k *cmk) metadata() KeyMetadata {
	md := KeyMetadata{
		KeyID: k.id.String(), ARN: k.id.ARN(), Description: k.record.Description, State: k.record.State,
		Enabled: k.record.State == StateEnabled, Manager: k.manager(), Origin: k.origin(), CreationDate: k.record.Created,
		Aliases: append([]string(nil), k.record.Aliases...),
	}
	for _, v := range k.versions {
		md.Versions = append(md.Versions, VersionInfo{Number: v.number, MaterialID: v.material.String(), Created: v.created, Destroyed: v.destroyed, MadeIn: k.record.Versions[v.number-1].MadeIn})
	}
	if i := k.record.Import; i != nil && i.Present {
		md.Expiration, md.ValidTo = DoesntExpire, i.ValidTo
		if !i.ValidTo.IsZero() {
			md.Expiration = Expires
		}
	}
	if d := k.record.Deletion; d != nil {
		md.DeletionDate, md.DeletionSuspended = d.Due, d.Suspended
	}
	return md
}

func parseMaterial(s string) (materialID, error) {
	raw, err := hex.DecodeString(s)
	if err != nil || len(raw) != materialSize {
		return materialID{}, fmt.Errorf("material id %q: %w", printable(s), errRow)
	}
	return materialID(raw), nil
}
