package content

import (
	"context"

	"github.com/kmsfs/kmsfs/meta"
)

// Prefetch has the lower filesystem begin to read what the first n bytes of a file are in, and reads the map of it. It uses no key. It blocks for as long as it takes to find the
// object, not for its content. Errors are those that reading would give; a caller may ignore them.
func (e *Engine) Prefetch(ctx context.Context, ino meta.Ino, n int) error {
	f, err := e.Open(ctx, ino)
	if err != nil {
		return err
	}
	err = f.prefetch(ctx, n)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

func (f *File) prefetch(ctx context.Context, n int) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	n = int(min(uint64(n), f.st.size))
	if f.st.layout != meta.LayoutSlots || f.st.moving() || n == 0 {
		return nil
	}
	plane := f.st.present()
	first, end := plane.Range(0, n)
	rows, err := f.mapRows(ctx, first, end, nil)
	if err != nil {
		return err
	}
	for block := first; block < end; block++ {
		if entryIn(rows, first, block).Present {
			return f.readAhead(plane, first, end)
		}
	}
	return nil // holes only: there may be no object
}

// readAhead has slots of blocks [first, end) read by the lower filesystem.
func (f *File) readAhead(plane meta.Plane, first, end uint64) error {
	obj, err := f.e.objects.Get(f.e.object(f.ino, plane.Serial))
	if err != nil {
		return err
	}
	defer obj.Release()
	from := plane.Slot(first)
	obj.ReadAhead(from, plane.Slot(end)-from)
	return nil
}
