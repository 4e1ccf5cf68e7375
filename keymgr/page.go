package keymgr

import (
	"bytes"
	"encoding/hex"
)

// A marker is the row key at which the next page starts, in hexadecimal: it says nothing that the listing does not say, and any value of the
// right shape is harmless.
func marker(rowKey []byte) string { return hex.EncodeToString(rowKey) }

// start checks a page of rows of one kind whose ids have 16 bytes, and returns its limit and first row key. ErrValidation, ErrInvalidMarker.
func (p Page) start(kind byte, def, max int) (limit int, from []byte, err error) {
	return p.startIn([]byte{kind}, 16, def, max)
}

// startIn does the same for rows whose keys are prefix and n more bytes.
func (p Page) startIn(prefix []byte, n, def, max int) (limit int, from []byte, err error) {
	if limit, err = p.limit(def, max); err != nil || p.Marker == "" {
		return limit, prefix, err
	}
	from, err = hex.DecodeString(p.Marker)
	if err != nil || len(from) != len(prefix)+n || !bytes.HasPrefix(from, prefix) {
		return 0, nil, fault(ErrInvalidMarker, "")
	}
	return limit, from, nil
}

// limit is how many entries the page may have. ErrValidation.
func (p Page) limit(def, max int) (int, error) {
	n := p.Limit
	if n == 0 {
		n = def
	}
	return n, checkRange("limit", n, 1, max)
}

// pageOf cuts a page out of a list that is in memory; name gives what a marker is made of, and the list is sorted by it. ErrValidation, ErrInvalidMarker.
func pageOf[T any](p Page, list []T, name func(T) string, def, max int) (part []T, next string, err error) {
	limit, err := p.limit(def, max)
	if err != nil {
		return nil, "", err
	}
	if p.Marker != "" {
		from, err := hex.DecodeString(p.Marker)
		if err != nil || len(from) == 0 {
			return nil, "", fault(ErrInvalidMarker, "")
		}
		for len(list) > 0 && name(list[0]) < string(from) {
			list = list[1:]
		}
	}
	if len(list) > limit {
		return list[:limit], marker([]byte(name(list[limit]))), nil
	}
	return list, "", nil
}
