package hsm

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// User is a user of this host for whom a token is asked. Only a token that is another host's key manager has a use for it.
type User struct {
	Name   string   `json:"user"` // "" where it has none here
	UID    uint32   `json:"uid"`
	Groups []string `json:"groups"` // names of all its groups
	// UnknownGroups: there are others, or some whose names could not be found out.
	UnknownGroups bool `json:"unknownGroups,omitempty"`
}

// UserHeader is the header, signed with the request, in which a key daemon says to that of another host for which user it asks.
const UserHeader = "X-Amz-Kmsfs-User"

const (
	maxUserHeader = 16 << 10 // characters
	maxUserName   = 256      // bytes
)

// ErrUser: what should say who a user is does not.
var ErrUser = errors.New("malformed user")

type userKey struct{}

// ForUser returns a context of calls that are made for the user.
func ForUser(ctx context.Context, u *User) context.Context {
	return context.WithValue(ctx, userKey{}, u)
}

// UserOf returns for whom a call is made; nil where that is nobody in particular.
func UserOf(ctx context.Context) *User {
	u, _ := ctx.Value(userKey{}).(*User)
	return u
}

// Forwarder is a token that hands on for whom it is asked.
type Forwarder interface{ Forwards() bool }

// Encode returns the value of UserHeader: URL-safe base64 without padding of the JSON object. Where that is too long, the groups are left out, and UnknownGroups says so.
func (u User) Encode() string {
	if u.Groups == nil {
		u.Groups = []string{}
	}
	raw, err := json.Marshal(u)
	if err != nil { // such a struct always marshals
		return ""
	}
	if base64.RawURLEncoding.EncodedLen(len(raw)) > maxUserHeader {
		return User{Name: u.Name, UID: u.UID, UnknownGroups: true}.Encode()
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// ParseUser is the inverse of Encode. ErrUser.
func ParseUser(value string) (User, error) {
	var u User
	if len(value) > maxUserHeader {
		return u, fmt.Errorf("%w: %d characters", ErrUser, len(value))
	}
	raw, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil {
		return u, fmt.Errorf("%w: %w", ErrUser, err)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&u); err != nil || dec.InputOffset() != int64(len(raw)) {
		return User{}, fmt.Errorf("%w: no JSON object of a user", ErrUser)
	}
	for _, name := range append([]string{u.Name}, u.Groups...) {
		if !validUserName(name) {
			return User{}, fmt.Errorf("%w: the name %.64q", ErrUser, name)
		}
	}
	if u.Encode() != value { // one encoding only: no member twice, none in other case
		return User{}, fmt.Errorf("%w: another encoding", ErrUser)
	}
	return u, nil
}

func validUserName(name string) bool {
	return len(name) <= maxUserName && utf8.ValidString(name) && !strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '/' || r == ':' })
}
