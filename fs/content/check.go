package content

import (
	"context"

	"github.com/kmsfs/kmsfs/meta"
)

// Fault is one thing that is wrong with content.
type Fault struct {
	Ino    meta.Ino // 0 if it is about the objects directory
	Block  uint64   // if Kind is about a block
	Object string   // path of the object below the objects directory, if it is about one
	Kind   FaultKind
	Err    error // the cause, or nil
}

// FaultKind classifies a Fault. Its text is stable.
type FaultKind string

const (
	FaultBlock    FaultKind = "block does not open"
	FaultInline   FaultKind = "inline content does not open"
	FaultEntry    FaultKind = "map entry makes no sense"
	FaultSize     FaultKind = "block beyond the end of the file"
	FaultSpace    FaultKind = "allocated space is miscounted"
	FaultLength   FaultKind = "object is longer than its file"
	FaultOrphan   FaultKind = "object without a file"
	FaultStranger FaultKind = "not an object"
	FaultKey      FaultKind = "key unavailable, only checksums were compared"
)

// CheckFile reads every block of a file and reports what is wrong with it. The file may be in use. The error is that of the check itself.
func (e *Engine) CheckFile(ctx context.Context, ino meta.Ino, report func(Fault)) error {
	return errTemp
}

// CheckObjects looks at everything in the objects directory and reports what belongs to no file; with remove, objects without a file are
// removed. The volume may be in use.
func (e *Engine) CheckObjects(ctx context.Context, remove bool, report func(Fault)) error {
	return errTemp
}
