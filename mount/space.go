package mount

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/meta/kv/local"
)

// journalShare bounds the journal on a small disk: one part in this many of its size.
const journalShare = 8

// journalFor returns how large the journal of a volume may grow, in bytes, by the size of the disk below.
func journalFor(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, os.NewSyscallError("statfs", err)
	}
	share := int64(st.Blocks) * int64(st.Bsize) / journalShare
	return max(3*local.DefaultSegmentSize, min(local.DefaultMaxJournal, share/local.DefaultSegmentSize*local.DefaultSegmentSize)), nil
}
