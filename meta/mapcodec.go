package meta

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/kmsfs/kmsfs/blockcrypt"
)

// Extras of a map entry, present where the entry differs from what the row says. Unknown bits are refused.
const (
	extraPlainLen  = 1 << 0 // plaintext length u32, else the row's
	extraStoredLen = 1 << 1 // stored length u32, else the plaintext length
	extraEpoch     = 1 << 2 // epoch u32, else the row's
	extraCodec     = 1 << 3 // codec u8, else none
	extraPlane     = 1 << 4 // reserved for a second slot of a block; refused

	extrasKnown = extraPlainLen | extraStoredLen | extraEpoch | extraCodec
)

const (
	mapFixed   = 1 + 4 + 4 + 4 + 4 // version, epoch, plain length, present, extras
	entryFixed = 4 + 12 + 16
)

// checkMapRow holds the rules for entries. Its errors carry no sentinel.
func checkMapRow(m *MapRow) error {
	for i := range m {
		if err := checkEntry(&m[i]); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
	}
	return nil
}

func checkEntry(e *Entry) error {
	switch {
	case !e.Present:
		if *e != (Entry{}) {
			return fmt.Errorf("absent, but not zero")
		}
	case e.Epoch == 0:
		return fmt.Errorf("epoch 0")
	case e.PlainLen == 0 || e.PlainLen > blockcrypt.MaxBlockSize:
		return fmt.Errorf("plaintext of %d bytes", e.PlainLen)
	case e.Codec > CodecZstd:
		return fmt.Errorf("unknown codec %d", e.Codec)
	case e.Codec == CodecNone && e.StoredLen != e.PlainLen:
		return fmt.Errorf("%d bytes stored for %d without a codec", e.StoredLen, e.PlainLen)
	case e.Codec != CodecNone && (e.StoredLen == 0 || e.StoredLen >= e.PlainLen):
		return fmt.Errorf("%d bytes stored for %d by %s", e.StoredLen, e.PlainLen, e.Codec)
	}
	return nil
}

// EncodeMapRow appends the encoding of a valid row with at least one entry to b.
func EncodeMapRow(b []byte, m *MapRow) []byte {
	var first *Entry
	var present, extras uint32
	for i := range m {
		e := &m[i]
		if !e.Present {
			continue
		}
		present |= 1 << i
		if first == nil {
			first = e
		}
		if extrasOf(e, first) != 0 {
			extras |= 1 << i
		}
	}
	if first == nil {
		panic("meta: EncodeMapRow: empty row")
	}
	if b == nil {
		b = make([]byte, 0, mapFixed+bits.OnesCount32(present)*entryFixed+bits.OnesCount32(extras)*14)
	}
	b = append(b, rowVersion)
	for _, v := range [...]uint32{first.Epoch, first.PlainLen, present, extras} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	for i := range m {
		if m[i].Present {
			b = appendEntry(b, &m[i], first)
		}
	}
	return b
}

func extrasOf(e, first *Entry) (x uint8) {
	if e.PlainLen != first.PlainLen {
		x |= extraPlainLen
	}
	if e.StoredLen != e.PlainLen {
		x |= extraStoredLen
	}
	if e.Epoch != first.Epoch {
		x |= extraEpoch
	}
	if e.Codec != CodecNone {
		x |= extraCodec
	}
	return x
}

func appendEntry(b []byte, e, first *Entry) []byte {
	b = binary.BigEndian.AppendUint32(b, e.CRC)
	b = append(b, e.Nonce[:]...)
	b = append(b, e.Tag[:]...)
	x := extrasOf(e, first)
	if x == 0 {
		return b
	}
	b = append(b, x)
	if x&extraPlainLen != 0 {
		b = binary.BigEndian.AppendUint32(b, e.PlainLen)
	}
	if x&extraStoredLen != 0 {
		b = binary.BigEndian.AppendUint32(b, e.StoredLen)
	}
	if x&extraEpoch != 0 {
		b = binary.BigEndian.AppendUint32(b, e.Epoch)
	}
	if x&extraCodec != 0 {
		b = append(b, byte(e.Codec))
	}
	return b
}

// DecodeMapRow decodes a row into m. ErrCorrupt for anything that EncodeMapRow would not have written; m is undefined then.
func DecodeMapRow(b []byte, m *MapRow) error {
	d := newDecoder(b, "map")
	row := Entry{Epoch: d.u32(), PlainLen: d.u32()}
	present, extras := d.u32(), d.u32()
	if d.err == nil && (present == 0 || extras&^present != 0) {
		d.fail("present %#x, extras %#x", present, extras)
	}
	var first *Entry
	for i := range m {
		e := &m[i]
		*e = Entry{}
		if d.err != nil || present&(1<<i) == 0 {
			continue
		}
		decodeEntry(d, e, &row, extras&(1<<i) != 0)
		if first == nil {
			first = e
		}
		if d.err == nil {
			if err := checkEntry(e); err != nil {
				d.fail("entry %d: %v", i, err)
			}
		}
	}
	if d.err == nil && (first.Epoch != row.Epoch || first.PlainLen != row.PlainLen) {
		d.fail("first entry differs from the row")
	}
	return d.done()
}

func decodeEntry(d *decoder, e, row *Entry, hasExtras bool) {
	*e = Entry{Present: true, CRC: d.u32(), Epoch: row.Epoch, PlainLen: row.PlainLen}
	copy(e.Nonce[:], d.take(len(e.Nonce)))
	copy(e.Tag[:], d.take(len(e.Tag)))
	var x uint8
	if hasExtras {
		if x = d.u8(); x == 0 || x&^uint8(extrasKnown) != 0 {
			d.fail("extras %#x", x)
		}
	}
	if x&extraPlainLen != 0 {
		e.PlainLen = d.u32()
	}
	e.StoredLen = e.PlainLen
	if x&extraStoredLen != 0 {
		e.StoredLen = d.u32()
	}
	if x&extraEpoch != 0 {
		e.Epoch = d.u32()
	}
	if x&extraCodec != 0 {
		e.Codec = Codec(d.u8())
	}
	if d.err == nil && extrasOf(e, row) != x {
		d.fail("extras %#x are not needed", x)
	}
}
