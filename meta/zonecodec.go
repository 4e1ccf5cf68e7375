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
	if err := checkWraps(z.Wraps); err != nil {
		return err
	}
	if z.Former != nil {
		if err := checkWraps(z.Former.Wraps); err != nil {
			return fmt.Errorf("former key: %w", err)
		}
	}
	if z.KeyVersion == 0 || z.KeyVersion == 1 && z.Former != nil {
		return fmt.Errorf("key version %d", z.KeyVersion)
	}
	if z.ByCMK() && len(z.Wraps) != 1 {
		return fmt.Errorf("%d wraps of a zone whose CMK wraps data keys", len(z.Wraps))
	}
	if z.Flags&^zoneFlagsKnown != 0 {
		return fmt.Errorf("flags %#x", z.Flags)
	}
	if z.PolicyVersion == 0 && z.PolicyHash != [sha256.Size]byte{} {
		return errors.New("a policy without a version")
	}
	return z.Params.check()
}

func checkWraps(wraps []ZoneWrap) error {
	if len(wraps) == 0 || len(wraps) > MaxZoneWraps {
		return fmt.Errorf("%d wraps", len(wraps))
	}
	for i := range wraps {
		w := &wraps[i]
		if w.KeyID == "" || len(w.KeyID) > maxZoneKeyID || len(w.Blob) == 0 || len(w.Blob) > maxZoneBlob {
			return fmt.Errorf("wrap %d: key id of %d bytes, blob of %d", i, len(w.KeyID), len(w.Blob))
		}
	}
	return nil
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
	b = binary.BigEndian.AppendUint32(b, z.KeyVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(z.KeyMade))
	b = appendWraps(b, z.Wraps)
	if z.Former == nil {
		return append(b, 0)
	}
	b = appendWraps(b, z.Former.Wraps)
	return append(b, z.Former.Commitment[:]...)
}

func appendWraps(b []byte, wraps []ZoneWrap) []byte {
	b = append(b, byte(len(wraps)))
	for i := range wraps {
		w := &wraps[i]
		b = binary.BigEndian.AppendUint16(b, uint16(len(w.KeyID)))
		b = append(b, w.KeyID...)
		b = binary.BigEndian.AppendUint16(b, uint16(len(w.Blob)))
		b = append(b, w.Blob...)
	}
	return b
}

// wraps reads what appendWraps wrote; nil for none.
func (d *decoder) wraps() (wraps []ZoneWrap) {
	n := int(d.u8())
	if n > MaxZoneWraps {
		d.fail("%d wraps", n)
		n = 0
	}
	for range n {
		w := ZoneWrap{KeyID: string(d.take(int(d.u16())))}
		w.Blob = append([]byte(nil), d.take(int(d.u16()))...)
		wraps = append(wraps, w)
	}
	return wraps
}

func decodeZone(b []byte) (*Zone, error) {
	d := newDecoder(b, "zone")
	z := &Zone{ID: ZoneID(d.u64()), Dir: Ino(d.u64())}
	z.Params = d.params()
	copy(z.Names[:], d.take(len(z.Names)))
	copy(z.Commitment[:], d.take(len(z.Commitment)))
	z.Flags, z.KeyTTL, z.PolicyVersion = ZoneFlags(d.u8()), d.u32(), d.u64()
	copy(z.PolicyHash[:], d.take(len(z.PolicyHash)))
	z.KeyVersion, z.KeyMade = d.u32(), int64(d.u64())
	z.Wraps = d.wraps()
	if former := d.wraps(); former != nil {
		z.Former = &FormerKey{Wraps: former}
		copy(z.Former.Commitment[:], d.take(len(z.Former.Commitment)))
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
