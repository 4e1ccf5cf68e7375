package meta

import (
	"encoding/binary"
)

// Kinds of rows: the first byte of every key (docs/FORMAT.md, section 6). Keys that begin with 0x00 belong to the KV driver.
const (
	kindAttr    = 'A'
	kindImage   = 'B'
	kindMap     = 'C'
	kindDentry  = 'D'
	kindGarbage = 'G'
	kindInline  = 'I'
	kindJob     = 'J'
	kindKept    = 'K'
	kindLink    = 'L'
	kindMarker  = 'M'
	kindCounter = 'N'
	kindOrphan  = 'O'
	kindPolicy  = 'P'
	kindQueue   = 'Q'
	kindSymlink = 'S'
	kindXattr   = 'X'
	kindZone    = 'Z'
)

// counterInode names the counter of inode numbers.
const counterInode = "inode"

// inoKey is kind || ino.
func inoKey(kind byte, ino Ino) []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, 9), kind), uint64(ino))
}

// ino8Key is kind || ino || n.
func ino8Key(kind byte, ino Ino, n uint64) []byte {
	k := binary.BigEndian.AppendUint64(append(make([]byte, 0, 17), kind), uint64(ino))
	return binary.BigEndian.AppendUint64(k, n)
}

// inoTagKey is kind || ino || tag.
func inoTagKey(kind byte, ino Ino, tag NameTag) []byte {
	k := binary.BigEndian.AppendUint64(append(make([]byte, 0, 25), kind), uint64(ino))
	return append(k, tag[:]...)
}

func attrKey(ino Ino) []byte               { return inoKey(kindAttr, ino) }
func mapRowKey(ino Ino, row uint64) []byte { return ino8Key(kindMap, ino, row) }
func zoneKey(id ZoneID) []byte             { return inoKey(kindZone, Ino(id)) }
func policyKey(id ZoneID) []byte           { return inoKey(kindPolicy, Ino(id)) }

func dentryRowKey(parent Ino, tag NameTag) []byte { return inoTagKey(kindDentry, parent, tag) }
func xattrKey(ino Ino, tag NameTag) []byte        { return inoTagKey(kindXattr, ino, tag) }

func linkKey(ino, parent Ino, tag NameTag) []byte {
	return append(ino8Key(kindLink, ino, uint64(parent)), tag[:]...)
}

func counterKey(name string) []byte { return append([]byte{kindCounter}, name...) }

func garbageKey(g *Garbage) []byte {
	k := append(ino8Key(kindGarbage, g.Ino, g.Serial), byte(g.Op))
	return binary.BigEndian.AppendUint64(k, g.First)
}

// ImageKey returns the key of a block's image row.
func ImageKey(ino Ino, block uint64) []byte { return ino8Key(kindImage, ino, block) }

// MarkerKey returns the key of a marker row.
func MarkerKey(ino Ino) []byte { return inoKey(kindMarker, ino) }

// rowMarkerKey returns the key of the marker of one map row.
func rowMarkerKey(ino Ino, row uint64) []byte { return ino8Key(kindMarker, ino, row) }

// JournalOnly reports whether a row lives in the journal only: images, which a checkpoint settles, and markers, which it forgets.
func JournalOnly(key []byte) bool {
	return len(key) > 0 && (key[0] == kindImage || key[0] == kindMarker)
}

// ParseImageKey parses the key of an image row; ok is false for any other key.
func ParseImageKey(key []byte) (ino Ino, block uint64, ok bool) { return parseIno8(kindImage, key) }

// IsMarkerKey tells whether key is that of a marker, of an inode or of one map row.
func IsMarkerKey(key []byte) bool {
	return (len(key) == 9 || len(key) == 17) && key[0] == kindMarker
}

func parseIno(kind byte, key []byte) (Ino, bool) {
	if len(key) != 9 || key[0] != kind {
		return 0, false
	}
	return Ino(binary.BigEndian.Uint64(key[1:])), true
}

func parseIno8(kind byte, key []byte) (Ino, uint64, bool) {
	if len(key) != 17 || key[0] != kind {
		return 0, 0, false
	}
	return Ino(binary.BigEndian.Uint64(key[1:])), binary.BigEndian.Uint64(key[9:]), true
}

func parseInoTag(kind byte, key []byte) (ino Ino, tag NameTag, ok bool) {
	if len(key) != 25 || key[0] != kind {
		return 0, tag, false
	}
	copy(tag[:], key[9:])
	return Ino(binary.BigEndian.Uint64(key[1:])), tag, true
}

func parseLinkKey(key []byte) (ino, parent Ino, tag NameTag, ok bool) {
	if len(key) != 33 || key[0] != kindLink {
		return 0, 0, tag, false
	}
	copy(tag[:], key[17:])
	return Ino(binary.BigEndian.Uint64(key[1:])), Ino(binary.BigEndian.Uint64(key[9:])), tag, true
}

func parseGarbageKey(key []byte) (g Garbage, ok bool) {
	if len(key) != 26 || key[0] != kindGarbage {
		return g, false
	}
	return Garbage{
		Ino:    Ino(binary.BigEndian.Uint64(key[1:])),
		Serial: binary.BigEndian.Uint64(key[9:]),
		Op:     GarbageOp(key[17]),
		First:  binary.BigEndian.Uint64(key[18:]),
	}, true
}

// afterPrefix returns the first key behind all keys that begin with prefix, which ends in a byte below 0xff or is an inode's prefix.
func afterPrefix(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return []byte{0xff}
}
