package trail

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strconv"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/audit/seal"
)

// formatVersion is that of segments and indexes.
const formatVersion = 1

// header is the first line of a segment. It is no record.
type header struct {
	Format   int         `json:"kmsfsAudit"`
	KeyStore string      `json:"keyStore"`
	Stream   string      `json:"stream"`
	First    int64       `json:"first"`
	Edge     []tlog.Hash `json:"edge"` // of the Merkle tree over all records before
}

func (h header) encode() []byte {
	b, err := json.Marshal(h)
	if err != nil {
		panic(err) // a struct of plain values
	}
	return append(b, '\n')
}

// parseHeader reads a header line. ErrDamaged for anything else.
func parseHeader(line []byte) (h header, tree seal.Tree, err error) {
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&h); err != nil || h.Format != formatVersion || !bytes.Equal(bytes.TrimSuffix(h.encode(), []byte("\n")), line) { // one encoding only
		return h, tree, fmt.Errorf("%w: not a header of version %d", ErrDamaged, formatVersion)
	}
	if tree, err = seal.NewTree(h.First, h.Edge); err != nil {
		return h, tree, fmt.Errorf("%w: header: %w", ErrDamaged, err)
	}
	return h, tree, nil
}

// maxLine bounds a line with its sequence number, without its end.
const maxLine = audit.MaxLine

// lines reads a segment line by line.
type lines struct {
	r    *bufio.Reader
	long []byte    // of a line longer than r's buffer
	raw  hash.Hash // of the file's bytes, for a compressed segment
	end  int64     // bytes read up to the end of the last whole line, uncompressed
	open bool      // not compressed: zeros may lie behind the last line
	done func()
}

// openSegment opens a segment for reading.
func openSegment(s segment) (*lines, error) {
	f, err := os.OpenFile(s.path(), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(fmt.Errorf("%w: %s is no file", ErrDamaged, s.path()), err)
	}
	if !s.packed {
		return &lines{r: bufio.NewReaderSize(f, 256<<10), open: true, done: func() { f.Close() }}, nil
	}
	raw := sha256.New()
	z, err := zstd.NewReader(io.TeeReader(f, raw), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
	if err != nil {
		f.Close()
		return nil, err
	}
	return &lines{r: bufio.NewReaderSize(z, 256<<10), raw: raw, done: func() { z.Close(); f.Close() }}, nil
}

// maxWindow bounds the memory for one zstd frame. Ours are below maxBlock.
const maxWindow = 64 << 20

func (l *lines) close() { l.done() }

// next gives the next line without its end; it is valid until the next call. io.EOF at the end, which is where a line of an open segment would begin with a zero; errTorn for a last line without an
// end, one that is too long, or one of an open segment with a zero in it, as a power cut leaves it, or who writes it just now; the system's or decoder's error.
func (l *lines) next() ([]byte, error) {
	if !l.open {
		return l.line()
	}
	if b, _ := l.r.Peek(1); len(b) == 1 && b[0] == 0 {
		return nil, io.EOF
	}
	before := l.end
	line, err := l.line()
	if err == nil && bytes.IndexByte(line, 0) >= 0 {
		l.end = before
		return nil, errTorn
	}
	return line, err
}

func (l *lines) line() ([]byte, error) {
	l.long = l.long[:0]
	for {
		part, err := l.r.ReadSlice('\n')
		switch {
		case err == nil:
			l.end += int64(len(l.long) + len(part))
			if len(l.long) == 0 {
				return part[:len(part)-1], nil
			}
			l.long = append(l.long, part...)
			return l.long[:len(l.long)-1], nil
		case errors.Is(err, io.EOF) && len(part)+len(l.long) == 0:
			return nil, io.EOF
		case errors.Is(err, io.EOF):
			return nil, errTorn
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
		if l.long = append(l.long, part...); len(l.long) > maxLine {
			return nil, errTorn
		}
	}
}

// header reads the first line, which must be the header of segment s of a stream; "" means any.
func (l *lines) header(s segment, keyStore, stream string) (seal.Tree, error) {
	line, err := l.next()
	if err != nil {
		return seal.Tree{}, fmt.Errorf("%w: no header: %w", ErrDamaged, err)
	}
	h, tree, err := parseHeader(line)
	if err == nil && (h.First != s.first || keyStore != "" && h.KeyStore != keyStore || stream != "" && h.Stream != stream) {
		err = fmt.Errorf("%w: the header is that of another segment", ErrDamaged)
	}
	return tree, err
}

const sequenceMark = `"sequence":`

// sequenceOf reads the number of a record from the end of its line; false if it has none.
func sequenceOf(line []byte) (int64, bool) {
	rest, ok := bytes.CutSuffix(line, []byte("}}"))
	if !ok || len(line) > maxLine || line[0] != '{' {
		return 0, false
	}
	i := len(rest)
	for i > 0 && rest[i-1] >= '0' && rest[i-1] <= '9' && len(rest)-i < 19 {
		i--
	}
	if !bytes.HasSuffix(rest[:i], []byte(sequenceMark)) {
		return 0, false
	}
	n, err := strconv.ParseInt(string(rest[i:]), 10, 64)
	return n, err == nil && (rest[i] != '0' || len(rest)-i == 1)
}

// sealName is the event that carries a seal; its detail is the seal.
const sealName = "SealAuditLog"

var sealMark = []byte(`"eventName":"` + sealName + `"`)

// isSeal says whether a line is a seal's. A quote in what others name is never bare, so nothing else can have the mark.
func isSeal(line []byte) bool { return bytes.Contains(line, sealMark) }

// recordHash is tlog.RecordHash without an allocation.
func recordHash(buf []byte, line []byte) (tlog.Hash, []byte) {
	buf = append(append(buf[:0], 0), line...)
	return sum(buf), buf
}
