package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/kmsfs/kmsfs/fs/content"
	"github.com/kmsfs/kmsfs/fs/transport"
)

var _ transport.WriteBacker = (*FS)(nil)

// WriteBack does several writes from the page cache in one transaction if they can be, else each by itself.
func (fs *FS) WriteBack(cancel <-chan struct{}, batch []transport.WriteBack) {
	if len(batch) > 1 && fs.writeTogether(cancel, batch) {
		return
	}
	for i := range batch {
		w := &batch[i]
		w.Written, w.Status = fs.Write(cancel, w.In, w.Data)
	}
}

// writeTogether does writes that come with one handle in one transaction. False: nothing was done, and each has to be tried by itself, which tells why.
func (fs *FS) writeTogether(cancel <-chan struct{}, run []transport.WriteBack) bool {
	in := run[0].In
	ctx := request(cancel, &in.InHeader)
	defer ctx.finish()
	h, err := fs.handles.file(in.Fh)
	if err != nil || h.check(ctx) != nil || fs.room(ctx, in) != nil {
		return false
	}
	parts, total := make([]content.Part, len(run)), 0
	for i := range run {
		w := &run[i]
		if w.In.WriteFlags != fuse.WRITE_CACHE {
			return false
		}
		parts[i] = content.Part{Off: w.In.Offset, Data: w.Data}
		total += len(w.Data)
	}
	if done, err := h.file.WriteParts(ctx, parts, content.WriteOpts{KeepTimes: true}); !done || err != nil {
		return false
	}
	h.put.Add(uint64(total))
	for i := range run {
		run[i].Written, run[i].Status = uint32(len(run[i].Data)), fuse.OK
	}
	return true
}
