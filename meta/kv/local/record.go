package local

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// A record on disk (docs/FORMAT.md 8.3):
//
//	ops length u32 | blob length u32 | sequence u64 | blob CRC-32C u32 | flags u32 | ops | tag[16] | blob
//
// In memory the tag of the record before it stands in front, so that what the tag covers is one piece:
//
//	room | previous tag[16] | header[24] | ops | tag[16] | blob
//
// Once the tag is made, what the page holds before the record takes the place of room and previous tag: see pages.
const (
	recordHeaderSize = 24
	recordOverhead   = recordHeaderSize + TagSize
	recordPrefix     = pageSize // what the buffer holds before the record proper
	pageSize         = 4096
)

// Kinds of ops.
const (
	opPut    = 1 // kind u8 | key length u16 | value length u32 | key | value
	opDelete = 2 // kind u8 | key length u16 | key
	opBlob   = 3 // kind u8 | key length u16 | offset in the blob u32 | length u32 | key

	opPutSize    = 1 + 2 + 4
	opDeleteSize = 1 + 2
	opBlobSize   = 1 + 2 + 4 + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// nonce is the GMAC nonce of a sequence number: 0x00000000 || sequence. Zero is the segment header's.
type nonce [12]byte

func sequenceNonce(sequence uint64) (n nonce) {
	binary.BigEndian.PutUint64(n[4:], sequence)
	return n
}

// recordHeader is the fixed part of a record.
type recordHeader struct {
	opsLen   int
	blobLen  int
	sequence uint64
	blobCRC  uint32
	flags    uint32
}

func (h recordHeader) size() int { return recordOverhead + h.opsLen + h.blobLen }

func (h recordHeader) put(b []byte) {
	binary.BigEndian.PutUint32(b[0:], uint32(h.opsLen))
	binary.BigEndian.PutUint32(b[4:], uint32(h.blobLen))
	binary.BigEndian.PutUint64(b[8:], h.sequence)
	binary.BigEndian.PutUint32(b[16:], h.blobCRC)
	binary.BigEndian.PutUint32(b[20:], h.flags)
}

// parseRecordHeader reads a header from the front of b and reports whether a record of that size fits
// into b. Nothing is authenticated yet.
func parseRecordHeader(b []byte) (h recordHeader, ok bool) {
	if len(b) < recordOverhead {
		return h, false
	}
	opsLen, blobLen := binary.BigEndian.Uint32(b[0:]), binary.BigEndian.Uint32(b[4:])
	if opsLen == 0 || uint64(recordOverhead)+uint64(opsLen)+uint64(blobLen) > uint64(len(b)) {
		return h, false
	}
	return recordHeader{
		opsLen:   int(opsLen),
		blobLen:  int(blobLen),
		sequence: binary.BigEndian.Uint64(b[8:]),
		blobCRC:  binary.BigEndian.Uint32(b[16:]),
		flags:    binary.BigEndian.Uint32(b[20:]),
	}, true
}

// encoder builds one record in a buffer that is used again.
type encoder struct {
	buf    []byte // room, previous tag, header, ops, tag, blob
	opsLen int
	blob   int // where the blob begins in buf
}

// encode lays out the changes of a transaction. Sequence and tags are filled in by seal. Journal-only
// values go to the blob, and their offsets in it are written to writes.
func (e *encoder) encode(writes []write) {
	e.buf = slices.Grow(e.buf[:0], recordPrefix+recordHeaderSize)[:recordPrefix+recordHeaderSize]
	blobLen := 0
	for i := range writes {
		w := &writes[i]
		switch {
		case w.deleted:
			e.buf = append(e.buf, opDelete)
			e.buf = binary.BigEndian.AppendUint16(e.buf, uint16(len(w.key)))
		case w.journalOnly:
			w.blobOff = blobLen
			e.buf = append(e.buf, opBlob)
			e.buf = binary.BigEndian.AppendUint16(e.buf, uint16(len(w.key)))
			e.buf = binary.BigEndian.AppendUint32(e.buf, uint32(blobLen))
			e.buf = binary.BigEndian.AppendUint32(e.buf, uint32(len(w.value)))
			blobLen += len(w.value)
		default:
			e.buf = append(e.buf, opPut)
			e.buf = binary.BigEndian.AppendUint16(e.buf, uint16(len(w.key)))
			e.buf = binary.BigEndian.AppendUint32(e.buf, uint32(len(w.value)))
		}
		e.buf = append(e.buf, w.key...)
		if !w.deleted && !w.journalOnly {
			e.buf = append(e.buf, w.value...)
		}
	}
	e.opsLen = len(e.buf) - recordPrefix - recordHeaderSize
	e.appendBlob(writes, blobLen)
}

func (e *encoder) appendBlob(writes []write, blobLen int) {
	e.buf = append(e.buf, make([]byte, TagSize)...)
	e.blob = len(e.buf)
	if blobLen > 0 {
		for i := range writes {
			if writes[i].journalOnly && !writes[i].deleted {
				e.buf = append(e.buf, writes[i].value...)
			}
		}
	}
	h := recordHeader{opsLen: e.opsLen, blobLen: blobLen, blobCRC: crc32.Checksum(e.buf[e.blob:], castagnoli)}
	h.put(e.buf[recordPrefix:])
}

// size returns the record's length on disk.
func (e *encoder) size() int { return len(e.buf) - recordPrefix }

// blobOff returns where in the record the blob begins.
func (e *encoder) blobOff() int { return e.blob - recordPrefix }

// seal gives the record its place in the chain and returns its bytes and its tag.
func (e *encoder) seal(aead cipher.AEAD, sequence uint64, previous [TagSize]byte) (record []byte, tag [TagSize]byte) {
	binary.BigEndian.PutUint64(e.buf[recordPrefix+8:], sequence)
	covered := e.buf[recordPrefix-TagSize : recordPrefix+recordHeaderSize+e.opsLen]
	copy(covered, previous[:])
	n := sequenceNonce(sequence)
	// Sealing nothing appends the tag alone: it lands in the place kept for it.
	sealed := aead.Seal(covered[len(covered):], n[:], nil, covered)
	copy(tag[:], sealed)
	return e.buf[recordPrefix:], tag
}

// pages returns the sealed record as it is written: whole pages, with head, the bytes before it in its first page, and zeros behind it, but not more than room. The system
// would have to read a page of which it gets a part, if it does not have it: 4 KiB from the disk for each record, after a mount.
func (e *encoder) pages(head []byte, room int64) []byte {
	start := recordPrefix - len(head)
	copy(e.buf[start:], head)
	if behind := -(len(e.buf) - start) & (pageSize - 1); int64(e.size()+behind) <= room {
		e.buf = append(e.buf, make([]byte, behind)...)
	}
	return e.buf[start:]
}

// frame is one record found in a segment: authentic, its blob intact. The slices alias the segment's
// buffer.
type frame struct {
	recordHeader
	ops, blob []byte
	tag       [TagSize]byte
	blobOff   int // from the record's first byte
}

// openRecord reads the record at the front of b. ok is false if there is none that follows sequence
// previous with tag previousTag: the end of the log. scratch is a buffer for reuse.
func openRecord(aead cipher.AEAD, b []byte, previous uint64, previousTag [TagSize]byte, scratch *[]byte) (f frame, ok bool) {
	h, ok := parseRecordHeader(b)
	if !ok || h.sequence != previous+1 || h.sequence == 0 {
		return f, false
	}
	opsEnd := recordHeaderSize + h.opsLen
	tagEnd := opsEnd + TagSize
	f = frame{recordHeader: h, ops: b[recordHeaderSize:opsEnd], blob: b[tagEnd:h.size()], blobOff: tagEnd}
	copy(f.tag[:], b[opsEnd:tagEnd])
	*scratch = append(append((*scratch)[:0], previousTag[:]...), b[:opsEnd]...)
	n := sequenceNonce(h.sequence)
	var want [TagSize]byte
	aead.Seal(want[:0], n[:], nil, *scratch)
	if subtle.ConstantTimeCompare(want[:], f.tag[:]) != 1 {
		return f, false
	}
	return f, crc32.Checksum(f.blob, castagnoli) == h.blobCRC
}

// op is one change as a record tells it. key and value alias the record.
type op struct {
	kind       byte
	key, value []byte // value of a blob op: the piece of the blob
	blobOff    int    // of a blob op, in the blob
}

// parseOps calls fn for every op of a record. ops are authentic, so a bad shape means a bug or another
// version: kv.ErrCorrupt.
func parseOps(ops, blob []byte, fn func(op) error) error {
	for len(ops) > 0 {
		o, rest, ok := parseOp(ops, blob)
		if !ok || !validKey(o.key) {
			return fmt.Errorf("parse op of kind %d: %w", ops[0], kv.ErrCorrupt)
		}
		if err := fn(o); err != nil {
			return err
		}
		ops = rest
	}
	return nil
}

// opSize returns the length of an op's fixed part, 0 for an unknown kind.
func opSize(kind byte) int {
	switch kind {
	case opPut:
		return opPutSize
	case opDelete:
		return opDeleteSize
	case opBlob:
		return opBlobSize
	}
	return 0
}

func parseOp(b, blob []byte) (o op, rest []byte, ok bool) {
	o.kind = b[0]
	size := opSize(o.kind)
	if size == 0 || len(b) < size {
		return o, nil, false
	}
	keyLen := int(binary.BigEndian.Uint16(b[1:]))
	head, b := b[:size], b[size:]
	if len(b) < keyLen {
		return o, nil, false
	}
	o.key, b = b[:keyLen:keyLen], b[keyLen:]
	switch o.kind {
	case opPut:
		n := uint64(binary.BigEndian.Uint32(head[3:]))
		if n == 0 || n > uint64(len(b)) {
			return o, nil, false
		}
		o.value, b = b[:n:n], b[n:]
	case opBlob:
		off, n := uint64(binary.BigEndian.Uint32(head[3:])), uint64(binary.BigEndian.Uint32(head[7:]))
		if n == 0 || off+n > uint64(len(blob)) {
			return o, nil, false
		}
		o.blobOff, o.value = int(off), blob[off:off+n:off+n]
	}
	return o, b, true
}
