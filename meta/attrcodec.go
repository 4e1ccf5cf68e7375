package meta

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/kmsfs/kmsfs/blockcrypt"
)

const (
	attrFixed  = 1 + 2 + 4*4 + 2*8 + 4*12 + 4 + 8 + 8 + 16 + 1 + 7 + 8 + 4 + 4 + 8 + 1
	wrapSize   = 4 + 8 + 8 + 4 + blockcrypt.WrapSize + blockcrypt.CommitmentSize
	formerSize = 8 + 8 + 1
	// minWrapSize is that of a wrap with a blob of one byte.
	minWrapSize = wrapSize - blockcrypt.WrapSize + 2 + 1 + 8 + 16
)

// encodeAttr encodes a valid Attr. The inode number is in the key alone.
func encodeAttr(a *Attr) []byte {
	b := make([]byte, 0, attrFixed+len(a.Wraps)*wrapSize+formerSize)
	b = append(b, rowVersion)
	b = binary.BigEndian.AppendUint16(b, uint16(a.Flags))
	for _, v := range [...]uint32{a.Mode, a.UID, a.GID, a.Nlink} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	for _, v := range [...]uint64{a.Size, a.Allocated} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	for _, t := range [...]Time{a.Atime, a.Mtime, a.Ctime, a.Btime} {
		b = appendTime(b, t)
	}
	b = binary.BigEndian.AppendUint32(b, a.Rdev)
	b = binary.BigEndian.AppendUint64(b, uint64(a.Zone))
	b = binary.BigEndian.AppendUint64(b, uint64(a.Parent))
	b = append(b, a.Tag[:]...)
	b = appendParams(append(b, layoutByte(a)), a.Params)
	b = binary.BigEndian.AppendUint64(b, a.Serial)
	b = binary.BigEndian.AppendUint32(b, a.Epoch)
	b = binary.BigEndian.AppendUint32(b, a.XattrList)
	b = binary.BigEndian.AppendUint64(b, a.Version)
	b = append(b, byte(len(a.Wraps)))
	for i := range a.Wraps {
		w := &a.Wraps[i]
		b = binary.BigEndian.AppendUint32(b, w.Epoch)
		b = binary.BigEndian.AppendUint64(b, uint64(w.Made))
		b = binary.BigEndian.AppendUint64(b, w.Uses)
		b = binary.BigEndian.AppendUint32(b, w.KeyVersion)
		b = appendWrapped(b, w)
		b = append(b, w.Commitment[:]...)
	}
	if a.Former.End != 0 {
		b = binary.BigEndian.AppendUint64(b, a.Former.End)
		b = binary.BigEndian.AppendUint64(b, a.Former.Serial)
		b = append(b, byte(log2(a.Former.BlockSize)))
	}
	return b
}

// appendWrapped writes what opens to the key: KeyVersion says of which kind it is.
func appendWrapped(b []byte, w *Wrap) []byte {
	if !w.ByCMK() {
		return append(b, w.Wrapped[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(w.Blob)))
	b = append(b, w.Blob...)
	b = binary.BigEndian.AppendUint64(b, uint64(w.Parent))
	return append(b, w.Tag[:]...)
}

// wrapped reads what appendWrapped wrote.
func (d *decoder) wrapped(w *Wrap) {
	if w.KeyVersion != 0 {
		copy(w.Wrapped[:], d.take(len(w.Wrapped)))
		return
	}
	w.Blob = string(d.take(int(d.u16())))
	w.Parent = Ino(d.u64())
	copy(w.Tag[:], d.take(len(w.Tag)))
}

// Bits of the byte that says the layout.
const (
	layoutUpper  = 1 << 4 // Attr.Upper
	layoutMoving = 1 << 5 // the row ends with Attr.Former
)

func layoutByte(a *Attr) byte {
	b := byte(a.Layout)
	if a.Upper {
		b |= layoutUpper
	}
	if a.Former.End != 0 {
		b |= layoutMoving
	}
	return b
}

// decodeAttr decodes the row of ino. ErrCorrupt for anything that encodeAttr would not have written.
func decodeAttr(ino Ino, b []byte) (*Attr, error) {
	d := newDecoder(b, "inode")
	a := &Attr{Ino: ino}
	a.Flags = Flags(d.u16())
	a.Mode, a.UID, a.GID, a.Nlink = d.u32(), d.u32(), d.u32(), d.u32()
	a.Size, a.Allocated = d.u64(), d.u64()
	a.Atime, a.Mtime, a.Ctime, a.Btime = d.time(), d.time(), d.time(), d.time()
	a.Rdev = d.u32()
	a.Zone, a.Parent = ZoneID(d.u64()), Ino(d.u64())
	copy(a.Tag[:], d.take(len(a.Tag)))
	layout := d.u8()
	a.Layout, a.Upper = Layout(layout&^(layoutUpper|layoutMoving)), layout&layoutUpper != 0
	former := 0
	if layout&layoutMoving != 0 {
		former = formerSize
	}
	a.Params = d.params()
	a.Serial, a.Epoch, a.XattrList, a.Version = d.u64(), d.u32(), d.u32(), d.u64()
	n := int(d.u8())
	if n > MaxWraps || len(d.b) < n*minWrapSize+former {
		d.fail("%d wraps in %d bytes", n, len(d.b))
		n = 0
	}
	if n > 0 {
		a.Wraps = make([]Wrap, n)
	}
	for i := range a.Wraps {
		w := &a.Wraps[i]
		w.Epoch, w.Made, w.Uses, w.KeyVersion = d.u32(), int64(d.u64()), d.u64(), d.u32()
		d.wrapped(w)
		copy(w.Commitment[:], d.take(len(w.Commitment)))
	}
	if former != 0 {
		a.Former = Former{End: d.u64(), Serial: d.u64(), BlockSize: d.blockSize()}
		if d.err == nil && a.Former.End == 0 {
			d.fail("moves up to 0")
		}
	}
	if err := d.done(); err != nil {
		return nil, err
	}
	if err := checkAttr(a); err != nil {
		return nil, fmt.Errorf("inode row: %w: %w", err, ErrCorrupt)
	}
	return a, nil
}

// appendParams encodes parameters: log2(block size) u8 || codec u8 || level u8 || inline limit u32.
func appendParams(b []byte, p Params) []byte {
	b = append(b, byte(log2(p.BlockSize)), byte(p.Codec), p.Level)
	return binary.BigEndian.AppendUint32(b, p.Inline)
}

// params reads what appendParams wrote.
func (d *decoder) params() (p Params) {
	p.BlockSize = d.blockSize()
	p.Codec, p.Level, p.Inline = Codec(d.u8()), d.u8(), d.u32()
	return p
}

// blockSize reads the exponent of a block size; 0 is none.
func (d *decoder) blockSize() uint32 {
	l := d.u8()
	if l > 31 {
		d.fail("block size 2^%d", l)
	}
	if d.err != nil || l == 0 {
		return 0
	}
	return 1 << l
}

// log2 returns the exponent of a power of two; 0 of 0.
func log2(n uint32) int {
	if n == 0 {
		return 0
	}
	return bits.Len32(n) - 1
}
