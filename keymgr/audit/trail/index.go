package trail

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/kmsfs/kmsfs/keymgr/audit"
)

// blockLevel: a block of a compressed segment holds the records of one complete subtree of 2^blockLevel, or what of it lies in the segment.
const (
	blockLevel = 8
	blockSize  = 1 << blockLevel
)

// block describes a block of a compressed segment.
type block struct {
	offset   uint64 // of its zstd frame in the file
	length   uint32 // of the frame
	plain    uint32 // bytes that come out
	first    uint64 // record
	count    uint32
	min, max int64     // eventTime, microseconds since 1970
	hash     tlog.Hash // of the subtree, if the block is whole
	bloom    []byte    // what may be searched for
}

func (b *block) whole() bool { return b.count == blockSize && b.first%blockSize == 0 }

const (
	indexMagic  = "kmsfsidx"
	indexHead   = len(indexMagic) + 1 + 8 + 8 + 4
	blockFixed  = 8 + 4 + 4 + 8 + 4 + 8 + 8 + tlog.HashSize + 2
	maxBlocks   = 1 << 22
	bitsPerItem = 10
	probes      = 6
	maxBloom    = 1 << 15
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encodeIndex writes the index of a segment.
func encodeIndex(first, records int64, blocks []block) []byte {
	be := binary.BigEndian
	b := append([]byte(indexMagic), formatVersion)
	b = be.AppendUint64(b, uint64(first))
	b = be.AppendUint64(b, uint64(records))
	b = be.AppendUint32(b, uint32(len(blocks)))
	for i := range blocks {
		k := &blocks[i]
		b = be.AppendUint64(b, k.offset)
		b = be.AppendUint32(b, k.length)
		b = be.AppendUint32(b, k.plain)
		b = be.AppendUint64(b, k.first)
		b = be.AppendUint32(b, k.count)
		b = be.AppendUint64(b, uint64(k.min))
		b = be.AppendUint64(b, uint64(k.max))
		b = append(b, k.hash[:]...)
		b = be.AppendUint16(b, uint16(len(k.bloom)))
		b = append(b, k.bloom...)
	}
	return be.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeIndex reads an index; its blocks hold parts of data. ErrDamaged for anything else.
func decodeIndex(data []byte) (first, records int64, blocks []block, err error) {
	damaged := func(what string) (int64, int64, []block, error) {
		return 0, 0, nil, fmt.Errorf("%w: index: %s", ErrDamaged, what)
	}
	be := binary.BigEndian
	if len(data) < indexHead+4 || string(data[:len(indexMagic)]) != indexMagic || data[len(indexMagic)] != formatVersion {
		return damaged("not one of this version")
	}
	body := data[:len(data)-4]
	if be.Uint32(data[len(body):]) != crc32.Checksum(body, castagnoli) {
		return damaged("checksum")
	}
	p := body[len(indexMagic)+1:]
	first, records = int64(be.Uint64(p)), int64(be.Uint64(p[8:]))
	n := int(be.Uint32(p[16:]))
	if p = p[20:]; n > maxBlocks || n > len(p)/blockFixed || first < 0 || records < 0 {
		return damaged("size")
	}
	blocks = make([]block, 0, n)
	for range n {
		if len(p) < blockFixed {
			return damaged("cut")
		}
		k := block{offset: be.Uint64(p), length: be.Uint32(p[8:]), plain: be.Uint32(p[12:]), first: be.Uint64(p[16:]), count: be.Uint32(p[24:]), min: int64(be.Uint64(p[28:])),
			max: int64(be.Uint64(p[36:])), hash: tlog.Hash(p[44:76])}
		size := int(be.Uint16(p[76:]))
		if p = p[blockFixed:]; size > len(p) || k.plain > maxWindow || k.length > maxWindow {
			return damaged("block")
		}
		k.bloom, p = p[:size:size], p[size:]
		blocks = append(blocks, k)
	}
	if len(p) != 0 {
		return damaged("something behind")
	}
	return first, records, blocks, nil
}

// Kinds of what is searched for.
const (
	itemPrincipal = 'p'
	itemKey       = 'k'
	itemDecision  = 'd'
	itemName      = 'n'
	itemPath      = 'f' // a path, or any directory on it
	itemStatement = 't' // that decided
	itemSealed    = 's' // of an event that is sealed: the others of it are not known
)

// hasher is FNV-1a, mixed at the end.
type hasher uint64

func newHasher(kind byte) hasher { return (14695981039346656037 ^ hasher(kind)) * 1099511628211 }

func (h hasher) add(c byte) hasher { return (h ^ hasher(c)) * 1099511628211 }

func (h hasher) sum() uint64 {
	x := uint64(h)
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// hashItem is the item of a value as it stands between the quotes of a line.
func hashItem(kind byte, escaped []byte) uint64 {
	h := newHasher(kind)
	for _, c := range escaped {
		h = h.add(c)
	}
	return h.sum()
}

// items collects the items of one block.
type items map[uint64]struct{}

const (
	nameMark    = `"eventName":"`
	contextMark = `"encryptionContext":{`
)

// addLine adds what a record may be found by.
func (s items) addLine(line []byte) {
	if v := member(line, nameMark); v != nil {
		s[hashItem(itemName, v)] = struct{}{}
	}
	i := bytes.Index(line, []byte(`"additionalEventData":{`)) // objects whose members others name hold strings only
	if i < 0 {
		return
	}
	head, tail := line[i:], []byte(nil)
	if i := bytes.Index(head, []byte(contextMark)); i >= 0 { // whose members others name
		head, tail = head[:i], behindStrings(head[i+len(contextMark):])
	}
	for _, m := range [...]struct {
		kind byte
		name string
	}{{itemDecision, `"decision":"`}, {itemStatement, `"statement":"`}, {itemPrincipal, `"principal":"`}, {itemPath, `"path":"`}, {itemPath, `"newPath":"`}, {itemKey, `"key":"`},
		{itemKey, `"destinationKey":"`}, {itemSealed, `"sealed":"`}} { // in the order in which they are written
		var v []byte
		if v, head = memberThen(head, m.name); v == nil {
			v = member(tail, m.name)
		}
		switch {
		case v == nil:
		case m.kind == itemPath:
			s.addPath(v)
		case m.kind == itemSealed:
			s[hashItem(itemSealed, nil)] = struct{}{}
		default:
			s[hashItem(m.kind, v)] = struct{}{}
		}
	}
}

// addPath adds a path and the directories on it.
func (s items) addPath(path []byte) {
	h := newHasher(itemPath)
	for i, c := range path {
		if c == '/' && i > 0 {
			s[h.sum()] = struct{}{}
		}
		h = h.add(c)
		if c == '/' && i == 0 {
			s[h.sum()] = struct{}{}
		}
	}
	if len(path) > 1 {
		s[h.sum()] = struct{}{}
	}
}

// behindStrings is what stands behind an object that has begun and holds strings only.
func behindStrings(p []byte) []byte {
	for i := 0; i < len(p); i++ {
		switch p[i] {
		case '}':
			return p[i+1:]
		case '"':
			end := stringEnd(p[i+1:])
			if end < 0 {
				return nil
			}
			i += 1 + end
		}
	}
	return nil
}

// member gives the escaped value of a member that is a string; nil if there is none. What is called alike in an encryption context may be found instead of a member that is missing.
func member(line []byte, name string) []byte {
	v, _ := memberThen(line, name)
	return v
}

// memberThen is member, and what stands behind the value; the line, if there is none.
func memberThen(line []byte, name string) (value, rest []byte) {
	i := bytes.Index(line, []byte(name))
	if i < 0 {
		return nil, line
	}
	v := line[i+len(name):]
	end := stringEnd(v)
	if end < 0 {
		return nil, line
	}
	return v[:end], v[end+1:]
}

// stringEnd is where the quote is that ends a string; -1 if there is none.
func stringEnd(p []byte) int {
	for from := 0; ; {
		i := bytes.IndexByte(p[from:], '"')
		if i < 0 {
			return -1
		}
		i += from
		slashes := 0
		for slashes < i && p[i-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return i
		}
		from = i + 1
	}
}

// bloom makes the filter of the items.
func (s items) bloom() []byte {
	size := min(max((len(s)*bitsPerItem+7)/8, 8), maxBloom)
	b := make([]byte, size)
	for x := range s {
		for i := range probes {
			n := probe(x, i, size)
			b[n/8] |= 1 << (n % 8)
		}
	}
	return b
}

func probe(x uint64, i, size int) int {
	y := bits.RotateLeft64(x, 32)
	return int((x + uint64(i)*(y|1)) % uint64(size*8))
}

// mayHold says whether the filter has an item.
func mayHold(bloom []byte, x uint64) bool {
	for i := range probes {
		n := probe(x, i, len(bloom))
		if bloom[n/8]&(1<<(n%8)) == 0 {
			return false
		}
	}
	return len(bloom) > 0
}

// timeOf reads a record's time; false if it has none.
func timeOf(line []byte) (int64, bool) {
	v := member(line, `"eventTime":"`)
	if at, ok := plainTime(v); ok {
		return at, true
	}
	t, err := time.Parse(audit.TimeFormat, string(v))
	return t.UnixMicro(), err == nil
}

// plainTime reads a time in audit.TimeFormat whose numbers are in their bounds, but for the last days of months, which time.Parse knows about; false for anything else.
func plainTime(v []byte) (int64, bool) {
	if len(v) != len(audit.TimeFormat) {
		return 0, false
	}
	number := func(from, to int) (n int) {
		for _, c := range v[from:to] {
			if c < '0' || c > '9' {
				return -1
			}
			n = 10*n + int(c-'0')
		}
		return n
	}
	for i, c := range []byte("    -  -  T  :  :  .      Z") {
		if c != ' ' && v[i] != c {
			return 0, false
		}
	}
	year, month, day := number(0, 4), number(5, 7), number(8, 10)
	hour, minute, second, micros := number(11, 13), number(14, 16), number(17, 19), number(20, 26)
	if year < 1 || month < 1 || month > 12 || day < 1 || day > 28 || hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59 || micros < 0 {
		return 0, false
	}
	return time.Date(year, time.Month(month), day, hour, minute, second, micros*1000, time.UTC).UnixMicro(), true
}

// escape gives a value as it stands between quotes in a line.
func escape(s string) []byte {
	q := audit.AppendString(nil, s)
	return q[1 : len(q)-1]
}
