package backup

import (
	"errors"
	"fmt"
	"slices"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/fs/object"
	"github.com/kmsfs/kmsfs/meta"
)

// stretch is a run of neighbouring slots that are copied at once.
type stretch struct {
	off     int64
	length  int
	entries []meta.Entry // in order, each at the block size from the one before
	blocks  []uint64
}

// stretches returns the blocks of a map row that is holds and was does not, neighbours together.
func stretches(row uint64, p meta.Plane, was, is *meta.MapRow) (out []stretch) {
	blockSize := p.BlockSize
	for i := range is {
		e := is[i]
		if !e.Present || e == was[i] || int(e.StoredLen) > blockSize {
			continue
		}
		block := row*meta.MapRowBlocks + uint64(i)
		off := p.Slot(block)
		if n := len(out); n > 0 && out[n-1].off+int64(len(out[n-1].entries)*blockSize) == off && len(out[n-1].entries)*blockSize < stepLimit {
			s := &out[n-1]
			s.length = len(s.entries)*blockSize + int(e.StoredLen)
			s.entries, s.blocks = append(s.entries, e), append(s.blocks, p.Index(block))
			continue
		}
		out = append(out, stretch{off: off, length: int(e.StoredLen), entries: []meta.Entry{e}, blocks: []uint64{p.Index(block)}})
	}
	return out
}

// read reads a stretch and returns the blocks whose bytes are not what their entries say. What could not be read is zeros.
func (s *stretch) read(f *object.File, blockSize int, buf []byte) (wrong []uint64, err error) {
	err = f.ReadAt(buf[:s.length], s.off)
	if errors.Is(err, object.ErrTruncated) && len(s.entries) > 1 {
		return s.readEach(f, blockSize, buf)
	}
	if errors.Is(err, object.ErrTruncated) {
		return s.blocks, nil
	}
	if err != nil {
		return nil, err
	}
	return s.compare(blockSize, buf), nil
}

// readEach is read where the object ends before the stretch.
func (s *stretch) readEach(f *object.File, blockSize int, buf []byte) (wrong []uint64, err error) {
	clear(buf[:s.length])
	for i, e := range s.entries {
		at := i * blockSize
		err := f.ReadAt(buf[at:at+int(e.StoredLen)], s.off+int64(at))
		if err != nil && !errors.Is(err, object.ErrTruncated) {
			return nil, err
		}
	}
	return s.compare(blockSize, buf), nil
}

func (s *stretch) compare(blockSize int, buf []byte) (wrong []uint64) {
	for i, e := range s.entries {
		if blockcrypt.Checksum(buf[i*blockSize:i*blockSize+int(e.StoredLen)]) != e.CRC {
			wrong = append(wrong, s.blocks[i])
		}
	}
	return wrong
}

// copyRow copies the blocks of a map row that differ from those it had.
func (r *run) copyRow(key, was, is []byte) error {
	r.row = key
	ino, row, ok := meta.ParseMapKey(key)
	if !ok || is == nil {
		return nil
	}
	a, err := r.inode(ino)
	if err != nil || a == nil {
		return err
	}
	p, ok := a.PlaneOf(row * meta.MapRowBlocks)
	if !ok {
		return nil
	}
	var old, now meta.MapRow
	if was != nil {
		if err := r.src.Structure.Map(key, was, &old); err != nil {
			return err
		}
	}
	if err := r.src.Structure.Map(key, is, &now); err != nil {
		return err
	}
	for _, s := range stretches(row, p, &old, &now) {
		if err := r.copyStretch(a, p, &s); err != nil {
			return fmt.Errorf("copy inode %d: %w", ino, err)
		}
	}
	return nil
}

// again copies the rows in which blocks were wrong once more.
func (r *run) again() error {
	for key := range r.suspects {
		is, err := r.at.Get([]byte(key))
		if err == nil {
			err = r.copyRow([]byte(key), nil, is)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// copyStretch copies one stretch: into the object if the copy before did not have it, otherwise into the pack.
func (r *run) copyStretch(a *meta.Attr, p meta.Plane, s *stretch) error {
	id := object.ID(r.src.Namer.ID(uint64(a.Ino), p.Serial))
	f, err := r.src.Objects.Get(id)
	if errors.Is(err, object.ErrMissing) || errors.Is(err, object.ErrHostile) {
		r.wrong(a.Ino, s.blocks)
		return nil
	}
	if err != nil {
		return err
	}
	wrong, err := s.read(f, p.BlockSize, r.buf)
	f.Release()
	if err != nil {
		return err
	}
	r.wrong(a.Ino, wrong)
	r.res.Bytes += uint64(s.length)
	r.res.Blocks += uint64(len(s.entries))
	r.progress()
	if r.known(a.Ino, p.Serial) {
		return r.pack.step(stepWrite, id, s.off, r.buf[:s.length])
	}
	return change(r.objects, id, stepWrite, s.off, r.buf[:s.length])
}

// wrong notes blocks that are not what the checkpoint says. In a pass beside a volume in use they may have been written since, and are looked at again;
// in the last one they are damaged.
func (r *run) wrong(ino meta.Ino, blocks []uint64) {
	if len(blocks) == 0 {
		return
	}
	if !r.last {
		r.suspects[string(r.row)] = struct{}{}
		return
	}
	for _, b := range blocks {
		r.res.Damaged = append(r.res.Damaged, Damage{Inode: uint64(ino), Block: b})
	}
}

// inode returns the inode of the state that is copied, nil if there is none.
func (r *run) inode(ino meta.Ino) (*meta.Attr, error) {
	if r.cached != nil && r.cached.Ino == ino {
		return r.cached, nil
	}
	key := meta.InodeKey(ino)
	sealed, err := r.at.Get(key)
	if err != nil || sealed == nil {
		return nil, err
	}
	if r.cached, err = r.src.Structure.Inode(key, sealed); err != nil {
		r.cached = nil
	}
	return r.cached, err
}

// known reports whether the copy before has the object, so that it must not be changed yet.
func (r *run) known(ino meta.Ino, serial uint64) bool {
	if r.first {
		return false
	}
	had, changed := r.before[ino]
	return !changed || slices.Contains(had, serial)
}

// serials returns those of the objects that an inode has.
func serials(a *meta.Attr) (all []uint64) {
	for _, p := range a.Planes() {
		all = append(all, p.Serial)
	}
	return all
}

// note remembers which objects an inode had in the copy before, where that may be another one now.
func (r *run) note(key, was []byte) error {
	ino, ok := meta.ParseInodeKey(key)
	if !ok || r.first {
		return nil
	}
	if _, ok := r.before[ino]; ok {
		return nil
	}
	var had []uint64
	if was != nil {
		a, err := r.src.Structure.Inode(key, was)
		if err != nil {
			return err
		}
		had = serials(a)
	}
	r.before[ino] = had
	return nil
}
