package local

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// The rows of the freshness table are sealed with their key as associated data (docs/FORMAT.md 9.6):
//
//	chunk: version u8 | number of ranges u16 | ranges: length of start u16, start, rows u32, sum[16] each
//	root:  version u8 | next chunk id u32 | number of chunks u32 | chunks: length of start u16, start, id u32, tag[16] each
//
// A tag is the last 16 bytes of the sealed row it stands for. Starts ascend; the first of all is empty.
const freshVersion = 1

// tagOf returns the authentication tag of a sealed row.
func tagOf(sealed []byte) [sumSize]byte { return [sumSize]byte(sealed[len(sealed)-sumSize:]) }

// sealChunk returns a chunk's row, and its ranges as they are when they are read from it.
func (k *freshKeys) sealChunk(id uint32, spans []keyRange) (sealed []byte, as *ranges, err error) {
	size := chunkHeader
	for _, s := range spans {
		size += rangeLen + len(s.start)
	}
	b := append(make([]byte, 0, size), freshVersion)
	b = binary.BigEndian.AppendUint16(b, uint16(len(spans)))
	for _, s := range spans {
		b = appendKey(b, s.start)
		b = binary.BigEndian.AppendUint32(b, s.rows)
		b = append(b, s.sum[:]...)
	}
	as, ok := parseRanges(b, len(spans))
	if !ok {
		return nil, nil, fmt.Errorf("freshness table, chunk %d of %d ranges cannot be read back: %w", id, len(spans), kv.ErrCorrupt)
	}
	for i, s := range spans {
		as.note(i, s.verified)
	}
	sealed, err = k.sealer.Seal(nil, b, chunkKey(id))
	return sealed, as, err
}

// openChunk checks a chunk's row against what the root says of it. Errors: kv.ErrTampered, kv.ErrCorrupt.
func (k *freshKeys) openChunk(sealed []byte, c *chunk) (*ranges, error) {
	if len(sealed) < sumSize || tagOf(sealed) != c.tag {
		return nil, fmt.Errorf("freshness table, chunk %d is not the last checkpoint's: %w", c.id, kv.ErrTampered)
	}
	b, err := k.sealer.Open(nil, sealed, chunkKey(c.id))
	if err != nil {
		return nil, fmt.Errorf("freshness table, chunk %d: %w: %w", c.id, kv.ErrTampered, err)
	}
	r := freshReader{b: b}
	if r.u8() != freshVersion {
		return nil, fmt.Errorf("freshness table, chunk %d of an unknown version: %w", c.id, kv.ErrCorrupt)
	}
	n := int(r.u16())
	if n == 0 || n > maxStored {
		return nil, fmt.Errorf("freshness table, chunk %d with %d ranges: %w", c.id, n, kv.ErrCorrupt)
	}
	spans, ok := parseRanges(b, n)
	if !ok {
		return nil, fmt.Errorf("freshness table, chunk %d is malformed: %w", c.id, kv.ErrCorrupt)
	}
	return spans, nil
}

// chunkHeader is the length of what is before the ranges of a chunk.
const chunkHeader = 1 + 2

// maxStored is how many ranges a chunk may have for a reader.
const maxStored = 512

// parseRanges finds the n ranges of a chunk; ok is false if that is not what b holds. They keep b.
func parseRanges(b []byte, n int) (spans *ranges, ok bool) {
	spans = &ranges{b: b, where: make([]uint32, n), times: make([]atomic.Int64, n)}
	at := chunkHeader
	for i := range n {
		if len(b)-at < rangeLen {
			return nil, false
		}
		spans.where[i] = uint32(at)
		key := int(binary.BigEndian.Uint16(b[at:]))
		if key > maxKey || len(b)-at < rangeLen+key {
			return nil, false
		}
		at += rangeLen + key
	}
	return spans, at == len(b)
}

// sealRoot returns the root's row.
func (t *freshTable) sealRoot() ([]byte, error) {
	b := []byte{freshVersion}
	b = binary.BigEndian.AppendUint32(b, t.nextID)
	b = binary.BigEndian.AppendUint32(b, uint32(len(t.chunks)))
	for _, c := range t.chunks {
		b = appendKey(b, c.start)
		b = binary.BigEndian.AppendUint32(b, c.id)
		b = append(b, c.tag[:]...)
	}
	return t.keys.sealer.Seal(nil, b, rootKey)
}

// openTable reads the root, which must have the tag that the checkpoint row says. Errors: kv.ErrTampered, kv.ErrCorrupt.
func openTable(keys *freshKeys, b *base, tag [sumSize]byte) (*freshTable, error) {
	sealed, err := b.raw(rootKey)
	if err != nil {
		return nil, err
	}
	if len(sealed) < sumSize || tagOf(sealed) != tag {
		return nil, fmt.Errorf("freshness table is not the last checkpoint's: %w", kv.ErrTampered)
	}
	plain, err := keys.sealer.Open(nil, sealed, rootKey)
	if err != nil {
		return nil, fmt.Errorf("freshness table: %w: %w", kv.ErrTampered, err)
	}
	r := freshReader{b: plain}
	if r.u8() != freshVersion {
		return nil, fmt.Errorf("freshness table of an unknown version: %w", kv.ErrCorrupt)
	}
	t := &freshTable{keys: keys, tag: tag, nextID: r.u32()}
	n := int(r.u32())
	if n == 0 || n > len(plain)/(2+4+sumSize) {
		return nil, fmt.Errorf("freshness table of %d chunks: %w", n, kv.ErrCorrupt)
	}
	for range n {
		c := &chunk{start: r.key(), id: r.u32()}
		copy(c.tag[:], r.take(sumSize))
		t.chunks = append(t.chunks, c)
	}
	if !r.done() || len(t.chunks[0].start) != 0 {
		return nil, fmt.Errorf("freshness table is malformed: %w", kv.ErrCorrupt)
	}
	return t, nil
}

func appendKey(b, key []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(key)))
	return append(b, key...)
}

// freshReader takes fields off a buffer; what is missing makes done false.
type freshReader struct {
	b     []byte
	short bool
}

func (r *freshReader) take(n int) []byte {
	if len(r.b) < n {
		r.short, r.b = true, nil
		return make([]byte, n)
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *freshReader) u8() byte    { return r.take(1)[0] }
func (r *freshReader) u16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }
func (r *freshReader) u32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }

// key returns a length-prefixed key that is not longer than any can be.
func (r *freshReader) key() []byte {
	n := int(r.u16())
	if n > maxKey {
		r.short, r.b = true, nil
		return nil
	}
	return r.take(n)
}

func (r *freshReader) done() bool { return !r.short && len(r.b) == 0 }
