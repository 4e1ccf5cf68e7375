package transfer

import (
	"time"
)

// Kinds of issues.
const (
	Unreadable = "unreadable" // the original could not be read
	Unwritable = "unwritable" // the copy could not be made
	Changed    = "changed"    // the original changed while it was copied, or since
	Conflict   = "conflict"   // something else has the name in the target
	Skipped    = "skipped"    // another filesystem, or a volume's own directory
	Attribute  = "attribute"  // the contents are there, an attribute is not
	Differs    = "differs"    // the copy is not equal, and was not the second time
	Kept       = "kept"       // it was not destroyed
)

// Issue is one thing that could not be carried over.
type Issue struct {
	Path string `json:"path"` // below the source
	Kind string `json:"kind"`
	What string `json:"what"`
}

// Phases of a run.
const (
	Counting  = "counting"
	Copying   = "copying"
	Verifying = "verifying"
	Shredding = "shredding"
)

// Progress is how far a phase is.
type Progress struct {
	Phase      string  `json:"phase"`
	Files      uint64  `json:"files"`
	TotalFiles uint64  `json:"total_files"` // 0 while they are counted
	Bytes      uint64  `json:"bytes"`
	TotalBytes uint64  `json:"total_bytes"`
	Speed      float64 `json:"bytes_per_second,omitempty"`
	Left       float64 `json:"seconds_left,omitempty"`
}

// Summary is what a run has done.
type Summary struct {
	Files       uint64  `json:"files"` // regular files of the source, names of hard links counted once
	Directories uint64  `json:"directories"`
	Links       uint64  `json:"links"` // further names of files
	Symlinks    uint64  `json:"symlinks"`
	Specials    uint64  `json:"specials"` // device nodes, pipes, sockets
	Copied      uint64  `json:"copied"`   // files that this run has copied; the others were there
	Bytes       uint64  `json:"bytes"`    // that this run has copied
	Resumed     uint64  `json:"resumed"`  // bytes of incomplete files that an earlier run had copied
	Verified    uint64  `json:"verified"` // files whose contents and attributes were compared
	Repaired    uint64  `json:"repaired"` // of them, those that had to be copied again
	Shredded    uint64  `json:"shredded"`
	Issues      uint64  `json:"issues"`
	Seconds     float64 `json:"seconds"`
}

// meter tells progress.
type meter struct {
	report func(Progress)
	now    Progress
	began  time.Time
}

func (m *meter) begin(phase string) {
	m.now = Progress{Phase: phase, TotalFiles: m.now.TotalFiles, TotalBytes: m.now.TotalBytes}
	m.began = time.Now()
	m.tell()
}

func (m *meter) add(files, bytes uint64) {
	m.now.Files += files
	m.now.Bytes += bytes
	m.tell()
}

func (m *meter) tell() {
	if m.report == nil {
		return
	}
	p := m.now
	if d := time.Since(m.began).Seconds(); d > 0.1 {
		p.Speed = float64(p.Bytes) / d
		if p.Speed > 0 && p.TotalBytes > p.Bytes {
			p.Left = float64(p.TotalBytes-p.Bytes) / p.Speed
		}
	}
	m.report(p)
}
