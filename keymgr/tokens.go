package keymgr

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
)

// Limits of grant tokens in a request; AWS'.
const (
	MaxTokens   = 10
	MaxTokenLen = 8192 // characters
)

// tokenWindow is how long after it was issued a token stands in for a grant that is not seen yet.
const tokenWindow = 5 * time.Minute

// A grant token names a grant: version u8 = 1 || key UUID x[16] || grant id x[32] || issued u64 (milliseconds since 1970) || random x[16] || HMAC-SHA-256 of
// all that, in base64. It is no secret and gives nobody a right but the grantee.
const (
	tokenVersion = 1
	tokenBody    = 1 + 16 + 32 + 8 + 16
)

// tokens issues and reads grant tokens.
type tokens struct{ key [32]byte }

func newTokens(id [16]byte, storeKey *blockcrypt.Key) (*tokens, error) {
	k, err := blockcrypt.DeriveKey(storeKey, "keystore tokens", id[:])
	if err != nil {
		return nil, fmt.Errorf("derive tokens key: %w", err)
	}
	defer k.Wipe()
	return &tokens{key: *k}, nil
}

// token is what a grant token says.
type token struct {
	key    keyUUID
	id     grantID
	issued time.Time
}

// fresh reports whether the token stands in for its grant.
func (t token) fresh(now time.Time) bool {
	age := now.Sub(t.issued)
	return age <= tokenWindow && age >= -tokenWindow
}

func (t *tokens) mac(body []byte) []byte {
	h := hmac.New(sha256.New, t.key[:])
	h.Write(body)
	return h.Sum(nil)
}

func (t *tokens) issue(k keyUUID, id grantID, now time.Time) string {
	b := append([]byte{tokenVersion}, k[:]...)
	b = append(b, id[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(now.UnixMilli()))
	var random [16]byte
	_, _ = rand.Read(random[:])
	b = append(b, random[:]...)
	return base64.StdEncoding.EncodeToString(append(b, t.mac(b)...))
}

// read checks one token. ErrInvalidGrantToken.
func (t *tokens) read(s string) (token, error) {
	var out token
	raw, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(raw) != tokenBody+sha256.Size || raw[0] != tokenVersion || !hmac.Equal(t.mac(raw[:tokenBody]), raw[tokenBody:]) {
		return out, fault(ErrInvalidGrantToken, "The grant token is not valid")
	}
	copy(out.key[:], raw[1:])
	copy(out.id[:], raw[17:])
	out.issued = time.UnixMilli(int64(binary.BigEndian.Uint64(raw[49:]))) // authentic, so ours
	return out, nil
}

// readAll checks the tokens of a request. ErrValidation, ErrInvalidGrantToken.
func (t *tokens) readAll(list []string) ([]token, error) {
	if len(list) > MaxTokens {
		return nil, fault(ErrValidation, "1 validation error detected: Value at 'grantTokens' failed to satisfy constraint: Member must have length less than or equal to %d", MaxTokens)
	}
	var all []token
	for i, s := range list {
		if err := checkLength(fmt.Sprintf("grantTokens.%d.member", i+1), s, 1, MaxTokenLen, false); err != nil {
			return nil, err
		}
		one, err := t.read(s)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}
