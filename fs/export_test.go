package fs

import "github.com/hanwen/go-fuse/v2/fuse"

// hooked is a notifier that calls before before it gives the kernel content.
type hooked struct {
	notifier
	before func(node uint64)
}

func (h hooked) InodeStore(node uint64, data []byte) fuse.Status {
	h.before(node)
	return h.notifier.InodeStore(node, data)
}

// HookStores has before called, in the request, each time content was read and is about to be put into the page cache.
func (fs *FS) HookStores(before func(node uint64)) { fs.connect(hooked{*fs.kernel.Load(), before}) }

// FillsContent says whether a kernel of a release is given content.
func FillsContent(release string) bool { return fillsContent(release) }
