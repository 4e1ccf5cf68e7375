package trail

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/keymgr/audit/seal"
)

// recover finds where the stream ends and makes it ready to be written on. It reads the last segment.
func (l *Log) recover() error {
	l.removeTemporary()
	segments, err := listSegments(l.dir)
	if err != nil {
		return err
	}
	if len(segments) == 0 {
		l.w.growth = seal.NewGrowth(seal.Tree{})
		return l.begin(segment{dir: l.dir}, &seal.Tree{})
	}
	last := segments[len(segments)-1]
	tree, end, err := readToEnd(last, l.opts.KeyStore, l.opts.Stream)
	if err != nil {
		return fmt.Errorf("%s: %w", last.path(), err)
	}
	l.w.growth = seal.NewGrowth(tree)
	l.mu.status.Size = tree.Size()
	if last.packed { // the newest segment is missing; Attach tells whether that matters
		return l.begin(segment{dir: l.dir, first: tree.Size()}, &tree)
	}
	f, err := l.disk.Open(last)
	if err != nil {
		return err
	}
	l.w.seg, l.w.file, l.w.size, l.w.opened = last, f, end, l.opts.Now()
	l.mu.current = last.first
	return l.cutTail()
}

// removeTemporary removes what a crash left of files that were being made.
func (l *Log) removeTemporary() {
	names, err := filepath.Glob(filepath.Join(l.dir, ".new-*"))
	if err != nil {
		return
	}
	for _, name := range names {
		_ = os.Remove(name)
	}
}

// readToEnd reads a segment and gives the tree up to its last whole record and where that ends, in bytes.
func readToEnd(s segment, keyStore, stream string) (tree seal.Tree, end int64, err error) {
	in, err := openSegment(s)
	if err != nil {
		return tree, 0, err
	}
	defer in.close()
	if tree, err = in.header(s, keyStore, stream); err != nil {
		return tree, 0, err
	}
	var buf []byte
	for {
		end = in.end
		line, err := in.next()
		if errors.Is(err, io.EOF) || errors.Is(err, errTorn) && !s.packed {
			return tree, end, nil
		}
		if err != nil {
			return tree, end, err
		}
		n, ok := sequenceOf(line)
		if !ok || n != tree.Size() || !json.Valid(line) {
			if s.packed {
				return tree, end, fmt.Errorf("%w: record %d", ErrDamaged, tree.Size())
			}
			return tree, end, nil
		}
		h, b := recordHash(buf, line)
		buf = b
		tree.Add(h)
	}
}

// cutTail takes what lies behind the last whole record out of the file, into one beside it.
func (l *Log) cutTail() error {
	w := &l.w
	size, err := w.file.Size()
	if err != nil || size == w.size {
		return err
	}
	in, err := os.OpenFile(w.seg.plain(), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	tail, err := io.ReadAll(io.LimitReader(io.NewSectionReader(in, w.size, size-w.size), 2*DefaultSegmentSize))
	if err != nil {
		return err
	}
	if tail = bytes.TrimRight(tail, "\x00"); len(tail) == 0 { // room for what was to come
		return w.file.Truncate(w.size)
	}
	l.w.cut = int64(len(tail))
	// A tail in which there is no whole line is a record that was never answered; its file is kept where there is space for it.
	name := fmt.Sprintf("%0*d-%d%s", digits, w.growth.Now().Size(), l.opts.Now().UnixNano(), cutSuffix)
	if err := writeFile(filepath.Join(l.dir, name), tail); err != nil && bytes.IndexByte(tail, '\n') >= 0 {
		return fmt.Errorf("keep %d bytes behind the last whole record: %w", len(tail), err)
	}
	if err := w.file.Truncate(w.size); err != nil {
		return err
	}
	l.opts.Log.Warn("the audit log's end was not whole; what was behind it is kept", "dir", l.dir, "records", w.growth.Now().Size(), "bytes", len(tail), "file", name)
	return w.file.Sync()
}

// rebase makes the anchored head the one that the stream's growth is proven from. It reads the stream from the segment on in which that head is. ErrDamaged if the stream does
// not contain it. The writer runs it.
func (l *Log) rebase(a seal.Anchor) error {
	now := l.w.growth.Now()
	if a.Size > now.Size() {
		return fmt.Errorf("%w: %s ends at record %d, the key store has sealed %d: %d are missing. Put them back, or see kmsfs audit restart", ErrDamaged, l.dir, now.Size(), a.Size,
			a.Size-now.Size())
	}
	if a.Clean && a.Size < now.Size() && l.opts.Stream != KeyStream { // a key daemon that nobody unlocked writes, and has no seal
		return fmt.Errorf("%w: %s has %d records behind its clean end at %d", ErrDamaged, l.dir, now.Size()-a.Size, a.Size)
	}
	if a.Size == 0 {
		l.w.growth = seal.Unsealed(*now)
		return nil
	}
	segments, err := listSegments(l.dir)
	if err != nil {
		return err
	}
	growth, err := l.grow(segments, a)
	if err != nil {
		return err
	}
	if growth.Now().Size() != now.Size() || growth.Now().Root() != now.Root() {
		return fmt.Errorf("%w: %s reads as %d records, it has %d", ErrDamaged, l.dir, growth.Now().Size(), now.Size())
	}
	l.w.growth = growth
	return nil
}

// grow reads the stream's segments from the one in which the anchored head is.
func (l *Log) grow(segments []segment, a seal.Anchor) (*seal.Growth, error) {
	for len(segments) > 1 && segments[1].first <= a.Size {
		segments = segments[1:]
	}
	if len(segments) == 0 || segments[0].first > a.Size {
		return nil, fmt.Errorf("%w: %s: the segment of the sealed head at %d is missing", ErrDamaged, l.dir, a.Size)
	}
	var growth *seal.Growth
	var tree seal.Tree
	check := func() error {
		if growth != nil || tree.Size() != a.Size {
			return nil
		}
		if tree.Root() != a.Root {
			return fmt.Errorf("%w: %s: the records up to %d are not those that were sealed; kmsfs audit verify says more", ErrDamaged, l.dir, a.Size)
		}
		growth = seal.NewGrowth(tree)
		return nil
	}
	for i, s := range segments {
		err := readSegment(s, l.opts.KeyStore, l.opts.Stream, func(start seal.Tree) error {
			if i == 0 {
				tree = start
			} else if tree.Size() != s.first || tree.Root() != start.Root() {
				return fmt.Errorf("%w: %s does not follow", ErrDamaged, s.path())
			}
			return check()
		}, func(line []byte, buf []byte) ([]byte, error) {
			h, buf := recordHash(buf, line)
			if tree.Add(h); growth != nil {
				growth.Add(h)
			}
			return buf, check()
		})
		if err != nil {
			return nil, err
		}
	}
	if growth == nil {
		return nil, fmt.Errorf("%w: %s: the sealed head at %d is not reached", ErrDamaged, l.dir, a.Size)
	}
	return growth, nil
}

// readSegment reads a whole segment: start gets the tree before it, each every line with a buffer to use.
func readSegment(s segment, keyStore, stream string, start func(seal.Tree) error, each func(line, buf []byte) ([]byte, error)) error {
	in, err := openSegment(s)
	if err != nil {
		return err
	}
	defer in.close()
	tree, err := in.header(s, keyStore, stream)
	if err == nil {
		err = start(tree)
	}
	var buf []byte
	for err == nil {
		var line []byte
		if line, err = in.next(); err == nil {
			buf, err = each(line, buf)
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return fmt.Errorf("read %s: %w", s.path(), err)
}
