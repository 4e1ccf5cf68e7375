package worker

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/kmsfs/kmsfs/hsm"
)

// Kinds of binary heads, their first byte; none is '{'. Big-endian.
const (
	binaryEncrypt = 1 // id u64, milliseconds u32, key x[16], AAD u32 + x
	binaryDecrypt = 2 // the same, then a sealed
	binarySealed  = 3 // id u64, sealed: mechanism u8, IV u8 + x, ciphertext u32 + x
	binaryDone    = 4 // id u64: success, with nothing but the secret
)

// mechanisms by their number in a head.
var mechanisms = [...]string{1: hsm.AESGCM, 2: hsm.XAES256GCM}

func (r *request) binarySize() int {
	n := 1 + 8 + 4 + len(r.Key) + 4 + len(r.AAD)
	switch {
	case r.Timeout < 0 || r.Timeout > 1<<31:
	case r.Op == opEncrypt && r.Sealed == nil:
		return n
	case r.Op == opDecrypt && r.Sealed != nil && fits(r.Sealed):
		return n + sealedSize(r.Sealed)
	}
	return 0
}

func (r *request) appendBinary(b []byte) []byte {
	kind := byte(binaryEncrypt)
	if r.Sealed != nil {
		kind = binaryDecrypt
	}
	b = binary.BigEndian.AppendUint64(append(b, kind), r.ID)
	b = binary.BigEndian.AppendUint32(b, uint32(r.Timeout))
	b = append(b, r.Key[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.AAD)))
	b = append(b, r.AAD...)
	if r.Sealed != nil {
		b = appendSealed(b, r.Sealed)
	}
	return b
}

func (r *request) parseBinary(data []byte) error {
	p := parser{data}
	kind := p.byte()
	*r = request{ID: p.uint64(), Op: opEncrypt, Timeout: int64(p.uint32())}
	copy(r.Key[:], p.bytes(len(r.Key)))
	r.AAD = p.counted(hsm.MaxAAD)
	if kind == binaryDecrypt {
		r.Op, r.Sealed = opDecrypt, p.sealed()
	}
	return p.end(kind == binaryEncrypt || kind == binaryDecrypt)
}

func (r *reply) binarySize() int {
	switch {
	case r.Code != "" || r.Error != "" || r.Key != nil || r.Info != nil || r.Note != nil || r.Signing != nil || r.Signature != nil:
		return 0
	case r.Sealed == nil:
		return 1 + 8
	case fits(r.Sealed):
		return 1 + 8 + sealedSize(r.Sealed)
	}
	return 0
}

func (r *reply) appendBinary(b []byte) []byte {
	if r.Sealed == nil {
		return binary.BigEndian.AppendUint64(append(b, binaryDone), r.ID)
	}
	return appendSealed(binary.BigEndian.AppendUint64(append(b, binarySealed), r.ID), r.Sealed)
}

func (r *reply) parseBinary(data []byte) error {
	p := parser{data}
	kind := p.byte()
	*r = reply{ID: p.uint64()}
	if kind == binarySealed {
		r.Sealed = p.sealed()
	}
	return p.end(kind == binarySealed || kind == binaryDone)
}

// fits says whether there is a binary form.
func fits(s *hsm.Sealed) bool {
	return slices.Index(mechanisms[:], s.Mechanism) > 0 && len(s.IV) <= hsm.MaxIV
}

func sealedSize(s *hsm.Sealed) int { return 1 + 1 + len(s.IV) + 4 + len(s.Ciphertext) }

func appendSealed(b []byte, s *hsm.Sealed) []byte {
	b = append(b, byte(slices.Index(mechanisms[:], s.Mechanism)), byte(len(s.IV)))
	b = binary.BigEndian.AppendUint32(append(b, s.IV...), uint32(len(s.Ciphertext)))
	return append(b, s.Ciphertext...)
}

// parser takes a binary head apart. What is not there reads as zero, and end says so.
type parser struct{ rest []byte }

// bytes gives the next n bytes, which belong to the head; nil if there are fewer, and then there are none any more.
func (p *parser) bytes(n int) []byte {
	if p.rest == nil || n > len(p.rest) {
		p.rest = nil
		return nil
	}
	b := p.rest[:n:n]
	p.rest = p.rest[n:]
	return b
}

func (p *parser) byte() byte {
	if b := p.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (p *parser) uint32() uint32 {
	if b := p.bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (p *parser) uint64() uint64 {
	if b := p.bytes(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// counted gives a copy of bytes whose number stands before them; nil for none.
func (p *parser) counted(limit int) []byte {
	n := p.uint32()
	if n > uint32(limit) {
		p.rest = nil
		return nil
	}
	if n == 0 {
		return nil
	}
	return bytes.Clone(p.bytes(int(n)))
}

func (p *parser) sealed() *hsm.Sealed {
	s := &hsm.Sealed{}
	if n := p.byte(); int(n) < len(mechanisms) {
		s.Mechanism = mechanisms[n]
	}
	if s.Mechanism == "" {
		p.rest = nil
	}
	n := p.byte()
	if n > hsm.MaxIV {
		p.rest = nil
	}
	s.IV = bytes.Clone(p.bytes(int(n)))
	s.Ciphertext = p.counted(hsm.MaxCiphertext)
	return s
}

// end is nil if everything was there, and nothing else, of a kind that is known.
func (p *parser) end(known bool) error {
	if !known || p.rest == nil || len(p.rest) > 0 {
		return fmt.Errorf("%w: binary head", errFrame)
	}
	return nil
}
