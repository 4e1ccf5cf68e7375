package meta

import (
	"encoding/binary"

	"github.com/kmsfs/kmsfs/blockcrypt"
)

const (
	// ImageHeader is what package fs/content puts before the ciphertext in an image row, so that it can be settled without another row:
	// object serial u64 || log2(block size) u8.
	ImageHeader = 9

	// MaxImage is the longest image row, in bytes: the header and a full block of the largest size.
	MaxImage = ImageHeader + blockcrypt.MaxBlockSize

	minInline    = blockcrypt.NonceSize + blockcrypt.TagSize
	maxInline    = 120 << 10
	maxZoneKeyID = 2048
	maxZoneBlob  = 8192
)

func encodeInline(in *Inline) []byte {
	b := append(make([]byte, 0, 10+len(in.Sealed)), rowVersion, byte(in.Codec))
	b = binary.BigEndian.AppendUint32(b, in.Epoch)
	if in.Codec != CodecNone {
		b = binary.BigEndian.AppendUint32(b, in.Plain)
	}
	return append(b, in.Sealed...)
}

// decodeInline keeps Sealed in b.
func decodeInline(b []byte) (*Inline, error) {
	d := newDecoder(b, "inline")
	in := &Inline{Codec: Codec(d.u8()), Epoch: d.u32()}
	if in.Codec != CodecNone {
		in.Plain = d.u32()
	}
	in.Sealed = d.take(len(d.b))
	if d.err == nil {
		if err := in.check(); err != nil {
			d.fail("%v", err)
		}
	}
	return in, d.done()
}

func encodeGarbage(g *Garbage) []byte {
	return binary.BigEndian.AppendUint64([]byte{rowVersion}, g.Count)
}

// decodeGarbage completes a Garbage that has the fields of the key.
func decodeGarbage(b []byte, g *Garbage) error {
	d := newDecoder(b, "garbage")
	g.Count = d.u64()
	if d.err == nil && g.check() != nil {
		d.fail("%+v", *g)
	}
	return d.done()
}

// dentry is the value of a dentry row.
type dentry struct {
	ino  Ino
	typ  uint32 // file type bits of the mode
	name []byte
}

func encodeDentry(e *dentry) []byte {
	b := append(make([]byte, 0, 10+len(e.name)), rowVersion, byte(e.typ>>12))
	b = binary.BigEndian.AppendUint64(b, uint64(e.ino))
	return append(b, e.name...)
}

// decodeDentry keeps name in b.
func decodeDentry(b []byte) (dentry, error) {
	d := newDecoder(b, "dentry")
	e := dentry{typ: uint32(d.u8()) << 12, ino: Ino(d.u64())}
	e.name = d.take(len(d.b))
	if d.err == nil && (e.ino == 0 || !knownType(e.typ) || checkName(e.name) != nil) {
		d.fail("inode %d, type %#o, name of %d bytes", e.ino, e.typ, len(e.name))
	}
	return e, d.done()
}

func encodeTarget(target []byte) []byte { return append([]byte{rowVersion}, target...) }

// decodeTarget returns the target, which lies in b.
func decodeTarget(b []byte) ([]byte, error) {
	d := newDecoder(b, "symlink")
	t := d.take(len(d.b))
	if d.err == nil && !validTarget(t) {
		d.fail("target of %d bytes", len(t))
	}
	return t, d.done()
}

func encodeXattr(name string, value []byte) []byte {
	b := append(make([]byte, 0, 3+len(name)+len(value)), rowVersion, byte(len(name)))
	b = append(b, name...)
	return append(b, value...)
}

// decodeXattr returns the name and the value, which lies in b.
func decodeXattr(b []byte) (name string, value []byte, err error) {
	d := newDecoder(b, "xattr")
	name = string(d.take(int(d.u8())))
	value = d.take(len(d.b))
	if d.err == nil && (checkXattrName(name) != nil || len(value) > MaxXattrValue) {
		d.fail("name of %d bytes, value of %d", len(name), len(value))
	}
	return name, value, d.done()
}

// encodeMark is the value of rows whose key says all: links and orphans.
func encodeMark() []byte { return []byte{rowVersion} }

func decodeMark(b []byte, what string) error { return newDecoder(b, what).done() }

func encodeCounter(n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{rowVersion}, n)
}

func decodeCounter(b []byte) (uint64, error) {
	d := newDecoder(b, "counter")
	n := d.u64()
	return n, d.done()
}
