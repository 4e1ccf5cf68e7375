package local

import (
	"errors"
	"fmt"
	"sync"

	"github.com/kmsfs/kmsfs/blockcrypt"
)

var (
	// errNoSpare: no segment file is ready; supply.wait gets one.
	errNoSpare = errors.New("no spare segment")
	// errFull: as many segments wait for a checkpoint as may.
	errFull = errors.New("journal is full")
)

// journal is the chain of records in segments. Its methods are called by one goroutine at a time where they
// append (the holder of Store.commit), by any where they read.
type journal struct {
	key     *blockcrypt.Key // in the store's keyRoom
	volume  blockcrypt.VolumeID
	supply  *supply
	maxLive int64 // bytes of segments that may hold records that no checkpoint covers

	mu         sync.Mutex // held for moments, never across I/O but the append itself
	generation uint64
	current    *segment       // nil before the first append if there was no room at Open
	off        int64          // where the next record goes in current
	begun      int64          // up to where in current the disk was told to begin writing
	page       [pageSize]byte // what current holds before off in the page of off
	sealed     []*segment
	dirty      []*segment // not flushed since the last append to them
	nextNumber uint64
	head       point
	appended   int64 // bytes of all records ever appended in this opening, replayed ones included
	covered    int64 // appended as it was when the newest checkpointed overlay was frozen
	ops        int64 // of the bytes appended, those of rows and not of journal-only values
	opsCovered int64
	doneGen    uint64 // newest overlay generation that a checkpoint covers
}

// point is a place in the chain.
type point struct {
	seq uint64
	tag [TagSize]byte
}

// location is where a journal-only value lies.
type location struct {
	seg *segment
	off int64
	len int
}

// read returns a copy of the value. The segment must be pinned: its overlay generation is alive.
func (l location) read() ([]byte, error) {
	b := make([]byte, l.len)
	if _, err := l.seg.file.ReadAt(b, l.off); err != nil {
		return nil, fmt.Errorf("read %d bytes at %d of segment %s: %w", l.len, l.off, l.seg.name, err)
	}
	return b, nil
}

// append writes the record at the end of the chain, in overlay generation gen. Errors: errFull, errNoSpare
// (nothing was done, the caller gets room and tries again), others mean that the state on disk is unknown.
func (j *journal) append(e *encoder, gen uint64) (p point, seg *segment, recordOff int64, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.current == nil || j.off+int64(e.size()) > j.current.size {
		if err := j.rotate(segmentFor(e)); err != nil {
			return p, nil, 0, err
		}
	}
	seg, recordOff = j.current, j.off
	p.seq = j.head.seq + 1
	record, tag := e.seal(seg.aead, p.seq, j.head.tag)
	p.tag = tag
	size := int64(len(record))
	if err := j.write(e, size); err != nil {
		return p, nil, 0, fmt.Errorf("write record %d: %w", p.seq, err)
	}
	j.head = p
	j.off += size
	j.appended += size
	j.ops += int64(e.opsLen)
	seg.lastGen = gen
	j.soil(seg)
	return p, seg, recordOff, nil
}

// segmentFor returns how large a segment must be that is to hold the record.
func segmentFor(e *encoder) int64 { return segmentHeaderSize + int64(e.size()) }

// write writes the sealed record, of size bytes, at the end of current. The caller holds j.mu.
func (j *journal) write(e *encoder, size int64) error {
	seg, within := j.current, j.off%pageSize
	b := e.pages(j.page[:within], seg.size-j.off)
	if _, err := seg.file.WriteAt(b, j.off-within); err != nil {
		return err
	}
	last := (within + size) &^ (pageSize - 1)
	copy(j.page[:], b[last:within+size])
	return nil
}

// soil notes that seg has something to flush. The caller holds j.mu.
func (j *journal) soil(seg *segment) {
	if !seg.dirty {
		seg.dirty = true
		j.dirty = append(j.dirty, seg)
	}
}

// rotate makes a new current segment of at least so many bytes. The caller holds j.mu.
func (j *journal) rotate(least int64) error {
	if j.current != nil && j.live()+j.supply.most > j.maxLive {
		return errFull
	}
	f, ok := j.supply.take(least)
	if !ok {
		return errNoSpare
	}
	h, err := newSegmentHeader(j.nextNumber, j.generation, j.head.seq+1, j.head.tag)
	if err != nil {
		return err
	}
	seg := &segment{segmentHeader: h, name: f.name, file: f.file, size: f.size}
	if seg.aead, err = segmentAEAD(j.key, j.volume, h); err != nil {
		return err
	}
	header := append(h.encode(j.volume, seg.aead), make([]byte, pageSize-segmentHeaderSize)...)
	if _, err := f.file.WriteAt(header, 0); err != nil {
		return fmt.Errorf("write header of segment %d: %w", h.number, err)
	}
	copy(j.page[:], header)
	j.nextNumber++
	if j.current != nil {
		j.sealed = append(j.sealed, j.current)
	}
	j.current, j.off, j.begun = seg, segmentHeaderSize, 0
	j.soil(seg)
	return nil
}

// live returns how many bytes the segments have that may hold records that no checkpoint covers. The caller holds j.mu.
func (j *journal) live() (n int64) {
	if j.current != nil {
		n = j.current.size
	}
	for _, seg := range j.sealed {
		if seg.lastGen > j.doneGen {
			n += seg.size
		}
	}
	return n
}

// begin has the disk begin with what was appended last.
func (j *journal) begin() {
	j.mu.Lock()
	seg, from, to := j.current, j.begun, j.off
	j.begun = to
	j.mu.Unlock()
	if from < to {
		from &^= pageSize - 1
		seg.file.WriteBack(from, to-from)
	}
}

// flush makes everything appended so far durable and returns up to where. One caller at a time. After an
// error the state on disk is unknown.
func (j *journal) flush() (point, error) {
	j.mu.Lock()
	target, segs := j.head, j.dirty
	j.dirty, j.begun = nil, j.off
	for _, seg := range segs {
		seg.dirty = false
	}
	j.mu.Unlock()
	for _, seg := range segs {
		if err := seg.file.Datasync(); err != nil {
			return target, fmt.Errorf("sync segment %d: %w", seg.number, err)
		}
		j.mu.Lock()
		seg.flushed = true
		j.mu.Unlock()
	}
	return target, nil
}

// mark returns the head of the chain and the bytes appended up to it.
func (j *journal) mark() (point, int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.head, j.appended
}

// freeze notes in f where the chain is.
func (j *journal) freeze(f *frozen) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f.at, f.appended, f.ops = j.head, j.appended, j.ops
}

// pending returns how many bytes no checkpoint covers.
func (j *journal) pending() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.appended - j.covered
}

// uncovered returns how many of the first so many bytes appended no checkpoint covers.
func (j *journal) uncovered(appended int64) int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return appended - j.covered
}

// opsPending returns how many bytes of rows no checkpoint covers.
func (j *journal) opsPending() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.ops - j.opsCovered
}

// uncoveredOps is uncovered for bytes of rows.
func (j *journal) uncoveredOps(ops int64) int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return ops - j.opsCovered
}

// cover notes that a checkpoint holds everything that is in f.
func (j *journal) cover(f frozen) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.doneGen, j.covered, j.opsCovered = f.number, f.appended, f.ops
}

// recycle gives back the sealed segments whose newest overlay generation is older than oldest, the oldest
// one alive.
//
// INVARIANT: the chain on disk always reaches back to the checkpoint. So a segment goes only when the header
// of the one after it, which repeats the tag at its end, is durable.
func (j *journal) recycle(oldest uint64) error {
	j.mu.Lock()
	var free []*segment
	for len(j.sealed) > 0 && j.sealed[0].lastGen < oldest {
		after := j.current
		if len(j.sealed) > 1 {
			after = j.sealed[1]
		}
		if after == nil || !after.flushed {
			break
		}
		free = append(free, j.sealed[0])
		j.sealed = j.sealed[1:]
	}
	j.mu.Unlock()
	var first error
	for _, seg := range free {
		if err := j.supply.give(segmentFile{seg.name, seg.file, seg.size}); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// count returns how many segment files there are.
func (j *journal) count() int {
	j.mu.Lock()
	n := len(j.sealed)
	if j.current != nil {
		n++
	}
	j.mu.Unlock()
	spare, _ := j.supply.size()
	return n + spare
}

// close closes the files. Nobody may use the journal any more.
func (j *journal) close() {
	j.supply.close()
	for _, seg := range j.sealed {
		seg.file.Close()
	}
	if j.current != nil {
		j.current.file.Close()
	}
}

// durability is how far the journal is known to survive a power cut. Concurrent syncs share a flush.
type durability struct {
	mu      sync.Mutex
	point   point
	running chan struct{} // closed when the flush that runs is over; nil if none runs
	flushes uint64
}

// reached returns the newest durable point.
func (d *durability) reached() point {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.point
}

// join returns done = true if seq is durable; otherwise either a channel to wait for, or nil: then the
// caller flushes and calls finish.
func (d *durability) join(seq uint64) (done bool, wait <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.point.seq >= seq {
		return true, nil
	}
	if d.running != nil {
		return false, d.running
	}
	d.running = make(chan struct{})
	return false, nil
}

// finish ends the flush that join made the caller's.
func (d *durability) finish(p point, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		d.point = p
		d.flushes++
	}
	close(d.running)
	d.running = nil
}
