package mount

import (
	"runtime"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
)

// VersionInfo says which program this is.
type VersionInfo struct {
	Version  string `json:"version"`
	Format   int    `json:"format"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Version describes this program, whose version the caller knows.
func Version(version string) VersionInfo {
	return VersionInfo{Version: version, Format: blockcrypt.FormatVersion, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
}

// States of a mount.
const (
	StateServing = "serving"
	StateClosing = "closing" // unmounted, what is left is being made durable
	StateDead    = "dead"    // the mount is there, its daemon is not
	StateFailed  = "failed"  // reads go on, changes fail: a write or sync below failed
)

// MountStatus is what a file daemon says about its mount.
type MountStatus struct {
	Volume     string        `json:"volume"` // path
	ID         string        `json:"volume_id"`
	MountPoint string        `json:"mount_point"`
	State      string        `json:"state"`
	PID        int           `json:"pid"`
	Started    time.Time     `json:"started"`
	Version    string        `json:"version,omitempty"`
	Options    Options       `json:"options"`
	Log        string        `json:"log,omitempty"`
	Transport  string        `json:"transport,omitempty"` // how requests arrive: device or io_uring
	Idle       string        `json:"idle,omitempty"`      // what idle processors do while requests come quickly: poll or halt
	Journal    JournalStatus `json:"journal"`
	Keys       KeyStatus     `json:"keys"`
	Zones      []ZoneStatus  `json:"zones,omitempty"`   // that learn, are locked or have lost their keys
	Problem    string        `json:"problem,omitempty"` // what is wrong, in a line
	Warning    string        `json:"warning,omitempty"` // what should be otherwise, in a line
}

// ZoneStatus is the state of a directory with a policy.
type ZoneStatus struct {
	Directory string    `json:"directory"` // from the volume's root
	Locked    bool      `json:"locked,omitempty"`
	Keyless   bool      `json:"keyless,omitempty"` // none of its keys can be used
	Learns    time.Time `json:"learns_until,omitzero"`
}

// JournalStatus is the state of the volume's journal.
type JournalStatus struct {
	Generation uint64 `json:"generation"`
	Records    uint64 `json:"records"`    // committed
	Durable    uint64 `json:"durable"`    // of them, what survives a power cut
	Checkpoint uint64 `json:"checkpoint"` // of them, what has left the journal
	Bytes      int64  `json:"bytes"`      // waiting for a checkpoint
	Anchored   uint64 `json:"anchored"`   // of the records, what the key store knows of
	Replayed   int    `json:"replayed"`   // records replayed at the mount
}

// KeyStatus says where a mount's keys come from and how they are.
type KeyStatus struct {
	KeyStore string `json:"key_store"`
	Key      string `json:"key"`     // ARN of the volume's CMK
	State    string `json:"state"`   // the CMK's, or why it is not known
	Token    string `json:"token"`   // for people: "embedded, not an HSM", or the HSM's name
	HSM      bool   `json:"hsm"`     // whether backing keys lie in one
	Version  uint32 `json:"version"` // of the CMK, that wraps the volume key

	Wraps []WrapStatus `json:"wraps,omitempty"` // of the volume key; any one opens it

	Backup *KeyStoreBackup `json:"key_store_backup,omitempty"` // nil: not known
}

// FileInfo is what `kmsfs info` says about a file.
type FileInfo struct {
	Path        string            `json:"path"`
	Volume      string            `json:"volume_id"`
	Inode       uint64            `json:"inode"`
	Type        string            `json:"type"`
	Size        uint64            `json:"size"`
	Allocated   uint64            `json:"allocated"`
	Links       uint32            `json:"links"`
	Layout      string            `json:"layout"`
	Object      string            `json:"object,omitempty"` // path below VOLUME/objects
	BlockSize   uint32            `json:"block_size,omitempty"`
	Compression string            `json:"compression,omitempty"` // that new contents of the file get: none, s2:LEVEL or zstd:LEVEL
	Epoch       uint32            `json:"epoch,omitempty"`       // of the data key new blocks are sealed under
	Epochs      []uint32          `json:"epochs,omitempty"`
	Zone        uint64            `json:"zone"`
	ZoneInode   uint64            `json:"zone_inode"`
	Key         string            `json:"key"`
	KeyVersion  uint32            `json:"key_version"`
	Wraps       []WrapStatus      `json:"wraps"` // of the zone's key; any one opens it
	Context     map[string]string `json:"encryption_context"`
}

// Fault is one thing that fsck found, in one line.
type Fault struct {
	Where string `json:"where"` // what it is about: "inode 7 block 3", "object ab/...", "row ..."
	What  string `json:"what"`
	Fixed bool   `json:"fixed,omitempty"`
	Kept  bool   `json:"quarantined,omitempty"` // could not be repaired, and is set aside: see Quarantine

	// Of a fault in a file's contents: which file, by its names as far as their keys can be had, and which bytes of it cannot be read.
	Inode  uint64   `json:"inode,omitempty"`
	Paths  []string `json:"paths,omitempty"`
	Offset uint64   `json:"offset,omitempty"`
	Length uint64   `json:"length,omitempty"`

	row     []byte // key of the row that it is about
	keyless bool   // it is the key that is missing
}

// CheckSummary is what fsck looked at.
type CheckSummary struct {
	Volume  string `json:"volume_id"`
	Online  bool   `json:"online"`
	Inodes  uint64 `json:"inodes"`
	Files   uint64 `json:"files"`
	Faults  int    `json:"faults"`
	Repairs int    `json:"repairs"`
	Kept    int    `json:"quarantined"`
}
