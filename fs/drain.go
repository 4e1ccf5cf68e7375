package fs

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/kmsfs/kmsfs/meta"
)

// Drained says what became of the kernel's pages.
type Drained struct {
	Inodes     int // whose pages were given up
	Unfinished int // whose dirty pages were not all written back when the time was over
}

// drainers is how many inodes are drained at a time: each waits for the kernel to write back.
const drainers = 16

// Drain has the kernel write back and forget the pages of all inodes in zones that match says, and take away their mappings: the next touch comes to us. It ends with
// ctx; what is under way then goes on. No lock may be held.
func (fs *FS) Drain(ctx context.Context, match func(meta.ZoneID) bool) Drained {
	if fs.kernel.Load() == nil {
		return Drained{}
	}
	var all []meta.Ino
	for _, ino := range fs.nodes.known() {
		if a, err := fs.meta.Getattr(ctx, ino); err == nil && match(a.Zone) {
			all = append(all, ino)
		}
	}
	var next, finished atomic.Int64
	var workers sync.WaitGroup
	for range min(drainers, len(all)) {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for i := next.Add(1) - 1; i < int64(len(all)); i = next.Add(1) - 1 {
				fs.invalidate(all[i], true)
				finished.Add(1)
			}
		}()
	}
	over := make(chan struct{})
	go func() { workers.Wait(); close(over) }()
	select {
	case <-over:
	case <-ctx.Done():
	}
	n := int(finished.Load())
	return Drained{Inodes: n, Unfinished: len(all) - n}
}
