package soft

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/kmsfs/kmsfs/hsm"
)

const (
	keysDir    = "keys"
	keySuffix  = ".key"
	keyMagic   = "kmsfskey"
	signSuffix = ".sign"
	signMagic  = "kmsfssig" // as long as keyMagic
	keyVersion = 1
	keyFixed   = len(keyMagic) + 1 + 16 + 8 + 2 // bytes before the label
	maxKeyFile = int64(keyFixed + hsm.MaxLabel + sealedSize)
)

// keyHeader is the readable part of a key file; it is authenticated with the
// key, together with the file's name (the id).
type keyHeader struct {
	Magic   string // keyMagic, or signMagic: the key is the seed of an Ed25519 key
	ID      hsm.KeyID
	Created time.Time // whole seconds, UTC
	Label   string
}

// encode gives everything before the sealed key.
func (k *keyHeader) encode() []byte {
	b := append([]byte(k.Magic), keyVersion)
	b = append(b, k.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(k.Created.Unix()))
	b = binary.BigEndian.AppendUint16(b, uint16(len(k.Label)))
	return append(b, k.Label...)
}

// parseKeyFile takes the file of key id apart: the header, its bytes as they
// are authenticated, the nonce and the sealed key. The slices are parts of data.
func parseKeyFile(magic string, id hsm.KeyID, data []byte) (k keyHeader, head, nonce, sealed []byte, err error) {
	damaged := func(what string) (keyHeader, []byte, []byte, []byte, error) {
		return keyHeader{}, nil, nil, nil, fmt.Errorf("%w: %s", hsm.ErrDamaged, what)
	}
	if len(data) < keyFixed+sealedSize || string(data[:len(keyMagic)]) != magic {
		return damaged("not a key file")
	}
	if v := data[len(keyMagic)]; v != keyVersion {
		return keyHeader{}, nil, nil, nil, fmt.Errorf("%w: version %d of a key file, this program knows %d", ErrVersion, v, keyVersion)
	}
	rest := data[len(keyMagic)+1:]
	k.Magic = magic
	copy(k.ID[:], rest)
	if k.ID != id {
		return damaged("the file of another key under this name")
	}
	k.Created = time.Unix(int64(binary.BigEndian.Uint64(rest[16:])), 0).UTC()
	n := int(binary.BigEndian.Uint16(rest[24:]))
	if n > hsm.MaxLabel || len(data) != keyFixed+n+sealedSize {
		return damaged("wrong length")
	}
	k.Label = string(data[keyFixed : keyFixed+n])
	head, body := data[:keyFixed+n], data[keyFixed+n:]
	return k, head, body[:nonceSize], body[nonceSize:], nil
}
