package wire

import (
	"encoding/hex"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr"
)

// The bodies of our own operations.

// RegisterVolumeRequest is the input of RegisterVolume. The volume alone says for whom the connection is there, and is answered by a challenge. With the proof that
// answers it (keymgr.FrontEndProof), or ByRight, the connection may forward requests.
type RegisterVolumeRequest struct {
	VolumeId string
	Proof    []byte `json:",omitempty"`
	ByRight  bool   `json:",omitempty"` // the peer has the right kmsfs:FrontEnd
}

// RegisterVolumeResponse is the output of RegisterVolume: the connection's challenge.
type RegisterVolumeResponse struct{ Challenge []byte }

// VolumeRequest is the input of operations that take a volume alone.
type VolumeRequest struct{ VolumeId string }

// Volume is a volume's record.
type Volume struct {
	VolumeId   string
	Name, Path string
	CMK        string
	Superblock []byte
	Wraps      []keymgr.Wrap `json:",omitempty"`
	Created    Time
}

// PutVolumeRequest is the input of PutVolume, GetVolumeResponse the output of GetVolume.
type (
	PutVolumeRequest struct {
		Volume   Volume
		FrontEnd Secret `json:"-" secret:"FrontEnd"` // keymgr.VolumeRecord.FrontEnd
	}
	GetVolumeResponse struct{ Volume Volume }
)

// ListVolumesResponse is the output of ListVolumes.
type ListVolumesResponse struct{ Volumes []Volume }

// Anchor is an anchor.
type Anchor struct {
	Generation, Sequence uint64
	Head                 string // 32 hex digits
	Clean                bool
}

// AnchorRequest is the input of AdvanceAnchor, and of RestoreAnchor with a Reason.
type AnchorRequest struct {
	VolumeId string
	Anchor   Anchor
	Reason   string `json:",omitempty"`
}

// AnchorResponse is the output of GetAnchor.
type AnchorResponse struct{ Anchor Anchor }

// UnlockRequest is the input of Unlock.
type UnlockRequest struct {
	Secret        Secret `json:"-" secret:"Secret"`
	AcceptRestore bool   `json:",omitempty"` // of a key store that is older than its token knows
}

// BackupKeyStoreRequest is the input of BackupKeyStore.
type BackupKeyStoreRequest struct {
	Path string // absolute; of a file that is not there yet
}

// StatusResponse is the output of Status.
type StatusResponse struct {
	KeyStoreId      string
	Dir             string
	Locked          bool
	Unlock          string
	PID             int
	Started         Time
	Token           Token
	KeyUseLog       string
	KeyUseLogError  string     `json:",omitempty"`
	Listen          string     `json:",omitempty"`
	TLS             bool       `json:",omitempty"`
	FrontEndVolumes []string   `json:",omitempty"`
	Approvers       int        `json:",omitempty"`
	Emergency       *Emergency `json:",omitempty"`
	Backup          *Backup    `json:",omitempty"`
}

// Backup is the last backup of the key store in a status; Time is null if there was none.
type Backup struct {
	Time          Time
	Generation    uint64
	Changed, Keys bool
}

func fromBackup(b *keymgr.LastBackup) *Backup {
	if b == nil {
		return nil
	}
	return &Backup{Time{b.Time}, b.Generation, b.Changed, b.Keys}
}

func (b *Backup) backup() *keymgr.LastBackup {
	if b == nil {
		return nil
	}
	return &keymgr.LastBackup{Time: b.Time.Time, Generation: b.Generation, Changed: b.Changed, Keys: b.Keys}
}

// Token describes the token.
type Token struct {
	Kind, Label, Model, Serial string
	HSM                        bool
	Imports                    bool   `json:",omitempty"`
	Error                      string `json:",omitempty"`
}

// FromVolume makes the wire's shape of a volume's record.
func FromVolume(v keymgr.VolumeRecord) Volume {
	return Volume{v.ID.String(), v.Name, v.Path, v.CMK, v.Superblock, v.Wraps, Time{v.Created}}
}

// Record is the inverse of FromVolume. ErrValidation for what is not a volume id.
func (v Volume) Record() (keymgr.VolumeRecord, error) {
	id, err := ParseVolumeID(v.VolumeId)
	return keymgr.VolumeRecord{ID: id, Name: v.Name, Path: v.Path, CMK: v.CMK, Superblock: v.Superblock, Wraps: v.Wraps, Created: v.Created.Time}, err
}

// ParseVolumeID reads a volume's id. ErrValidation for anything else.
func ParseVolumeID(s string) (blockcrypt.VolumeID, error) {
	id, err := blockcrypt.ParseVolumeID(s)
	if err != nil || id.IsZero() {
		return id, &keymgr.Fault{Class: keymgr.ErrValidation, Message: "VolumeId is not the id of a volume"}
	}
	return id, nil
}

// FromAnchor makes the wire's shape of an anchor.
func FromAnchor(a keymgr.Anchor) Anchor {
	return Anchor{a.Generation, a.Sequence, hex.EncodeToString(a.Head[:]), a.Clean}
}

// Anchor is the inverse of FromAnchor. ErrValidation for a malformed head.
func (a Anchor) Anchor() (keymgr.Anchor, error) {
	out := keymgr.Anchor{Generation: a.Generation, Sequence: a.Sequence, Clean: a.Clean}
	head, err := hex.DecodeString(a.Head)
	if err != nil || len(head) != len(out.Head) {
		return out, &keymgr.Fault{Class: keymgr.ErrValidation, Message: "Anchor.Head is malformed"}
	}
	copy(out.Head[:], head)
	return out, nil
}

// FromStatus makes the wire's shape of a status.
func FromStatus(s keymgr.Status) StatusResponse {
	return StatusResponse{KeyStoreId: s.KeyStoreID, Dir: s.Dir, Locked: s.Locked, Unlock: s.Unlock, PID: s.PID, Started: Time{s.Started},
		Token: Token(s.Token), KeyUseLog: s.KeyUseLog, KeyUseLogError: s.LogError, Listen: s.Listen, TLS: s.TLS, FrontEndVolumes: s.Volumes, Approvers: s.Approvers, Emergency: fromEmergency(s.Emergency), Backup: fromBackup(s.Backup)}
}

// Status is the inverse of FromStatus.
func (s StatusResponse) Status() keymgr.Status {
	return keymgr.Status{KeyStoreID: s.KeyStoreId, Dir: s.Dir, Locked: s.Locked, Unlock: s.Unlock, PID: s.PID, Started: s.Started.Time,
		Token: keymgr.TokenStatus(s.Token), KeyUseLog: s.KeyUseLog, LogError: s.KeyUseLogError, Listen: s.Listen, TLS: s.TLS, Volumes: s.FrontEndVolumes, Approvers: s.Approvers, Emergency: s.Emergency.emergency(), Backup: s.Backup.backup()}
}

// DestroyKeyVersionRequest is the input of DestroyKeyVersion; volumes by their ids.
type DestroyKeyVersionRequest struct {
	KeyId        string
	Version      uint32
	ClearVolumes []string `json:",omitempty"`
	LoseVolumes  []string `json:",omitempty"`
}

// DestroyKeyVersionResponse is the output of DestroyKeyVersion.
type DestroyKeyVersionResponse struct {
	KeyId         string
	Version       uint32
	KeyMaterialId string
}

// VolumeIDs reads ids of volumes. Errors as ParseVolumeID.
func VolumeIDs(texts []string) ([]blockcrypt.VolumeID, error) {
	var out []blockcrypt.VolumeID
	for _, text := range texts {
		id, err := ParseVolumeID(text)
		if err != nil {
			return nil, err
		}
		out = append(out, id)
	}
	return out, nil
}

// FromVolumeIDs is the inverse of VolumeIDs.
func FromVolumeIDs(ids []blockcrypt.VolumeID) []string {
	var out []string
	for _, id := range ids {
		out = append(out, id.String())
	}
	return out
}
