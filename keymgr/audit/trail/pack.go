package trail

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/kmsfs/kmsfs/hsm/awake"
	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/audit/seal"
)

// packName is the event that says that a segment was compressed, and what its index is.
const packName = "CompressAuditLog"

// After so many records, which take some 5 µs each, compressing lets others run. It sleeps for that: the runtime looks for requests that have come only where nothing else can run.
const (
	yieldEvery = 64
	yieldFor   = 50 * time.Microsecond
)

// packRetry is how long a segment that could not be compressed is left alone.
const packRetry = time.Minute

// packing is the goroutine that compresses closed segments.
func (l *Log) packing() {
	retry := time.NewTicker(packRetry)
	defer retry.Stop()
	for {
		select {
		case <-l.packs:
		case <-retry.C:
		case <-l.ends:
			return
		}
		if err := l.packAll(); err != nil {
			l.opts.Log.Warn("an audit segment is not compressed; tried again", "dir", l.dir, "error", err)
		}
	}
}

// packAll compresses the segments that are closed.
func (l *Log) packAll() error {
	l.packOne.Lock()
	defer l.packOne.Unlock()
	segments, err := listSegments(l.dir)
	if err != nil {
		return err
	}
	l.mu.Lock()
	current, attached := l.mu.current, l.mu.sealer != nil
	l.mu.Unlock()
	if !attached && l.opts.Stream != KeyStream { // behind a clean end nothing may be recorded before Attach has said that the stream goes on
		return nil
	}
	for _, s := range segments {
		if s.packed || s.first >= current {
			continue
		}
		select {
		case <-l.ends:
			return nil
		default:
		}
		if err := l.pack(s); err != nil {
			return err
		}
	}
	return nil
}

// pack compresses one segment. The record of it comes before the segment's name changes, so that no index is believed of which the stream does not know.
func (l *Log) pack(s segment) error {
	p, err := packSegment(s)
	if err != nil {
		return err
	}
	defer p.drop()
	e := l.internal(packName, fmt.Sprintf("records %d to %d", s.first, s.first+p.records-1), uint64(p.records))
	h := sum(p.index)
	e.Parameters = map[string]any{"segment": s.first, "indexSha256": hex.EncodeToString(h[:]), "segmentSha256": hex.EncodeToString(p.digest)}
	ctx, cancel := awake.WithTimeout(context.Background(), l.opts.Limit)
	defer cancel()
	if err := l.Record(ctx, e); err != nil {
		return err
	}
	return p.commit()
}

// packed is a segment compressed, not yet in its place.
type packed struct {
	s       segment
	tmp     string
	digest  []byte // SHA-256 of it
	index   []byte
	records int64
}

func (p *packed) drop() { _ = os.Remove(p.tmp) }

func (p *packed) commit() error {
	if err := writeFile(p.s.index(), p.index); err != nil {
		return err
	}
	q := p.s
	q.packed = true
	if err := os.Rename(p.tmp, q.path()); err != nil {
		return err
	}
	if err := syncDir(p.s.dir); err != nil {
		return err
	}
	if err := os.Remove(p.s.plain()); err != nil {
		return err
	}
	return syncDir(p.s.dir)
}

// packSegment compresses a segment: its header in a frame of its own, then one frame a block.
func packSegment(s segment) (_ *packed, err error) {
	in, err := openSegment(s)
	if err != nil {
		return nil, err
	}
	defer in.close()
	head, err := in.next()
	if err != nil {
		return nil, fmt.Errorf("%w: %s: no header", ErrDamaged, s.path())
	}
	if _, _, err := parseHeader(head); err != nil {
		return nil, err
	}
	tmp, err := os.CreateTemp(s.dir, ".new-*")
	if err != nil {
		return nil, err
	}
	digest := sha256.New()
	p := &packer{segment: s, out: bufio.NewWriterSize(io.MultiWriter(tmp, digest), 1<<20)}
	if p.z, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(true)); err == nil {
		err = p.run(in, head)
	}
	if err = errors.Join(err, p.out.Flush(), tmp.Sync(), tmp.Close()); err != nil {
		_ = os.Remove(tmp.Name())
		return nil, fmt.Errorf("compress %s: %w", s.path(), err)
	}
	return &packed{s, tmp.Name(), digest.Sum(nil), encodeIndex(s.first, p.next-s.first, p.blocks), p.next - s.first}, nil
}

// packer makes the blocks of a segment.
type packer struct {
	segment segment
	out     *bufio.Writer
	z       *zstd.Encoder
	offset  uint64
	next    int64 // record
	blocks  []block

	plain, frame, hashed []byte
	now                  block
	items                items
	tree                 seal.Tree
}

func (p *packer) run(in *lines, head []byte) error {
	p.next = p.segment.first
	p.plain = append(append(p.plain, head...), '\n')
	if err := p.write(); err != nil {
		return err
	}
	p.start()
	for {
		line, err := in.next()
		if errors.Is(err, io.EOF) {
			return p.finish()
		}
		if err != nil {
			return err
		}
		if n, ok := sequenceOf(line); !ok || n != p.next {
			return fmt.Errorf("%w: record %d", ErrDamaged, p.next)
		}
		if err := p.add(line); err != nil {
			return err
		}
		if p.next%yieldEvery == 0 {
			time.Sleep(yieldFor)
		}
	}
}

func (p *packer) start() {
	p.now, p.items, p.tree = block{first: uint64(p.next)}, items{}, seal.Tree{}
}

func (p *packer) add(line []byte) error {
	at, ok := timeOf(line)
	if !ok {
		return fmt.Errorf("%w: record %d has no time", ErrDamaged, p.next)
	}
	if p.now.count == 0 {
		p.now.min, p.now.max = at, at
	}
	p.now.min, p.now.max = min(p.now.min, at), max(p.now.max, at)
	p.items.addLine(line)
	h, buf := recordHash(p.hashed, line)
	p.hashed = buf
	p.tree.Add(h)
	p.plain = append(append(p.plain, line...), '\n')
	p.now.count++
	if p.next++; p.next%blockSize == 0 || len(p.plain) > maxWindow-2*maxLine {
		return p.finish()
	}
	return nil
}

// finish ends the block.
func (p *packer) finish() error {
	if p.now.count == 0 {
		return nil
	}
	b := p.now
	b.offset, b.plain = p.offset, uint32(len(p.plain))
	if err := p.write(); err != nil {
		return err
	}
	b.length, b.bloom = uint32(p.offset-b.offset), p.items.bloom()
	if b.whole() {
		b.hash = p.tree.Root()
	}
	p.blocks = append(p.blocks, b)
	p.start()
	return nil
}

func (p *packer) write() error {
	p.frame = p.z.EncodeAll(p.plain, p.frame[:0])
	p.plain = p.plain[:0]
	p.offset += uint64(len(p.frame))
	_, err := p.out.Write(p.frame)
	return err
}

// readIndex reads and decodes the index of a segment.
func readIndex(s segment) ([]block, []byte, error) {
	data, err := os.ReadFile(s.index())
	if err != nil {
		return nil, nil, err
	}
	first, _, blocks, err := decodeIndex(data)
	if err == nil && first != s.first {
		err = fmt.Errorf("%w: index: of another segment", ErrDamaged)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", filepath.Base(s.index()), err)
	}
	return blocks, data, nil
}

// blockReader reads blocks of a compressed segment by their index.
type blockReader struct {
	f *os.File
	z *zstd.Decoder

	frame, plain []byte
}

func openBlocks(s segment) (*blockReader, error) {
	f, err := os.Open(s.path())
	if err != nil {
		return nil, err
	}
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxWindow))
	if err != nil {
		f.Close()
		return nil, err
	}
	return &blockReader{f: f, z: z}, nil
}

func (r *blockReader) close() { r.z.Close(); r.f.Close() }

// read gives a block's lines; they are valid until the next call.
func (r *blockReader) read(b *block) ([]byte, error) {
	if cap(r.frame) < int(b.length) {
		r.frame = make([]byte, b.length)
	}
	r.frame = r.frame[:b.length]
	if _, err := r.f.ReadAt(r.frame, int64(b.offset)); err != nil {
		return nil, fmt.Errorf("%w: block at %d: %w", ErrDamaged, b.first, err)
	}
	plain, err := r.z.DecodeAll(r.frame, r.plain[:0])
	if err != nil || len(plain) != int(b.plain) {
		return nil, fmt.Errorf("%w: block at %d: %w", ErrDamaged, b.first, errors.Join(err, audit.ErrEvent))
	}
	r.plain = plain
	return plain, nil
}
