package trail

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/audit/seal"
)

// Proof shows that an event is in the log that a seal is of, to somebody who has the key's text and not the log.
type Proof struct {
	Stream   string      `json:"stream"`
	Sequence int64       `json:"sequence"`
	Event    string      `json:"event"` // its line
	Seal     string      `json:"seal"`
	Hashes   []tlog.Hash `json:"proof"`
}

// ErrProof: the proof does not hold.
var ErrProof = errors.New("the proof does not hold")

// maxProof bounds an encoded proof, in bytes.
const maxProof = 2 * maxLine

// ParseProof reads an encoded proof. ErrProof.
func ParseProof(data []byte) (p Proof, err error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if len(data) > maxProof || dec.Decode(&p) != nil {
		return p, fmt.Errorf("%w: not a proof", ErrProof)
	}
	return p, nil
}

// Check verifies the proof, and gives the event and the head that it is in. ErrProof, seal.ErrSeal.
func (p *Proof) Check(key seal.PublicKey) (*audit.Event, seal.Head, error) {
	head, err := seal.Open([]byte(p.Seal), key)
	if err != nil {
		return nil, head, err
	}
	if head.Stream != p.Stream {
		return nil, head, fmt.Errorf("%w: the seal is one of stream %s", ErrProof, head.Stream)
	}
	h, _ := recordHash(nil, []byte(p.Event))
	if p.Sequence < 0 || p.Sequence >= head.Size {
		return nil, head, fmt.Errorf("%w: the seal is one of %d records", ErrProof, head.Size)
	}
	if err := tlog.CheckRecord(p.Hashes, head.Size, head.Root, p.Sequence, h); err != nil {
		return nil, head, fmt.Errorf("%w: %w", ErrProof, err)
	}
	e, err := audit.Parse([]byte(p.Event))
	return e, head, err
}

// Prove makes the proof that a record is in the log, under an anchored head. ErrNoLog if there is no such record, or it is not sealed yet; ErrDamaged if the log is not the one
// that was sealed.
func Prove(ctx context.Context, dir string, record int64, a seal.Anchor) (Proof, error) {
	p := Proof{Stream: a.Stream, Sequence: record, Seal: string(a.Seal)}
	if record < 0 || record >= a.Size {
		return p, fmt.Errorf("%w: record %d of stream %s is not sealed; %d are", ErrNoLog, record, a.Stream, a.Size)
	}
	segments, err := listSegments(filepath.Join(dir, a.Stream))
	if err != nil {
		return p, err
	}
	r := &hashes{ctx: ctx, segments: segments, blocks: map[int64]tlog.Hash{}, leaves: map[int64][]tlog.Hash{}, wanted: record}
	if err := r.load(); err != nil {
		return p, err
	}
	hs, err := tlog.ProveRecord(a.Size, record, tlog.HashReaderFunc(r.read))
	if err != nil {
		return p, fmt.Errorf("prove record %d: %w", record, err)
	}
	if p.Hashes, p.Event = hs, string(r.line); r.line == nil {
		return p, fmt.Errorf("%w: no record %d in stream %s; was it archived?", ErrNoLog, record, a.Stream)
	}
	h, _ := recordHash(nil, r.line)
	if err := tlog.CheckRecord(hs, a.Size, a.Root, record, h); err != nil {
		return p, fmt.Errorf("%w: the log is not the one that was sealed: %w", ErrDamaged, err)
	}
	return p, nil
}

// hashes finds the hashes of complete subtrees of a stream: those of whole blocks in indexes, others from the records.
type hashes struct {
	ctx      context.Context
	segments []segment
	blocks   map[int64]tlog.Hash   // subtrees of blockLevel
	leaves   map[int64][]tlog.Hash // records of blocks that were read
	wanted   int64
	line     []byte // of the record that is wanted
}

// load reads indexes, the blocks at the edges of segments, the segments without an index, and the block of the record that is wanted.
func (r *hashes) load() error {
	for _, s := range r.segments {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		blocks, _, err := readIndex(s)
		if !s.packed || err != nil {
			if err := r.scan(s); err != nil {
				return err
			}
			continue
		}
		if err := r.index(s, blocks); err != nil {
			return err
		}
	}
	return nil
}

func (r *hashes) index(s segment, blocks []block) error {
	b, err := openBlocks(s)
	if err != nil {
		return err
	}
	defer b.close()
	for i := range blocks {
		k := &blocks[i]
		if k.whole() {
			r.blocks[int64(k.first)>>blockLevel] = k.hash
			if r.wanted>>blockLevel != int64(k.first)>>blockLevel {
				continue
			}
		}
		plain, err := b.read(k)
		if err != nil {
			return err
		}
		n := int64(k.first)
		for len(plain) > 0 {
			line, rest, _ := bytes.Cut(plain, []byte{'\n'})
			r.add(n, line)
			n, plain = n+1, rest
		}
	}
	return nil
}

func (r *hashes) scan(s segment) error {
	in, err := openSegment(s)
	if errors.Is(err, os.ErrNotExist) && !s.packed {
		s.packed = true
		in, err = openSegment(s)
	}
	if err != nil {
		return err
	}
	defer in.close()
	if _, err := in.header(s, "", ""); err != nil {
		return err
	}
	for n := s.first; ; n++ {
		line, err := in.next()
		if errors.Is(err, io.EOF) || errors.Is(err, errTorn) && !s.packed {
			return nil
		}
		if err != nil {
			return err
		}
		r.add(n, line)
	}
}

func (r *hashes) add(n int64, line []byte) {
	h, _ := recordHash(nil, line)
	k := n >> blockLevel
	if int64(len(r.leaves[k])) == n&(blockSize-1) {
		r.leaves[k] = append(r.leaves[k], h)
	}
	if n == r.wanted {
		r.line = bytes.Clone(line)
	}
}

// read implements tlog.HashReader.
func (r *hashes) read(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		level, n := tlog.SplitStoredHashIndex(x)
		h, err := r.node(level, n)
		if err != nil {
			return nil, err
		}
		out[i] = h
	}
	return out, nil
}

// node is the root of the subtree of 2^level records from n<<level on.
func (r *hashes) node(level int, n int64) (tlog.Hash, error) {
	if level == blockLevel {
		if h, ok := r.blocks[n]; ok {
			return h, nil
		}
	}
	if level > blockLevel {
		left, err := r.node(level-1, 2*n)
		if err != nil {
			return left, err
		}
		right, err := r.node(level-1, 2*n+1)
		return tlog.NodeHash(left, right), err
	}
	first := n << level
	leaves := r.leaves[first>>blockLevel]
	from := first & (blockSize - 1)
	if from+int64(1)<<level > int64(len(leaves)) {
		return tlog.Hash{}, fmt.Errorf("%w: records from %d on are not there", ErrNoLog, first)
	}
	var t seal.Tree
	for _, h := range leaves[from : from+int64(1)<<level] {
		t.Add(h)
	}
	return t.Root(), nil
}
