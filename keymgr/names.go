package keymgr

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"
)

// ARNs are arn:aws:kms:local:000000000000:key/UUID and …:alias/NAME: this host is one region, the key store one account.
const (
	Region    = "local"
	AccountID = "000000000000"
	arnPrefix = "arn:aws:kms:" + Region + ":" + AccountID + ":"

	aliasPrefix = "alias/"
)

// keyUUID is the identity of a CMK.
type keyUUID [16]byte

// newKeyUUID draws a version 4 UUID (RFC 9562).
func newKeyUUID() (keyUUID, error) {
	var u keyUUID
	if _, err := rand.Read(u[:]); err != nil {
		return u, fmt.Errorf("draw key id: %w", err)
	}
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u, nil
}

// String gives the 8-4-4-4-12 form, lower case.
func (u keyUUID) String() string { return string(u.append(make([]byte, 0, 64))) }

// append appends the text, 36 bytes.
func (u keyUUID) append(b []byte) []byte {
	b = append(hex.AppendEncode(b, u[:4]), '-')
	b = append(hex.AppendEncode(b, u[4:6]), '-')
	b = append(hex.AppendEncode(b, u[6:8]), '-')
	b = append(hex.AppendEncode(b, u[8:10]), '-')
	return hex.AppendEncode(b, u[10:])
}

// ARN gives the key's ARN.
func (u keyUUID) ARN() string {
	return string(u.append(append(make([]byte, 0, 128), arnPrefix+"key/"...)))
}

func parseKeyUUID(s string) (keyUUID, bool) {
	var u keyUUID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return u, false
	}
	raw, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(raw) != len(u) {
		return u, false
	}
	copy(u[:], raw)
	return u, u.String() == s // AWS' ids are lower case, and one key has one name
}

func aliasARN(name string) string { return arnPrefix + name }

// keyName is what a caller named a key by: one of the two fields.
type keyName struct {
	id    keyUUID
	alias string // with prefix; "" if named by id
}

// parseKeyName reads a key id, key ARN, alias or alias ARN. Errors: ErrValidation (length), ErrInvalidArn, ErrNotFound (not the shape of an id, or
// an ARN of elsewhere), ErrInvalidAlias.
func parseKeyName(s string) (keyName, error) {
	if err := checkLength("keyId", s, 1, MaxKeyID, true); err != nil {
		return keyName{}, err
	}
	rest := s
	if strings.HasPrefix(s, "arn:") {
		var err error
		if rest, err = parseARN(s); err != nil {
			return keyName{}, err
		}
		if id, ok := strings.CutPrefix(rest, "key/"); ok {
			rest = id
		} else if !strings.HasPrefix(rest, aliasPrefix) {
			return keyName{}, fault(ErrInvalidArn, "Invalid arn %s", s)
		}
	}
	if strings.HasPrefix(rest, aliasPrefix) {
		if !validAlias(rest) {
			return keyName{}, fault(ErrNotFound, "Alias %s is not found.", aliasARN(rest))
		}
		return keyName{alias: rest}, nil
	}
	id, ok := parseKeyUUID(rest)
	if !ok {
		return keyName{}, fault(ErrNotFound, "Invalid keyId '%s'", rest)
	}
	return keyName{id: id}, nil
}

// parseARN returns the resource part of an ARN of this key store.
func parseARN(s string) (resource string, err error) {
	parts := strings.SplitN(s, ":", 6)
	if len(parts) != 6 || parts[2] != "kms" {
		return "", fault(ErrInvalidArn, "Invalid arn %s", s)
	}
	if parts[3] != Region {
		return "", fault(ErrNotFound, "Invalid arn %s", parts[3])
	}
	if parts[1] != "aws" || parts[4] != AccountID {
		return "", fault(ErrNotFound, "Invalid arn %s", s)
	}
	return parts[5], nil
}

// validAlias reports whether name is a well-formed alias name with its prefix.
func validAlias(name string) bool {
	base, ok := strings.CutPrefix(name, aliasPrefix)
	if !ok || base == "" || len(name) > MaxAlias {
		return false
	}
	for _, c := range []byte(base) {
		if !aliasCharacter(c) {
			return false
		}
	}
	return true
}

// aliasCharacter reports whether names of aliases and grants may hold c.
func aliasCharacter(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == ':', c == '/', c == '_', c == '-':
		return true
	}
	return false
}

// AliasForName makes a well-formed alias for a thing called name: characters that an alias cannot have become '-'. It is not unique. An empty name gives "alias/volume".
func AliasForName(name string) string {
	b := []byte(name)
	for i, c := range b {
		if !validAlias(aliasPrefix + string(c)) {
			b[i] = '-'
		}
	}
	if len(b) == 0 {
		b = []byte("volume")
	}
	s := aliasPrefix + string(b)
	if len(s) > MaxAlias {
		s = s[:MaxAlias]
	}
	if reservedAlias(s) {
		return aliasPrefix + "volume-" + strings.TrimPrefix(s, aliasPrefix)
	}
	return s
}

// checkNewAlias decides whether a user may make this alias. Errors: ErrValidation, ErrInvalidAlias, ErrNotAuthorized (reserved).
func checkNewAlias(name string) error {
	if err := checkLength("aliasName", name, 1, MaxAlias, true); err != nil {
		return err
	}
	if !strings.HasPrefix(name, aliasPrefix) {
		return fault(ErrValidation, `Alias must start with the prefix "alias/". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html`)
	}
	if !validAlias(name) {
		return fault(ErrInvalidAlias, "%s is not a valid alias name: use letters, digits and :/_-", printable(name))
	}
	if reservedAlias(name) {
		return fault(ErrNotAuthorized, "")
	}
	return nil
}

// reservedAlias reports whether the name belongs to keys that users do not manage: AWS' prefix and ours.
func reservedAlias(name string) bool {
	return strings.HasPrefix(name, "alias/aws/") || strings.HasPrefix(name, managedPrefix)
}

// checkLength is AWS' validation of one string member; min and max count characters. With echo the value stands in the message.
func checkLength(member, value string, min, max int, echo bool) error {
	n := utf8.RuneCountInString(value)
	shown := ""
	if echo && n <= max {
		shown = fmt.Sprintf(" '%s'", value)
	}
	const format = "1 validation error detected: Value%s at '%s' failed to satisfy constraint: Member must have length %s than or equal to %d"
	switch {
	case n < min:
		return fault(ErrValidation, format, shown, member, "greater", min)
	case n > max:
		return fault(ErrValidation, format, shown, member, "less", max)
	case !utf8.ValidString(value):
		return fault(ErrValidation, "1 validation error detected: Value at '%s' failed to satisfy constraint: Member must be UTF-8", member)
	}
	return nil
}

// checkRange is AWS' validation of one integer member.
func checkRange(member string, value, min, max int) error {
	const format = "1 validation error detected: Value '%d' at '%s' failed to satisfy constraint: Member must have value %s than or equal to %d"
	switch {
	case value < min:
		return fault(ErrValidation, format, value, member, "greater", min)
	case value > max:
		return fault(ErrValidation, format, value, member, "less", max)
	}
	return nil
}

// printable shortens a caller's string for a message.
func printable(s string) string {
	if len(s) > 64 {
		s = s[:64] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}
