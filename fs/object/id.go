package object

import "encoding/hex"

// ID names an object: 16 bytes that look random.
type ID [16]byte

// nameLen is the length of a path below the directory: two digits, a slash
// and all digits.
const nameLen = 2 + 1 + 32

// String returns the 32 lower-case hex digits of the object's file name.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// path returns the object's path below the directory.
func (id ID) path() string {
	var b [nameLen]byte
	hex.Encode(b[:2], id[:1])
	b[2] = '/'
	hex.Encode(b[3:], id[:])
	return string(b[:])
}

// fanName returns the name of one of the 256 directories.
func fanName(fan byte) string { return hex.EncodeToString([]byte{fan}) }

// parseID reads a file name; only what String writes is accepted.
func parseID(name string) (ID, bool) {
	var id ID
	if len(name) != 32 {
		return id, false
	}
	if _, err := hex.Decode(id[:], []byte(name)); err != nil {
		return id, false
	}
	return id, id.String() == name
}
