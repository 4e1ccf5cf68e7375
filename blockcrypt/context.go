package blockcrypt

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"
)

// MaxContext is the longest encoding of an encryption context, in bytes.
const MaxContext = 8 << 10

// EncodeContext returns the canonical encoding of an encryption context, for
// use as associated data: nil for an empty one, and otherwise
//
//	count u16 || count times ( len(key) u16 || key || len(value) u16 || value )
//
// with the keys in ascending byte order. Two contexts have the same encoding
// only if they are equal. (The layout is that of the AWS Encryption SDK.)
//
// Errors: ErrSize if the encoding is longer than MaxContext; ErrFormat if a
// key is empty, or a key or value is not UTF-8 (JSON would fold different
// invalid strings into one).
func EncodeContext(context map[string]string) ([]byte, error) {
	if len(context) == 0 {
		return nil, nil
	}
	size := 2
	for k, v := range context {
		if k == "" || !utf8.ValidString(k) || !utf8.ValidString(v) {
			return nil, fmt.Errorf("encryption context: key is empty or text is not UTF-8: %w", ErrFormat)
		}
		// Bound each step: the sum of many lengths must not overflow.
		if size += 2 + len(k) + 2 + len(v); size > MaxContext {
			return nil, fmt.Errorf("encryption context longer than %d bytes: %w", MaxContext, ErrSize)
		}
	}
	b := make([]byte, 0, size)
	b = binary.BigEndian.AppendUint16(b, uint16(len(context)))
	for _, k := range slices.Sorted(maps.Keys(context)) {
		b = appendString(b, k)
		b = appendString(b, context[k])
	}
	return b, nil
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// ParseContext is the inverse of EncodeContext: it accepts exactly what
// EncodeContext makes, and returns ErrFormat for anything else (ErrShort if
// the end is missing). An empty encoding gives an empty map.
func ParseContext(b []byte) (map[string]string, error) {
	context := make(map[string]string)
	if len(b) == 0 {
		return context, nil
	}
	if len(b) > MaxContext {
		return nil, fmt.Errorf("encryption context of %d bytes: %w", len(b), ErrFormat)
	}
	if len(b) < 2 {
		return nil, fmt.Errorf("encryption context: %w", ErrShort)
	}
	count, b := int(binary.BigEndian.Uint16(b)), b[2:]
	if count == 0 {
		return nil, fmt.Errorf("encryption context: count is zero: %w", ErrFormat)
	}
	last := ""
	for range count {
		var key, value string
		var err error
		if key, b, err = cutString(b); err != nil {
			return nil, err
		}
		if value, b, err = cutString(b); err != nil {
			return nil, err
		}
		if key <= last { // also refuses the empty key
			return nil, fmt.Errorf("encryption context: keys are not ascending: %w", ErrFormat)
		}
		context[key], last = value, key
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("encryption context: %d bytes left over: %w", len(b), ErrFormat)
	}
	return context, nil
}

// cutString takes a length-prefixed UTF-8 string off the front of b.
func cutString(b []byte) (string, []byte, error) {
	if len(b) < 2 {
		return "", nil, fmt.Errorf("encryption context: %w", ErrShort)
	}
	n, b := int(binary.BigEndian.Uint16(b)), b[2:]
	if len(b) < n {
		return "", nil, fmt.Errorf("encryption context: %w", ErrShort)
	}
	if !utf8.Valid(b[:n]) {
		return "", nil, fmt.Errorf("encryption context: text is not UTF-8: %w", ErrFormat)
	}
	return string(b[:n]), b[n:], nil
}
