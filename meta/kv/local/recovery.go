package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// recovery reads the journal when a store is opened: docs/FORMAT.md 9.4.
type recovery struct {
	store   *Store
	from    checkpoint
	found   []*segment    // with an authentic header, by number
	unused  []segmentFile // without
	used    map[*segment]bool
	end     point
	records int
	bytes   int64
	ops     int64
	sawHead bool  // the chain contains Options.Head
	exports point // where the export ends
	known   bool  // the chain contains that
	buf     []byte
	scratch []byte
}

// recover replays what the checkpoint does not hold into the active overlay.
func (s *Store) recover(ctx context.Context, from checkpoint) error {
	began := time.Now()
	r := &recovery{store: s, from: from, end: from.point, used: map[*segment]bool{}}
	if s.export != nil {
		r.exports = s.export.end()
		r.known = r.exports == from.point
	}
	if err := r.discover(); err != nil {
		return err
	}
	if err := r.walk(ctx); err != nil {
		return err
	}
	if err := r.checkHead(); err != nil {
		return err
	}
	if err := r.install(); err != nil {
		return err
	}
	if s.export != nil {
		s.export.begin(r.known)
	}
	s.recovered = Recovery{
		Clean:    from.clean && r.records == 0 && r.newestGeneration() <= from.generation,
		Records:  r.records,
		Bytes:    r.bytes,
		Duration: time.Since(began),
	}
	s.log.Info("journal recovered", "clean", s.recovered.Clean, "records", r.records, "bytes", r.bytes,
		"checkpoint", from.point.seq, "sequence", r.end.seq, "generation", s.generation, "duration", s.recovered.Duration)
	return nil
}

// discover opens every segment file and reads its header.
func (r *recovery) discover() error {
	names, err := r.store.opts.Files.List()
	if err != nil {
		return fmt.Errorf("list the journal: %w", err)
	}
	for _, name := range names {
		if !strings.HasSuffix(name, segmentSuffix) {
			continue
		}
		r.store.journal.supply.avoid(name)
		if err := r.inspect(name); err != nil {
			return fmt.Errorf("open segment %s: %w", name, err)
		}
	}
	sort.Slice(r.found, func(i, j int) bool { return r.found[i].number < r.found[j].number })
	return nil
}

func (r *recovery) inspect(name string) error {
	f, err := r.store.opts.Files.Open(name)
	if err != nil {
		return err
	}
	r.store.opened = append(r.store.opened, f)
	size, err := f.Size()
	if err != nil {
		return err
	}
	r.store.journal.supply.count(size)
	if size < segmentHeaderSize || size > maxSegmentSize {
		r.unused = append(r.unused, segmentFile{name, f, size})
		return nil
	}
	b := make([]byte, segmentHeaderSize)
	if _, err := f.ReadAt(b, 0); err != nil {
		return err
	}
	h, aead, err := openSegmentHeader(b, r.store.journal.key, r.store.opts.Volume)
	switch {
	case errors.Is(err, errNoSegment):
		r.unused = append(r.unused, segmentFile{name, f, size})
		return nil
	case err != nil:
		return err
	}
	r.found = append(r.found, &segment{segmentHeader: h, name: name, file: f, size: size, aead: aead})
	return nil
}

// walk follows the chain from the checkpoint to its end, segment by segment.
func (r *recovery) walk(ctx context.Context) error {
	seg, off, err := r.start()
	if err != nil {
		return err
	}
	for seg != nil {
		r.used[seg] = true
		if err := r.replay(ctx, seg, off); err != nil {
			return fmt.Errorf("replay segment %d: %w", seg.number, err)
		}
		seg, off = r.after(seg), segmentHeaderSize
		if seg != nil {
			if err := r.load(seg); err != nil {
				return err
			}
		}
	}
	return nil
}

// load reads a whole segment into r.buf.
func (r *recovery) load(seg *segment) error {
	r.buf = slices.Grow(r.buf[:0], int(seg.size))[:seg.size]
	if _, err := seg.file.ReadAt(r.buf, 0); err != nil {
		return fmt.Errorf("read segment %d: %w", seg.number, err)
	}
	return nil
}

// start finds the newest segment whose part of the chain reaches the checkpoint, loads it, and returns it
// with the offset of the record after the checkpoint.
func (r *recovery) start() (*segment, int, error) {
	for _, seg := range slices.Backward(r.found) {
		if seg.firstSeq > r.from.point.seq+1 {
			continue
		}
		if err := r.load(seg); err != nil {
			return nil, 0, err
		}
		p, off := point{seg.firstSeq - 1, seg.previous}, segmentHeaderSize
		for p.seq < r.from.point.seq {
			f, ok := openRecord(seg.aead, r.buf[off:], p.seq, p.tag, &r.scratch)
			if !ok {
				break
			}
			p, off = point{f.sequence, f.tag}, off+f.size()
		}
		if p == r.from.point {
			return seg, off, nil
		}
	}
	if r.from.generation == 0 && r.from.point.seq == 0 && len(r.found) == 0 {
		return nil, 0, nil // created and never written to
	}
	return nil, 0, fmt.Errorf("no segment continues checkpoint %d: %w", r.from.point.seq, kv.ErrCorrupt)
}

// after returns the segment that goes on where the chain has ended, nil if there is none. Of several, left
// by openings that were cut short, only the newest can hold records.
func (r *recovery) after(seg *segment) *segment {
	for _, next := range slices.Backward(r.found) {
		if next.number > seg.number && next.firstSeq == r.end.seq+1 && next.previous == r.end.tag {
			return next
		}
	}
	return nil
}

// replay applies the records of the loaded segment from offset off on, up to the first that does not
// follow.
func (r *recovery) replay(ctx context.Context, seg *segment, off int) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		f, ok := openRecord(seg.aead, r.buf[off:], r.end.seq, r.end.tag, &r.scratch)
		if !ok {
			return nil
		}
		if err := r.apply(f, seg, int64(off)); err != nil {
			return fmt.Errorf("record %d: %w", f.sequence, err)
		}
		off += f.size()
	}
}

// apply shows one record to Options.Replay and enters it into the overlay.
func (r *recovery) apply(f frame, seg *segment, off int64) error {
	if f.flags != 0 {
		return fmt.Errorf("flags %#x: %w", f.flags, kv.ErrCorrupt)
	}
	var ops []op
	err := parseOps(slices.Clone(f.ops), f.blob, func(o op) error {
		ops = append(ops, o)
		return nil
	})
	if err != nil {
		return err
	}
	if err := r.show(f.sequence, ops); err != nil {
		return err
	}
	blob := location{seg: seg, off: off + int64(f.blobOff)}
	for _, o := range ops {
		r.store.active.replace(o.key, o.version(f.sequence, blob))
	}
	seg.lastGen = r.store.active.number
	r.end = point{f.sequence, f.tag}
	r.records++
	r.bytes += int64(f.size())
	r.ops += int64(f.opsLen)
	r.known = r.known || r.end == r.exports
	if head := r.store.opts.Head; f.sequence == head.Sequence && f.tag == head.Tag {
		r.sawHead = true
	}
	return nil
}

// version is the op as the overlay keeps it.
func (o op) version(seq uint64, blob location) version {
	v := version{seq: seq}
	switch o.kind {
	case opDelete:
		v.deleted = true
	case opBlob:
		v.loc = location{seg: blob.seg, off: blob.off + int64(o.blobOff), len: len(o.value)}
	default:
		v.value = o.value
	}
	return v
}

// show calls Options.Replay.
func (r *recovery) show(seq uint64, ops []op) error {
	if r.store.opts.Replay == nil {
		return nil
	}
	rec := Record{Seq: seq}
	for _, o := range ops {
		if o.kind == opDelete {
			rec.Deletes = append(rec.Deletes, o.key)
			continue
		}
		rec.Puts = append(rec.Puts, KV{o.key, o.value})
	}
	before := reader{snap: snapshot{seq: seq - 1, active: r.store.active, base: r.store.base}}
	rec.Before = func(key []byte) ([]byte, error) { return before.get(context.Background(), key) }
	return r.store.opts.Replay(rec)
}

// checkHead compares the chain with what the caller knows from outside.
func (r *recovery) checkHead() error {
	head := point{r.store.opts.Head.Sequence, r.store.opts.Head.Tag}
	heads := r.from.heads
	if head.seq == 0 {
		if r.records > 0 {
			heads.forget(r.end.seq + 1) // the last process may have given out any of them
		}
		r.store.heads = heads
		return nil
	}
	known := r.sawHead || head == r.from.point || head.seq < r.from.point.seq && heads.admits(head)
	if !known {
		return fmt.Errorf("journal goes from %d to %d and does not contain head %d: %w",
			r.from.point.seq, r.end.seq, head.seq, kv.ErrRollback)
	}
	if r.store.opts.Head.Closed && r.end != head {
		return fmt.Errorf("journal goes on to %d, the store was closed at %d: %w", r.end.seq, head.seq, kv.ErrRollback)
	}
	heads.add(head)
	r.store.heads = heads
	return nil
}

func (r *recovery) newestGeneration() uint64 {
	g := r.from.generation
	for _, seg := range r.found {
		g = max(g, seg.generation)
	}
	return g
}

// install hands the chain and the spare files to the journal. What was read may be in the page cache only,
// names too (a process was killed while it made a segment), so it is made durable before anything builds on
// it.
func (r *recovery) install() error {
	j := r.store.journal
	j.head, j.appended, j.ops = r.end, r.bytes, r.ops
	j.generation = r.newestGeneration() + 1
	r.store.generation = j.generation
	for _, seg := range r.found {
		j.nextNumber = max(j.nextNumber, seg.number)
		switch {
		case r.used[seg]:
			seg.flushed = true
			j.sealed = append(j.sealed, seg)
		default:
			r.unused = append(r.unused, segmentFile{seg.name, seg.file, seg.size})
		}
	}
	j.nextNumber++
	r.store.seq = r.end.seq
	if r.store.opts.ReadOnly {
		r.store.durable.point = r.end
		return nil
	}
	for _, seg := range j.sealed {
		if err := seg.file.Datasync(); err != nil {
			return fmt.Errorf("sync segment %d: %w", seg.number, err)
		}
	}
	if err := r.store.opts.Files.SyncDir(); err != nil {
		return fmt.Errorf("sync the journal's directory: %w", err)
	}
	r.store.durable.point = r.end
	return r.spare()
}

// spare gives the files that the chain does not use to the supply.
func (r *recovery) spare() error {
	for _, f := range r.unused {
		if err := r.store.journal.supply.give(f); err != nil {
			return err
		}
	}
	return nil
}
