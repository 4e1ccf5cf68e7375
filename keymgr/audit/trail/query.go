package trail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/audit/auditor"
)

// Query says which events are wanted; the zero Query wants all.
type Query struct {
	Streams      []string  // nil: all
	Since, Until time.Time // half-open; zero: no bound
	Principal    string    // ARN, exactly
	Key          string    // ARN, exactly; the destination of ReEncrypt counts
	Name         string    // eventName, exactly
	Decision     audit.Decision
	Statement    string // that decided, exactly
	Path         string // this and everything below it; with * at the end everything that begins with it. The new name of a renamed file counts
	ID           string // eventID
	Internal     bool   // the log's own events too: seals, beginnings and ends

	Opener *auditor.Opener // opens what is sealed; nil: a sealed event is what stands in clear of it
	Sealed bool            // with what stands in clear of sealed events that Opener does not open: those that may be wanted, by time, name and decision
}

// Found is one event that a query finds.
type Found struct {
	Stream string
	Line   []byte // without its end; valid until the function returns
	Event  *audit.Event
}

// Search calls fn for each event that is wanted, of all streams by time; events of one stream come in its order, whatever their times are. It reads what is there when it comes by,
// and ends with fn's error. It searches by the indexes, which Verify checks, and does not itself say whether the log is whole. ErrNoLog; ErrDamaged for what cannot be read.
func Search(ctx context.Context, dir string, q Query, fn func(Found) error) error {
	streams := q.Streams
	if streams == nil {
		var err error
		if streams, err = Streams(dir); err != nil {
			return err
		}
	}
	m := q.matcher()
	if len(streams) == 1 {
		return m.stream(ctx, dir, streams[0], fn)
	}
	return m.merge(ctx, dir, streams, fn)
}

// stream calls fn for what is wanted of one stream.
func (m *matcher) stream(ctx context.Context, dir, stream string, fn func(Found) error) error {
	segments, err := listSegments(filepath.Join(dir, stream))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: no stream %s in %s", ErrNoLog, stream, dir)
	}
	if err != nil {
		return err
	}
	for _, s := range segments {
		if err := m.segment(ctx, stream, s, fn); err != nil {
			return err
		}
	}
	return nil
}

// matcher is a query prepared.
type matcher struct {
	q      Query
	items  []uint64 // that a block must hold
	hidden []uint64 // that it must hold, too, unless it has events which are sealed and can be opened
	raw    [][]byte // that a line must hold
	path   string
	prefix bool // everything that begins with path

	backward bool // blocks from the last to the first
}

func (q Query) matcher() *matcher {
	m := &matcher{q: q}
	want := func(kind byte, name, v string) {
		if v != "" {
			if kind == itemPrincipal {
				m.hidden = append(m.hidden, hashItem(kind, escape(v)))
			} else {
				m.items = append(m.items, hashItem(kind, escape(v)))
			}
			m.raw = append(m.raw, append(append([]byte(name), escape(v)...), '"'))
		}
	}
	want(itemPrincipal, `"principal":"`, q.Principal)
	want(itemDecision, `"decision":"`, string(q.Decision))
	want(itemName, `"eventName":"`, q.Name)
	if q.Statement != "" {
		m.hidden = append(m.hidden, hashItem(itemStatement, escape(q.Statement)))
		m.raw = append(m.raw, append(append([]byte(`"statement":"`), escape(q.Statement)...), '"'))
	}
	if q.Key != "" {
		m.hidden = append(m.hidden, hashItem(itemKey, escape(q.Key)))
		m.raw = append(m.raw, escape(q.Key))
	}
	if q.ID != "" {
		m.raw = append(m.raw, append(append([]byte(`"eventID":"`), escape(q.ID)...), '"'))
	}
	if q.Path == "" {
		return m
	}
	m.path, m.prefix = strings.CutSuffix(q.Path, "*")
	dir := strings.TrimRight(m.path, "/")
	if m.prefix {
		dir = m.path[:max(strings.LastIndexByte(m.path, '/'), 0)]
	} else {
		m.path = dir
	}
	if dir == "" {
		dir = "/"
	}
	m.hidden = append(m.hidden, hashItem(itemPath, escape(dir)))
	m.raw = append(m.raw, escape(m.path))
	return m
}

// below says whether a path is wanted.
func (m *matcher) below(path string) bool {
	if path == "" || !strings.HasPrefix(path, m.path) {
		return false
	}
	return m.prefix || len(path) == len(m.path) || path[len(m.path)] == '/'
}

func (m *matcher) segment(ctx context.Context, stream string, s segment, fn func(Found) error) error {
	if s.packed {
		blocks, _, err := readIndex(s)
		if err == nil {
			if m.backward {
				slices.Reverse(blocks)
			}
			return m.packed(ctx, stream, s, blocks, fn)
		}
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, ErrDamaged) {
			return err
		} // without a good index the segment is read
	}
	in, err := openSegment(s)
	if errors.Is(err, os.ErrNotExist) && !s.packed { // it has just been compressed
		s.packed = true
		return m.segment(ctx, stream, s, fn)
	}
	if err != nil {
		return err
	}
	defer in.close()
	for number := 0; ; number++ {
		line, err := in.next()
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, errTorn) && !s.packed: // its end is being written
			return nil
		case err != nil:
			return fmt.Errorf("read %s: %w", s.path(), err)
		case number == 0: // header
			continue
		}
		if _, ok := sequenceOf(line); !ok && !s.packed { // what a power cut left behind the end, or a line that Verify complains of
			continue
		}
		if err := m.line(ctx, stream, line, fn); err != nil {
			return err
		}
	}
}

func (m *matcher) packed(ctx context.Context, stream string, s segment, blocks []block, fn func(Found) error) error {
	var r *blockReader
	for i := range blocks {
		b := &blocks[i]
		if !m.block(b) {
			continue
		}
		if r == nil {
			var err error
			if r, err = openBlocks(s); err != nil {
				return err
			}
			defer r.close()
		}
		plain, err := r.read(b)
		if err != nil {
			return fmt.Errorf("read %s: %w", s.path(), err)
		}
		for len(plain) > 0 {
			line, rest, _ := bytes.Cut(plain, []byte{'\n'})
			if err := m.line(ctx, stream, line, fn); err != nil {
				return err
			}
			plain = rest
		}
	}
	return nil
}

// block says whether a block may hold what is wanted.
func (m *matcher) block(b *block) bool {
	if !m.q.Since.IsZero() && b.max < m.q.Since.UnixMicro() || !m.q.Until.IsZero() && b.min >= m.q.Until.UnixMicro() {
		return false
	}
	for _, x := range m.items {
		if !mayHold(b.bloom, x) {
			return false
		}
	}
	if (m.q.Opener != nil || m.q.Sealed) && mayHold(b.bloom, hashItem(itemSealed, nil)) {
		return true
	}
	for _, x := range m.hidden {
		if !mayHold(b.bloom, x) {
			return false
		}
	}
	return true
}

var sealedMark = []byte(`"sealed":"`)

// line gives fn the event of a line, if it is wanted.
func (m *matcher) line(ctx context.Context, stream string, line []byte, fn func(Found) error) error {
	if m.q.Opener == nil && !m.q.Sealed || !bytes.Contains(line, sealedMark) {
		for _, raw := range m.raw {
			if !bytes.Contains(line, raw) {
				return nil
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	e, err := audit.Parse(line)
	if err != nil {
		return nil // Verify complains of it
	}
	if line, e, err = Unseal(m.q.Opener, line, e); err != nil {
		return fmt.Errorf("stream %s: %w", stream, err)
	}
	if !m.wants(e) {
		return nil
	}
	return fn(Found{stream, line, e})
}

func (m *matcher) wants(e *audit.Event) bool {
	q := &m.q
	hidden := q.Sealed && e.Sealed != ""
	switch {
	case !q.Since.IsZero() && e.Time.Before(q.Since), !q.Until.IsZero() && !e.Time.Before(q.Until):
	case q.Principal != "" && !hidden && e.Principal != q.Principal:
	case q.Key != "" && !hidden && e.Key != q.Key && e.DestinationKey != q.Key:
	case q.Name != "" && e.Name != q.Name:
	case q.Decision != "" && e.Decision != q.Decision:
	case q.ID != "" && e.ID != q.ID:
	case q.Statement != "" && !hidden && e.Statement != q.Statement:
	case q.Path != "" && !hidden && !m.below(e.Path) && !m.below(e.NewPath):
	case !q.Internal && q.Name == "" && q.ID == "" && e.Class == audit.Repair && e.Internal:
	default:
		return true
	}
	return false
}
