package mount

import (
	"context"

	"github.com/kmsfs/kmsfs/fs/content"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv/local"
)

// The parts of an open volume, for those who use it without mounting it. They are the volume's own and end with Close.

// Meta returns names and attributes.
func (v *Volume) Meta() *meta.Store { return v.meta }

// Content returns the contents of files.
func (v *Volume) Content() *content.Engine { return v.content }

// Journal returns the store of rows.
func (v *Volume) Journal() *local.Store { return v.kv }

// Check is what `kmsfs fsck` does with a volume that is open: report is called for each fault, and an error of it ends the check.
func (v *Volume) Check(ctx context.Context, repair bool, report func(Fault) error) (CheckSummary, error) {
	return v.check(ctx, checkMode{repair: repair, aside: repair}, report, func(Progress) {})
}
