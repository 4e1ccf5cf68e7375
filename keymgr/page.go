package keymgr

import "encoding/hex"

// A marker is the row key at which the next page starts, in hexadecimal: it says nothing that the listing does not say, and any value of the
// right shape is harmless.
func marker(rowKey []byte) string { return hex.EncodeToString(rowKey) }

// start checks a page of rows of one kind and returns its limit and first row key. ErrValidation, ErrInvalidMarker.
func (p Page) start(kind byte, def, max int) (limit int, from []byte, err error) {
	limit = p.Limit
	if limit == 0 {
		limit = def
	}
	if err := checkRange("limit", limit, 1, max); err != nil {
		return 0, nil, err
	}
	if p.Marker == "" {
		from, _ = kindRange(kind)
		return limit, from, nil
	}
	from, err = hex.DecodeString(p.Marker)
	if err != nil || len(from) != 1+16 || from[0] != kind {
		return 0, nil, fault(ErrInvalidMarker, "")
	}
	return limit, from, nil
}
