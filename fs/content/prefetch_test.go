package content

import (
	"testing"

	"github.com/kmsfs/kmsfs/fs/object"
	"github.com/kmsfs/kmsfs/meta"
)

// aheadLog is a lower filesystem that notes what is read ahead.
type aheadLog struct {
	object.Lower
	bytes int64
}

func (l *aheadLog) OpenFile(path string, create bool) (object.LowerFile, error) {
	f, err := l.Lower.OpenFile(path, create)
	return aheadFile{f, l}, err
}

type aheadFile struct {
	object.LowerFile
	log *aheadLog
}

func (f aheadFile) ReadAhead(off, n int64) {
	f.log.bytes += n
	f.LowerFile.ReadAhead(off, n)
}

// TestPrefetch: the slots of the bytes asked for are read ahead, and no others; of holes and inline files nothing is. No key is needed.
func TestPrefetch(t *testing.T) {
	log := &aheadLog{}
	r := newRig(t, rigOptions{inline: 4096, lower: func(l object.Lower) object.Lower { log.Lower = l; return log }})
	const block = 4096
	inline, sparse, full := r.file(), r.file(), r.file()
	for _, w := range []struct {
		f   *File
		off uint64
		n   int
	}{{inline, 0, 100}, {sparse, 20 * block, block}, {full, 0, 10*block + 5}} {
		if _, err := w.f.WriteAt(ctx, r.pattern(w.n, 1), w.off, WriteOpts{}); err != nil {
			t.Fatal(err)
		}
	}
	r.vol.Keyring.Fail(meta.ErrKeyUnavailable)
	defer r.vol.Keyring.Fail(nil)
	for _, c := range []struct {
		name string
		f    *File
		n    int
		want int64
	}{{"inline", inline, block, 0}, {"hole", sparse, 20 * block, 0}, {"behind the hole", sparse, 21 * block, 21 * block}, {"some", full, 3 * block, 3 * block}, {"all", full, 1 << 20, 11 * block}} {
		log.bytes = 0
		if err := r.eng.Prefetch(ctx, c.f.ino, c.n); err != nil || log.bytes != c.want {
			t.Errorf("%s: %d bytes, %v; want %d", c.name, log.bytes, err, c.want)
		}
	}
	if err := r.eng.Prefetch(ctx, 999, 1); err == nil {
		t.Error("there is no inode 999")
	}
}

// TestReadBegins: a read whose map has first to be read has the disk begin with its slots meanwhile; one whose map is known has not, nor one of a file without an object.
func TestReadBegins(t *testing.T) {
	log := &aheadLog{}
	r := newRig(t, rigOptions{lower: func(l object.Lower) object.Lower { log.Lower = l; return log }})
	full, empty := r.file(), r.file()
	if _, err := full.WriteAt(ctx, r.pattern(20*4096, 1), 0, WriteOpts{}); err != nil {
		t.Fatal(err)
	}
	if err := empty.Truncate(ctx, 1<<20, WriteOpts{}); err != nil {
		t.Fatal(err)
	}
	read := func(f *File, blocks int, want int64) {
		t.Helper()
		log.bytes = 0
		b := make([]byte, blocks*4096)
		if n, err := f.ReadAt(ctx, b, 3*4096); err != nil || n != len(b) {
			t.Fatal(n, err)
		}
		if log.bytes != want {
			t.Errorf("%d bytes were begun with, want %d", log.bytes, want)
		}
	}
	forget := func() { r.eng.rows.removeIf(func(*meta.MapRow) bool { return true }) }
	forget()
	read(full, 2, 2*4096)
	read(full, 2, 0)
	read(empty, 2, 0)
	forget()
	read(full, 9, 0) // the kernel reads ahead of long ones by itself
}
