package meta

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// check holds the rules of zone rows. Its errors carry no sentinel.
func (z *Zone) check() error {
	if z.ID == 0 || z.Dir == 0 {
		return fmt.Errorf("zone %d of directory %d", z.ID, z.Dir)
	}
	if len(z.Wraps) == 0 || len(z.Wraps) > MaxZoneWraps {
		return fmt.Errorf("%d wraps", len(z.Wraps))
	}
	for i := range z.Wraps {
		w := &z.Wraps[i]
		if w.KeyID == "" || len(w.KeyID) > maxZoneKeyID || len(w.Blob) == 0 || len(w.Blob) > maxZoneBlob {
			return fmt.Errorf("wrap %d: key id of %d bytes, blob of %d", i, len(w.KeyID), len(w.Blob))
		}
	}
	if z.Flags&^zoneFlagsKnown != 0 {
		return fmt.Errorf("flags %#x", z.Flags)
	}
	if z.PolicyVersion == 0 && z.PolicyHash != [sha256.Size]byte{} {
		return errors.New("a policy without a version")
	}
	return z.Params.check()
}

func encodeZone(z *Zone) []byte {
	b := []byte{rowVersion}
	b = binary.BigEndian.AppendUint64(b, uint64(z.ID))
	b = binary.BigEndian.AppendUint64(b, uint64(z.Dir))
	b = appendParams(b, z.Params)
	b = append(b, z.Names[:]...)
	b = append(b, z.Commitment[:]...)
	b = append(b, byte(z.Flags))
	b = binary.BigEndian.AppendUint32(b, z.KeyTTL)
	b = binary.BigEndian.AppendUint64(b, z.PolicyVersion)
	b = append(b, z.PolicyHash[:]...)
	b = append(b, byte(len(z.Wraps)))
	for i := range z.Wraps {
		w := &z.Wraps[i]
		b = binary.BigEndian.AppendUint16(b, uint16(len(w.KeyID)))
		b = append(b, w.KeyID...)
		b = binary.BigEndian.AppendUint16(b, uint16(len(w.Blob)))
		b = append(b, w.Blob...)
	}
	return b
}

func decodeZone(b []byte) (*Zone, error) {
	d := newDecoder(b, "zone")
	z := &Zone{ID: ZoneID(d.u64()), Dir: Ino(d.u64())}
	z.Params = d.params()
	copy(z.Names[:], d.take(len(z.Names)))
	copy(z.Commitment[:], d.take(len(z.Commitment)))
	z.Flags, z.KeyTTL, z.PolicyVersion = ZoneFlags(d.u8()), d.u32(), d.u64()
	copy(z.PolicyHash[:], d.take(len(z.PolicyHash)))
	n := int(d.u8())
	if n > MaxZoneWraps {
		d.fail("%d wraps", n)
		n = 0
	}
	for range n {
		w := ZoneWrap{KeyID: string(d.take(int(d.u16())))}
		w.Blob = append([]byte(nil), d.take(int(d.u16()))...)
		z.Wraps = append(z.Wraps, w)
	}
	if err := d.done(); err != nil {
		return nil, err
	}
	if err := z.check(); err != nil {
		return nil, fmt.Errorf("zone row: %w: %w", err, ErrCorrupt)
	}
	return z, nil
}

// MaxPolicy is the longest policy of a zone, in bytes.
const MaxPolicy = 64 << 10

func encodePolicy(version uint64, document []byte) []byte {
	b := binary.BigEndian.AppendUint64([]byte{rowVersion}, version)
	return append(b, document...)
}

// decodePolicy returns the document, which lies in b.
func decodePolicy(b []byte) (version uint64, document []byte, err error) {
	d := newDecoder(b, "policy")
	version = d.u64()
	document = d.take(len(d.b))
	if d.err == nil && (version == 0 || len(document) == 0 || len(document) > MaxPolicy) {
		d.fail("version %d of %d bytes", version, len(document))
	}
	return version, document, d.done()
}
