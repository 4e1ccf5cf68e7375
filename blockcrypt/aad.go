package blockcrypt

import "encoding/binary"

// What a ciphertext under a block key is. Distinct kinds make it impossible
// to pass inline content off as a block and the other way round, or what is
// compressed off as what is not.
const (
	kindBlock       = 1
	kindInline      = 2
	kindCodedBlock  = 3
	kindCodedInline = 4
)

const (
	blockAADSize = 44
	codedAADSize = blockAADSize + 5
)

// aad appends the associated data of a block or of inline content to b.
// This is the only place that builds it:
//
//	format u8 || suite u8 || kind u8 || log2(block size) u8 ||
//	volume x[16] || inode u64 || epoch u32 || index u64 || length u32
//
// length being that of what is sealed. What is compressed has codedAAD.
func (c *BlockCipher) aad(b []byte, kind byte, index uint64, n int) []byte {
	b = append(b, FormatVersion, byte(c.suite), kind, byte(log2(c.blockSize)))
	b = append(b, c.id.Volume[:]...)
	b = binary.BigEndian.AppendUint64(b, c.id.Inode)
	b = binary.BigEndian.AppendUint32(b, c.id.Epoch)
	b = binary.BigEndian.AppendUint64(b, index)
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

// codedAAD is aad of something compressed, whose length is n; behind it
//
//	codec u8 || length of what it stands for u32
func (c *BlockCipher) codedAAD(b []byte, kind byte, index uint64, n int, coding Coding) []byte {
	b = append(c.aad(b, kind, index, n), coding.Codec)
	return binary.BigEndian.AppendUint32(b, coding.Plain)
}

// RowAAD returns the associated data of a sealed row: the row opens under its
// own key (the row's name in the store, not a secret) of its own volume only.
//
//	"kmsfs row" || format u8 || volume x[16] || row key
func RowAAD(volume VolumeID, rowKey []byte) []byte {
	b := make([]byte, 0, len(rowLabel)+1+len(volume)+len(rowKey))
	b = append(b, rowLabel...)
	b = append(b, FormatVersion)
	b = append(b, volume[:]...)
	return append(b, rowKey...)
}

// Place is where a wrapped data key belongs: the file's primary link. The wrap
// opens there only; rename and link changes wrap anew.
type Place struct {
	Volume VolumeID
	Zone   uint64
	Parent uint64   // inode of the directory of the primary link; 0 for a nameless inode
	Name   [16]byte // tag of the name in that directory; zero for a nameless inode
	Inode  uint64
	Epoch  uint32
}

// AAD returns the associated data of the wrapped data key of this place:
//
//	"kmsfs dek" || format u8 || volume x[16] || zone u64 || parent u64 ||
//	name tag x[16] || inode u64 || epoch u32
func (p Place) AAD() []byte {
	b := make([]byte, 0, len(dekLabel)+1+16+8+8+16+8+4)
	b = append(b, dekLabel...)
	b = append(b, FormatVersion)
	b = append(b, p.Volume[:]...)
	b = binary.BigEndian.AppendUint64(b, p.Zone)
	b = binary.BigEndian.AppendUint64(b, p.Parent)
	b = append(b, p.Name[:]...)
	b = binary.BigEndian.AppendUint64(b, p.Inode)
	return binary.BigEndian.AppendUint32(b, p.Epoch)
}

// NamesKeyAAD returns the associated data of a zone's wrapped names key:
//
//	"kmsfs names key" || format u8 || volume x[16] || zone u64
func NamesKeyAAD(volume VolumeID, zone uint64) []byte {
	b := append([]byte(namesKeyLabel), FormatVersion)
	b = append(b, volume[:]...)
	return binary.BigEndian.AppendUint64(b, zone)
}

// Labels of associated data. No one is a prefix of another.
const (
	rowLabel      = "kmsfs row"
	dekLabel      = "kmsfs dek"
	namesKeyLabel = "kmsfs names key"
)
