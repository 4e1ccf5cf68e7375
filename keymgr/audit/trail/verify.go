package trail

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/audit/seal"
)

// Trust is what a log is checked against: the key that seals it, and for each stream the newest head that is known from elsewhere.
type Trust struct {
	Key     seal.PublicKey
	Anchors []seal.Anchor
	// Complete says that Anchors are all there are (the key store's own): a stream without one has no sealed record.
	Complete bool
	// Archives are directories into which parts of the log were archived; with them, everything has to be there, from the first record on.
	Archives []string
}

// Fault is something that is not as it was written.
type Fault struct {
	Stream string
	Record int64 // the first that is concerned
	What   string
}

func (f Fault) String() string {
	return fmt.Sprintf("stream %s, record %d: %s", f.Stream, f.Record, f.What)
}

// Report is what Verify found out about one stream.
type Report struct {
	Stream  string
	Records int64 // that are there
	From    int64 // the first of them; those before were archived
	Sealed  int64 // covered by the anchored head or the last seal
	Seals   int
	Last    time.Time // of the last sealed record
	Faults  []Fault
	// Tail is how many records lie behind the newest sealed head. After a clean end there are none. TailTime is the time they span; Torn says that the last line is not whole.
	Tail     int64
	TailTime time.Duration
	Torn     bool
	Missing  uint64 // events that the log itself says are missing (AuditGap)
}

// maxFaults bounds what is reported of one stream.
const maxFaults = 100

// Verify checks every stream of the log and every stream that has an anchor: that the records are those that were sealed, in their order, without a gap, up to the anchored
// head; that every seal is one by the key; that indexes are those that were made. It reads the whole log. The error is not about faults, which stand in the reports.
func Verify(ctx context.Context, dir string, trust Trust) ([]Report, error) {
	streams, err := Streams(dir)
	if err != nil {
		return nil, err
	}
	for _, a := range trust.Anchors {
		if !slices.Contains(streams, a.Stream) {
			streams = append(streams, a.Stream)
		}
	}
	slices.Sort(streams)
	var reports []Report
	for _, stream := range streams {
		v := &verifier{trust: trust, report: Report{Stream: stream}, keyStore: trust.keyStore()}
		for _, a := range trust.Anchors {
			if a.Stream == stream {
				v.anchor = &a
			}
		}
		if err := v.run(ctx, filepath.Join(dir, stream)); err != nil {
			return reports, fmt.Errorf("verify stream %s: %w", stream, err)
		}
		reports = append(reports, v.report)
	}
	return reports, nil
}

func (t *Trust) keyStore() string {
	if len(t.Key.Name) > len(seal.KeyName("")) {
		return t.Key.Name[len(seal.KeyName("")):]
	}
	return ""
}

// verifier checks one stream.
type verifier struct {
	trust    Trust
	keyStore string
	anchor   *seal.Anchor // nil: none is known
	report   Report

	base    seal.Tree   // up to the newest seal that was met
	pending []tlog.Hash // the records since
	seals   []int64     // of those, the seals
	times   []int64     // of those
	next    int64       // record
	lost    bool        // the tree is not known: a fault was found since the last header
	reached bool        // the anchored head
	wrong   bool        // they are not those of a signed head: said once a segment
	indexes map[int64]packRecord
	packed  map[int64]packRecord // what is there
	buf     []byte
}

func (v *verifier) fault(at int64, format string, args ...any) {
	if len(v.report.Faults) < maxFaults {
		v.report.Faults = append(v.report.Faults, Fault{v.report.Stream, at, fmt.Sprintf(format, args...)})
	}
}

func (v *verifier) run(ctx context.Context, dir string) error {
	segments, err := v.segments(dir)
	if err != nil {
		return err
	}
	v.indexes, v.packed = map[int64]packRecord{}, map[int64]packRecord{}
	for i, s := range segments {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := v.segment(ctx, s, i == 0, i == len(segments)-1); err != nil {
			return err
		}
	}
	v.checkIndexes()
	v.end()
	return nil
}

// segments gives the stream's segments, archived ones included.
func (v *verifier) segments(dir string) ([]segment, error) {
	var all []segment
	seen := map[int64]bool{}
	for _, d := range append([]string{dir}, v.trust.Archives...) {
		if d != dir {
			d = filepath.Join(d, v.report.Stream)
		}
		list, err := listSegments(d)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		for _, s := range list {
			if !seen[s.first] {
				seen[s.first], all = true, append(all, s)
			}
		}
	}
	slices.SortFunc(all, func(a, b segment) int { return cmp.Compare(a.first, b.first) })
	return all, nil
}

// segment checks one segment.
func (v *verifier) segment(ctx context.Context, s segment, isFirst, isLast bool) error {
	in, err := openSegment(s)
	if errors.Is(err, os.ErrNotExist) && !s.packed {
		s.packed = true
		in, err = openSegment(s)
	}
	if errors.Is(err, ErrDamaged) {
		v.fault(s.first, "%v", err)
		v.lost = true
		return nil
	}
	if err != nil {
		return err
	}
	defer in.close()
	if s.packed {
		defer func() { v.notePacked(s, in) }()
	}
	tree, err := in.header(s, v.keyStore, v.report.Stream)
	if err != nil {
		v.fault(s.first, "%s: %v", filepath.Base(s.path()), err)
		v.lost = true
		return nil
	}
	v.follow(s, tree, isFirst)
	for n := 0; ; n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		line, err := in.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, errTorn) && isLast && !s.packed:
			v.report.Torn = true
			return nil
		case err != nil:
			v.fault(v.next, "%s cannot be read on: %v", filepath.Base(s.path()), err)
			v.lost = true
			return nil
		}
		if !v.line(line) {
			v.skip(in, isLast)
			return nil
		}
	}
}

// skip reads on behind a line that is none. At the end of the log, behind everything sealed, a power cut may have left it so.
func (v *verifier) skip(in *lines, isLast bool) {
	if isLast && !v.lost && (v.anchor == nil || v.next >= v.anchor.Size) && !v.sealsBehind(in) {
		v.report.Torn = true
		return
	}
	v.fault(v.next, "this line is not record %d", v.next)
	v.lost = true
}

// sealsBehind says whether there is a seal in the rest of the segment of records that were not read.
func (v *verifier) sealsBehind(in *lines) bool {
	for {
		line, err := in.next()
		if err != nil {
			return false
		}
		if !isSeal(line) {
			continue
		}
		if e, err := audit.Parse(line); err == nil {
			if head, err := seal.Open([]byte(e.Detail), v.trust.Key); err == nil && head.Size > v.next {
				return true
			}
		}
	}
}

// follow checks a header against what was read before, or begins anew with it after a fault.
func (v *verifier) follow(s segment, tree seal.Tree, isFirst bool) {
	switch {
	case isFirst:
		if v.archived() < s.first {
			v.fault(v.archived(), "records %d to %d are missing", v.archived(), s.first-1)
		}
		v.report.From = s.first
		v.reset(tree)
		v.checkAnchor()
		return
	case v.lost:
		v.reset(tree)
		return
	case s.first > v.next:
		v.fault(v.next, "records %d to %d are missing", v.next, s.first-1)
	case s.first < v.next:
		v.fault(s.first, "records %d to %d are there twice", s.first, v.next-1)
	default:
		now := v.now()
		if now.Root() == tree.Root() {
			return
		}
		if !v.wrong {
			v.fault(v.base.Size(), "records %d to %d are not those of which the next segment says that they were there", v.base.Size(), v.next-1)
		}
	}
	v.reset(tree)
}

func (v *verifier) archived() int64 {
	if v.anchor == nil || len(v.trust.Archives) > 0 {
		return 0
	}
	return v.anchor.Archived
}

// reset begins with a tree that is believed until the next seal.
func (v *verifier) reset(tree seal.Tree) {
	v.base, v.pending, v.times, v.seals, v.next, v.lost, v.wrong = tree, v.pending[:0], v.times[:0], nil, tree.Size(), false, false
}

// now is the tree of everything read.
func (v *verifier) now() seal.Tree {
	t := v.base.Clone()
	for _, h := range v.pending {
		t.Add(h)
	}
	return t
}

// advance moves the base on to size; false if it lies before the base or behind what was read.
func (v *verifier) advance(size int64) bool {
	n := size - v.base.Size()
	if n < 0 || n > int64(len(v.pending)) {
		return false
	}
	for _, h := range v.pending[:n] {
		v.base.Add(h)
	}
	if n > 0 {
		v.report.Last = time.UnixMicro(v.times[n-1]).UTC()
	}
	v.pending, v.times = v.pending[n:], v.times[n:]
	for len(v.seals) > 0 && v.seals[0] < size {
		v.seals = v.seals[1:]
	}
	return true
}

// line checks one line; false if it is not the next record.
func (v *verifier) line(line []byte) bool {
	n, ok := sequenceOf(line)
	at, timed := timeOf(line)
	if !ok || !timed || n != v.next {
		return false
	}
	h, buf := recordHash(v.buf, line)
	v.buf = buf
	v.pending, v.times = append(v.pending, h), append(v.times, at)
	v.next++
	v.report.Records++
	v.checkAnchor()
	switch string(member(line, nameMark)) { // which stands before all that others name
	case sealName:
		v.seals = append(v.seals, n)
		v.seal(n, line)
	case packName:
		v.indexOf(line)
	case gapName:
		if e, err := audit.Parse(line); err == nil {
			v.report.Missing += e.Count
		}
	}
	return true
}

// checkAnchor compares with the anchored head where that ends.
func (v *verifier) checkAnchor() {
	if v.anchor == nil || v.next != v.anchor.Size || v.reached {
		return
	}
	v.reached = true
	from := v.base.Size()
	v.advance(v.next)
	v.compare(from, v.anchor.Root, "whose head is anchored")
	v.report.Sealed = v.next
}

// seal checks a seal against the records before it.
func (v *verifier) seal(at int64, line []byte) {
	e, err := audit.Parse(line)
	if err != nil {
		v.fault(at, "malformed seal")
		return
	}
	head, err := seal.Open([]byte(e.Detail), v.trust.Key)
	switch {
	case err != nil:
		v.fault(at, "seal: %v", err)
	case head.Stream != v.report.Stream:
		v.fault(at, "the seal is one of stream %s", head.Stream)
	case head.Size > at:
		v.fault(at, "the seal is one of %d records, which were not there yet", head.Size)
	default:
		v.report.Seals++
		from := v.base.Size()
		if v.advance(head.Size) { // a seal that came late was overtaken by a newer one
			v.compare(from, head.Root, "that were sealed at "+e.Time.Format(time.RFC3339))
		}
		v.report.Sealed = max(v.report.Sealed, head.Size)
	}
}

// compare is a fault if the records up to the base are not those of root.
func (v *verifier) compare(from int64, root tlog.Hash, which string) {
	if v.base.Root() == root || v.wrong {
		return
	}
	v.wrong = true
	v.fault(from, "records %d to %d are not those %s", from, v.base.Size()-1, which)
}

// packRecord is what the log says of a compressed segment: SHA-256 of its file and its index, in hex.
type packRecord struct{ segment, index string }

// indexOf notes what a compressed segment must be.
func (v *verifier) indexOf(line []byte) {
	e, err := audit.Parse(line)
	if err != nil || !e.Internal {
		return
	}
	first, ok := e.Parameters["segment"].(float64)
	index, ok2 := e.Parameters["indexSha256"].(string)
	file, ok3 := e.Parameters["segmentSha256"].(string)
	if ok && ok2 && ok3 {
		v.indexes[int64(first)] = packRecord{file, index}
	}
}

// notePacked notes what a compressed segment is, when it has been read.
func (v *verifier) notePacked(s segment, in *lines) {
	index, err := os.ReadFile(s.index())
	if err != nil {
		v.fault(s.first, "the index of %s cannot be read: %v", filepath.Base(s.path()), err)
	}
	h := sum(index)
	v.packed[s.first] = packRecord{hex.EncodeToString(in.raw.Sum(nil)), hex.EncodeToString(h[:])}
}

// checkIndexes compares compressed segments and their indexes with what the log says of them.
func (v *verifier) checkIndexes() {
	for _, first := range slices.Sorted(maps.Keys(v.packed)) {
		is, want := v.packed[first], v.indexes[first]
		if is.segment != want.segment {
			v.fault(first, "the compressed segment is not the file that was made")
		}
		if is.index != want.index {
			v.fault(first, "the index of the segment is not the one that was made")
		}
	}
}

// end compares what there is with the anchored head.
func (v *verifier) end() {
	r := &v.report
	if n := len(v.pending); n > 0 {
		r.Tail = int64(n - len(v.seals))
		r.TailTime = time.Duration(v.times[n-1]-v.times[0]) * time.Microsecond
	}
	if v.anchor != nil {
		for _, x := range v.anchor.Accepted {
			v.fault(x.Size, "a sealed head of %d records was given up on %s: %s", x.Size, x.Time.Format(time.RFC3339), x.Reason)
		}
	}
	switch {
	case v.anchor == nil && v.trust.Complete && r.Seals > 0:
		v.fault(0, "the key store knows no head of this stream, but there are seals in it")
	case v.anchor == nil:
	case v.next < v.anchor.Size:
		v.fault(v.next, "the log ends here, the anchored head is at %d: %d records are missing", v.anchor.Size, v.anchor.Size-v.next)
	case !v.reached:
		v.fault(v.anchor.Size, "the anchored head is not met: records are missing or damaged before it")
	case v.anchor.Clean && r.Stream != KeyStream && (r.Tail > 0 || r.Torn):
		v.fault(v.anchor.Size, "there are records behind the clean end")
	}
}
