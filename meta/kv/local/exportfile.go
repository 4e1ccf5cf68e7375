package local

import (
	"bufio"
	"context"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta/kv"
	"github.com/kmsfs/kmsfs/meta/kv/local/beneath"
)

// An export file (docs/FORMAT.md 9.7) holds what changed from one checkpoint to another: the newest version of every row, in ascending order of
// keys. Beginning from the empty store it holds the whole state.
//
//	header: magic[8] | version u32 | zero u32 | volume[16] | salt[16] | from: sequence u64, tag[16] | to: sequence u64, tag[16] |
//	        generation u64 | heads from u64 | n u16 | heads: sequence u64, tag[16] each | tag[16]
//	chunk:  length u32 (not 0) | rows | tag[16]
//	end:    0 u32 | rows u64 | tag[16]
//
// Rows are put and delete ops of a journal record. The tags are GMACs under the file's own key, with the number of the piece as nonce: the header's
// is 0.
const (
	exportMagic   = "kmsfsexp"
	exportVersion = 1
	exportFixed   = 8 + 4 + 4 + 16 + 16 + 2*headSize + 8 + 8 + 2
	exportLabel   = "metadata export"
	exportChunk   = 256 << 10 // a chunk ends when it has reached as much
	maxChunkSize  = exportChunk + opPutSize + maxKey + maxValue
)

// exportHeader says which part of the history a file holds.
type exportHeader struct {
	salt       [16]byte
	from, to   point
	generation uint64
	heads      headLog // as the checkpoint row has them
}

func (h exportHeader) encode(volume blockcrypt.VolumeID) []byte {
	b := append(make([]byte, 0, exportFixed+len(h.heads.points)*headSize+TagSize), exportMagic...)
	b = binary.BigEndian.AppendUint32(b, exportVersion)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = append(b, volume[:]...)
	b = append(b, h.salt[:]...)
	for _, p := range []point{h.from, h.to} {
		b = binary.BigEndian.AppendUint64(b, p.seq)
		b = append(b, p.tag[:]...)
	}
	b = binary.BigEndian.AppendUint64(b, h.generation)
	b = binary.BigEndian.AppendUint64(b, h.heads.from)
	b = binary.BigEndian.AppendUint16(b, uint16(len(h.heads.points)))
	for _, p := range h.heads.points {
		b = binary.BigEndian.AppendUint64(b, p.seq)
		b = append(b, p.tag[:]...)
	}
	return b
}

// exportAEAD derives the key of one file.
func exportAEAD(key *blockcrypt.Key, volume blockcrypt.VolumeID, salt [16]byte) (cipher.AEAD, error) {
	k, err := blockcrypt.DeriveKey(key, exportLabel, append(volume[:len(volume):len(volume)], salt[:]...))
	if err != nil {
		return nil, err
	}
	defer k.Wipe()
	return gmac(k)
}

// readExportHeader reads and authenticates the header. Errors: kv.ErrCorrupt, also for another volume's file; the system's.
func readExportHeader(r io.Reader, key *blockcrypt.Key, volume blockcrypt.VolumeID) (h exportHeader, aead cipher.AEAD, err error) {
	b := make([]byte, exportFixed, exportFixed+maxHeads*headSize+TagSize)
	if _, err := io.ReadFull(r, b); err != nil {
		return h, nil, short(err)
	}
	n := int(binary.BigEndian.Uint16(b[exportFixed-2:]))
	if string(b[:8]) != exportMagic || binary.BigEndian.Uint32(b[8:]) != exportVersion || binary.BigEndian.Uint32(b[12:]) != 0 ||
		blockcrypt.VolumeID(b[16:32]) != volume || n > maxHeads {
		return h, nil, fmt.Errorf("header: %w", kv.ErrCorrupt)
	}
	b = b[:exportFixed+n*headSize+TagSize]
	if _, err := io.ReadFull(r, b[exportFixed:]); err != nil {
		return h, nil, short(err)
	}
	copy(h.salt[:], b[32:])
	if aead, err = exportAEAD(key, volume, h.salt); err != nil {
		return h, nil, err
	}
	body := b[:len(b)-TagSize]
	if !authentic(aead, 0, body, b[len(body):]) {
		return h, nil, fmt.Errorf("header is not authentic: %w", kv.ErrCorrupt)
	}
	h.from, h.to = decodePoint(b[48:]), decodePoint(b[48+headSize:])
	h.generation = binary.BigEndian.Uint64(b[48+2*headSize:])
	h.heads.from = binary.BigEndian.Uint64(b[56+2*headSize:])
	for heads := body[exportFixed:]; len(heads) > 0; heads = heads[headSize:] {
		h.heads.points = append(h.heads.points, decodePoint(heads))
	}
	return h, aead, nil
}

// short makes the end of a file that goes on an error of the file.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("cut short: %w", kv.ErrCorrupt)
	}
	return err
}

func authentic(aead cipher.AEAD, number uint64, body, tag []byte) bool {
	n := sequenceNonce(number)
	return subtle.ConstantTimeCompare(aead.Seal(nil, n[:], nil, body), tag) == 1
}

// exportWriter writes one file under a temporary name.
type exportWriter struct {
	file  *os.File
	out   *bufio.Writer
	aead  cipher.AEAD
	chunk []byte
	n     uint64 // pieces written
	rows  uint64
	size  int64
}

// exportTemp is the suffix of files that are being written; one that is left by a crash is removed.
const exportTemp = ".tmp"

// newExportWriter begins a file in dir.
func newExportWriter(dir string, key *blockcrypt.Key, volume blockcrypt.VolumeID, h exportHeader) (*exportWriter, error) {
	if _, err := rand.Read(h.salt[:]); err != nil {
		return nil, fmt.Errorf("draw salt: %w", err)
	}
	aead, err := exportAEAD(key, volume, h.salt)
	if err != nil {
		return nil, err
	}
	f, err := openBeneath(dir, "export-"+hex.EncodeToString(h.salt[:8])+exportTemp, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, noSpace(err)
	}
	w := &exportWriter{file: f, out: bufio.NewWriterSize(f, 64<<10), aead: aead, chunk: make([]byte, 4, maxChunkSize+4)}
	if err := w.seal(h.encode(volume)); err != nil {
		w.abandon()
		return nil, err
	}
	return w, nil
}

// seal writes a piece and its tag.
func (w *exportWriter) seal(piece []byte) error {
	n := sequenceNonce(w.n)
	w.n++
	for _, b := range [][]byte{piece, w.aead.Seal(nil, n[:], nil, piece)} {
		if _, err := w.out.Write(b); err != nil {
			return noSpace(err)
		}
		w.size += int64(len(b))
	}
	return nil
}

// add appends a row; a nil value is a deletion. Keys ascend.
func (w *exportWriter) add(key, value []byte) error {
	if value == nil {
		w.chunk = append(w.chunk, opDelete)
		w.chunk = binary.BigEndian.AppendUint16(w.chunk, uint16(len(key)))
	} else {
		w.chunk = append(w.chunk, opPut)
		w.chunk = binary.BigEndian.AppendUint16(w.chunk, uint16(len(key)))
		w.chunk = binary.BigEndian.AppendUint32(w.chunk, uint32(len(value)))
	}
	w.chunk = append(append(w.chunk, key...), value...)
	w.rows++
	if len(w.chunk) < exportChunk {
		return nil
	}
	return w.flush()
}

func (w *exportWriter) flush() error {
	if len(w.chunk) == 4 {
		return nil
	}
	binary.BigEndian.PutUint32(w.chunk, uint32(len(w.chunk)-4))
	err := w.seal(w.chunk)
	w.chunk = w.chunk[:4]
	return err
}

// finish ends the file, makes it durable and gives it its name.
func (w *exportWriter) finish(path string) error {
	err := w.flush()
	if err == nil {
		err = w.seal(binary.BigEndian.AppendUint64(make([]byte, 4), w.rows))
	}
	if err == nil {
		err = noSpace(w.out.Flush())
	}
	if err == nil {
		err = datasync(int(w.file.Fd()))
	}
	if err != nil {
		w.abandon()
		return err
	}
	if err := w.file.Close(); err != nil {
		return err
	}
	dir := filepath.Dir(path)
	root, rel := filepath.Dir(dir), filepath.Base(dir)
	if err := beneath.Rename(root, filepath.Join(rel, filepath.Base(w.file.Name())), filepath.Base(path)); err != nil {
		return err
	}
	return beneath.SyncDir(root, rel)
}

// abandon removes what was written.
func (w *exportWriter) abandon() {
	w.file.Close()
	_ = os.Remove(w.file.Name()) // what is left is removed when the store is opened
}

// exportReader reads one file as a source. Every row it gives out is authentic; that the file is whole is known when it has come to its end.
type exportReader struct {
	exportHeader
	file  *os.File
	in    *bufio.Reader
	aead  cipher.AEAD
	buf   []byte
	rest  []byte // of the chunk
	at    op
	left  bool // at is a row
	n     uint64
	rows  uint64
	last  []byte
	ended bool
	err   error
}

// openExport opens a file and stands at its first row. Errors: kv.ErrCorrupt, the system's.
func openExport(path string, key *blockcrypt.Key, volume blockcrypt.VolumeID) (*exportReader, error) {
	f, err := openPlain(path)
	if err != nil {
		return nil, err
	}
	r := &exportReader{file: f, in: bufio.NewReaderSize(f, 64<<10)}
	if r.exportHeader, r.aead, err = readExportHeader(r.in, key, volume); err != nil {
		f.Close()
		return nil, fmt.Errorf("export %s: %w", filepath.Base(path), err)
	}
	r.n = 1
	r.next()
	return r, nil
}

func (r *exportReader) close() { r.file.Close() }

func (r *exportReader) key() []byte {
	if !r.left {
		return nil
	}
	return r.at.key
}

func (r *exportReader) value() ([]byte, bool, error) { return r.at.value, r.at.kind == opPut, nil }

func (r *exportReader) failed() error {
	if r.err != nil {
		return fmt.Errorf("export %s: %w", filepath.Base(r.file.Name()), r.err)
	}
	return nil
}

func (r *exportReader) next() {
	if r.left {
		r.last = append(r.last[:0], r.at.key...)
	}
	r.left = false
	if r.err == nil && len(r.rest) == 0 && !r.ended {
		r.err = r.piece()
	}
	if r.err != nil || r.ended {
		return
	}
	var ok bool
	if r.at, r.rest, ok = parseOp(r.rest, nil); !ok || r.at.kind == opBlob || !validKey(r.at.key) || string(r.at.key) <= string(r.last) {
		r.err = fmt.Errorf("row after %x: %w", r.last, kv.ErrCorrupt)
		return
	}
	r.left = true
	r.rows++
}

// piece reads a chunk or the end.
func (r *exportReader) piece() error {
	var head [4]byte
	if _, err := io.ReadFull(r.in, head[:]); err != nil {
		return short(err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxChunkSize {
		return fmt.Errorf("chunk of %d bytes: %w", n, kv.ErrCorrupt)
	}
	body := int(n)
	if n == 0 {
		body = 8
	}
	r.buf = append(append(r.buf[:0], head[:]...), make([]byte, body+TagSize)...)
	if _, err := io.ReadFull(r.in, r.buf[4:]); err != nil {
		return short(err)
	}
	if !authentic(r.aead, r.n, r.buf[:4+body], r.buf[4+body:]) {
		return fmt.Errorf("chunk %d is not authentic: %w", r.n, kv.ErrCorrupt)
	}
	r.n++
	if n > 0 {
		r.rest = r.buf[4 : 4+body]
		return nil
	}
	r.ended = true
	if _, err := r.in.ReadByte(); !errors.Is(err, io.EOF) || binary.BigEndian.Uint64(r.buf[4:]) != r.rows {
		return fmt.Errorf("end after %d rows: %w", r.rows, kv.ErrCorrupt)
	}
	return nil
}

// openPlain opens a regular file with one name for reading; a link is not followed, a pipe not waited for.
func openPlain(path string) (*os.File, error) {
	return openBeneath(filepath.Dir(path), filepath.Base(path), os.O_RDONLY)
}

// mergeExports calls fn for the rows of sources in key order; of rows with one key the first source's counts. v is nil for a deletion. Both are valid
// during the call.
func mergeExports(ctx context.Context, sources []source, fn func(k, v []byte) error) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		first := lowest(sources)
		for _, s := range sources {
			if err := s.failed(); err != nil {
				return err
			}
		}
		if first == nil {
			return nil
		}
		k := first.key()
		v, present, err := first.value()
		if err != nil {
			return err
		}
		if !present {
			v = nil
		}
		if err := fn(k, v); err != nil {
			return err
		}
		for _, s := range sources {
			if s != first && string(s.key()) == string(k) {
				s.next()
			}
		}
		first.next()
	}
}
