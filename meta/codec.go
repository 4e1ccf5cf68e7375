package meta

import (
	"encoding/binary"
	"fmt"
)

// rowVersion is the first byte of every row value that this package encodes.
const rowVersion = 1

// decoder reads a row's plaintext. The first error sticks; values read after it are zero.
type decoder struct {
	b    []byte
	what string
	err  error
}

func newDecoder(b []byte, what string) *decoder {
	d := &decoder{b: b, what: what}
	if v := d.u8(); d.err == nil && v != rowVersion {
		d.fail("version %d", v)
	}
	return d
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%s row: %s: %w", d.what, fmt.Sprintf(format, args...), ErrCorrupt)
	}
	d.b = nil
}

// take returns the next n bytes, or nil after a failure.
func (d *decoder) take(n int) []byte {
	if n < 0 || len(d.b) < n {
		d.fail("ends early")
		return nil
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) u8() uint8 {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if b := d.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) time() Time {
	t := Time{Sec: int64(d.u64()), Nsec: d.u32()}
	if t.Nsec > 999999999 {
		d.fail("%d nanoseconds", t.Nsec)
	}
	return t
}

// done returns the error, or that of bytes left over.
func (d *decoder) done() error {
	if d.err == nil && len(d.b) > 0 {
		d.fail("%d bytes too long", len(d.b))
	}
	return d.err
}

func appendTime(b []byte, t Time) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(b, uint64(t.Sec)), t.Nsec)
}
