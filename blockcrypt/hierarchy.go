package blockcrypt

import "encoding/binary"

// Labels of the keys that are derived from others. Each key has one function
// below and one line in docs/FORMAT.md, section 2.
const (
	labelSuperblockMAC = "superblock mac"
	labelVolumeSeal    = "volume seal"
	labelZoneWrap      = "zone wrap"
	labelNamesSeal     = "names seal"
	labelNamesHash     = "names hash"
	labelSegment       = "journal segment"
	labelVolume        = "volume"
	labelZone          = "zone"
	labelFrontEnd      = "front end"
)

// SuperblockMACKey derives the key that authenticates kmsfs.json (HMAC).
func SuperblockMACKey(volumeKey *Key, volume VolumeID) (*Key, error) {
	return DeriveKey(volumeKey, labelSuperblockMAC, volume[:])
}

// VolumeSealKey derives the key (for NewSealer) that seals the secrets in
// kmsfs.json: the rows key, the objects key and the journal key.
func VolumeSealKey(volumeKey *Key, volume VolumeID) (*Key, error) {
	return DeriveKey(volumeKey, labelVolumeSeal, volume[:])
}

// FrontEndKey derives the key by which a front end proves to the key manager
// that it has opened the volume.
func FrontEndKey(volumeKey *Key, volume VolumeID) (*Key, error) {
	return DeriveKey(volumeKey, labelFrontEnd, volume[:])
}

// VolumeCommitment commits to a volume key.
func VolumeCommitment(volumeKey *Key, volume VolumeID) [CommitmentSize]byte {
	return KeyCommitment(volumeKey, labelVolume, volume[:])
}

// ZoneWrapKey derives the key (for NewSealer) that wraps the data keys and the
// names key of a zone.
func ZoneWrapKey(zoneKey *Key, volume VolumeID, zone uint64) (*Key, error) {
	return DeriveKey(zoneKey, labelZoneWrap, zoneContext(volume, zone))
}

// ZoneCommitment commits to a zone key.
func ZoneCommitment(zoneKey *Key, volume VolumeID, zone uint64) [CommitmentSize]byte {
	return KeyCommitment(zoneKey, labelZone, zoneContext(volume, zone))
}

// NamesSealKey derives the key (for NewSealer) that seals a zone's dentries,
// extended attributes and symlink targets.
func NamesSealKey(namesKey *Key, volume VolumeID, zone uint64) (*Key, error) {
	return DeriveKey(namesKey, labelNamesSeal, zoneContext(volume, zone))
}

// NamesHashKey derives the key (for NewNameHasher) that hashes names.
func NamesHashKey(namesKey *Key, volume VolumeID, zone uint64) (*Key, error) {
	return DeriveKey(namesKey, labelNamesHash, zoneContext(volume, zone))
}

// JournalSegmentKey derives the key of one journal segment: a fresh one for
// every use of a segment, since salt is random and number never repeats.
func JournalSegmentKey(journalKey *Key, volume VolumeID, salt [16]byte, number uint64) (*Key, error) {
	context := append(volume[:len(volume):len(volume)], salt[:]...)
	return DeriveKey(journalKey, labelSegment, binary.BigEndian.AppendUint64(context, number))
}

// zoneContext is volume x[16] || zone u64.
func zoneContext(volume VolumeID, zone uint64) []byte {
	return binary.BigEndian.AppendUint64(volume[:len(volume):len(volume)], zone)
}
