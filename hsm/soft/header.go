package soft

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/kmsfs/kmsfs/hsm"
)

const (
	headerFile    = "token.json"
	headerFormat  = "kmsfs soft token"
	headerVersion = 1
	maxHeader     = 16 << 10 // bytes
	kdfArgon      = "argon2id"
	kdfHKDF       = "hkdf-sha512"
)

// header is the content of token.json.
type header struct {
	Serial  [16]byte
	Created time.Time // whole seconds, UTC
	Unlock  unlockParams
	Check   [checkSize]byte
	Root    [sealedSize]byte // nonce || sealed root key
}

// headerJSON is its written form; byte strings are lower-case hexadecimal.
type headerJSON struct {
	Format  string     `json:"format"`
	Version int        `json:"version"`
	Serial  string     `json:"serial"`
	Created string     `json:"created"`
	Unlock  unlockJSON `json:"unlock"`
	Check   string     `json:"check"`
	Root    string     `json:"root"`
}

type unlockJSON struct {
	Method string `json:"method"`
	KDF    string `json:"kdf"`
	Salt   string `json:"salt"`
	Memory uint32 `json:"memoryKiB,omitempty"`
	Passes uint32 `json:"passes,omitempty"`
	Lanes  uint8  `json:"lanes,omitempty"`
}

// aad is everything in the header but Check and Root, in a form with one
// encoding. The root key is sealed with it.
func (h *header) aad() []byte {
	b := append([]byte(headerFormat), 0, headerVersion)
	b = append(b, h.Serial[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Created.Unix()))
	b = append(b, byte(h.Unlock.Method))
	b = append(b, h.Unlock.Salt[:]...)
	b = binary.BigEndian.AppendUint32(b, h.Unlock.Memory)
	b = binary.BigEndian.AppendUint32(b, h.Unlock.Passes)
	return append(b, h.Unlock.Lanes)
}

// encode gives the content of token.json.
func (h *header) encode() ([]byte, error) {
	j := headerJSON{
		Format:  headerFormat,
		Version: headerVersion,
		Serial:  hex.EncodeToString(h.Serial[:]),
		Created: h.Created.UTC().Format(time.RFC3339),
		Unlock: unlockJSON{
			Method: "passphrase",
			KDF:    kdfArgon,
			Salt:   hex.EncodeToString(h.Unlock.Salt[:]),
			Memory: h.Unlock.Memory,
			Passes: h.Unlock.Passes,
			Lanes:  h.Unlock.Lanes,
		},
		Check: hex.EncodeToString(h.Check[:]),
		Root:  hex.EncodeToString(h.Root[:]),
	}
	if h.Unlock.Method == methodKeyFile {
		j.Unlock.Method, j.Unlock.KDF = "key-file", kdfHKDF
	}
	b, err := json.MarshalIndent(j, "", "  ")
	return append(b, '\n'), err
}

// decodeHeader reads token.json: ErrVersion for a version it does not know,
// hsm.ErrDamaged for anything else that it would not write itself.
func decodeHeader(data []byte) (*header, error) {
	var j headerJSON
	if len(data) > maxHeader {
		return nil, fmt.Errorf("%w: %s is too long", hsm.ErrDamaged, headerFile)
	}
	if err := peekVersion(data); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&j); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", hsm.ErrDamaged, headerFile, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: %s has something behind its end", hsm.ErrDamaged, headerFile)
	}
	h := &header{Unlock: unlockParams{Memory: j.Unlock.Memory, Passes: j.Unlock.Passes, Lanes: j.Unlock.Lanes}}
	for _, f := range []struct {
		name string
		dst  []byte
		text string
	}{
		{"serial", h.Serial[:], j.Serial},
		{"salt", h.Unlock.Salt[:], j.Unlock.Salt},
		{"check", h.Check[:], j.Check},
		{"root", h.Root[:], j.Root},
	} {
		if err := decodeHex(f.dst, f.text); err != nil {
			return nil, fmt.Errorf("%w: %s: field %s: %w", hsm.ErrDamaged, headerFile, f.name, err)
		}
	}
	var err error
	if h.Created, err = time.Parse(time.RFC3339, j.Created); err != nil {
		return nil, fmt.Errorf("%w: %s: field created: %w", hsm.ErrDamaged, headerFile, err)
	}
	switch [2]string{j.Unlock.Method, j.Unlock.KDF} {
	case [2]string{"passphrase", kdfArgon}:
		h.Unlock.Method = methodPassphrase
	case [2]string{"key-file", kdfHKDF}:
		h.Unlock.Method = methodKeyFile
	}
	return h, h.Unlock.check()
}

// peekVersion looks at format and version before anything else is expected.
func peekVersion(data []byte) error {
	var v struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return fmt.Errorf("%w: %s: %w", hsm.ErrDamaged, headerFile, err)
	}
	if v.Format != headerFormat {
		return fmt.Errorf("%w: %s is not the header of a soft token", hsm.ErrDamaged, headerFile)
	}
	if v.Version != headerVersion {
		return fmt.Errorf("%w: version %d, this program knows %d", ErrVersion, v.Version, headerVersion)
	}
	return nil
}

func decodeHex(dst []byte, text string) error {
	if len(text) != hex.EncodedLen(len(dst)) {
		return fmt.Errorf("%d characters instead of %d", len(text), hex.EncodedLen(len(dst)))
	}
	_, err := hex.Decode(dst, []byte(text))
	return err
}
