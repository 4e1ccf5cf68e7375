package wire

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"github.com/kmsfs/kmsfs/keymgr"
)

// Headers and other constants of the protocol.
const (
	HeaderTarget    = "X-Amz-Target"
	HeaderForward   = "X-Kmsfs-Forward" // for whom a registered front end asks; see EncodeForward
	HeaderRequestID = "X-Amzn-Requestid"
	ContentType     = "application/x-amz-json-1.1"

	ServiceAWS   = "TrentService."
	ServiceKmsfs = "KmsfsService."

	MaxBody    = 256 << 10 // bytes of a request
	MaxAnswer  = 16 << 20  // bytes of an answer; a list of volumes is the longest
	maxForward = 24 << 10  // characters of HeaderForward
	maxPath    = 4096      // bytes of a forwarded path
)

// forward is the JSON in HeaderForward.
type forward struct {
	UID     int    `json:"uid"`
	GID     int    `json:"gid"`
	PID     int    `json:"pid"`
	Program string `json:"program"`
	Path    string `json:"path"`
}

// EncodeForward returns the value of HeaderForward for a forwarded caller: URL-safe base64 without padding of a JSON object {uid, gid, pid, program, path}. Bytes
// of a path that are not UTF-8 stand as \xNN; what is longer than a path may be is cut.
func EncodeForward(c keymgr.Caller) string {
	raw, err := json.Marshal(forward{c.UID, c.GID, c.PID, text(c.Program), text(c.Path)})
	if err != nil { // such a struct always marshals
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// text makes valid UTF-8 of at most maxPath bytes from a file's name, which may be any bytes.
func text(s string) string {
	if utf8.ValidString(s) && len(s) <= maxPath {
		return s
	}
	var b []byte
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		next := []byte(s[:n])
		if r == utf8.RuneError && n == 1 {
			next = fmt.Appendf(nil, "\\x%02x", s[0])
		}
		if len(b)+len(next) > maxPath {
			break
		}
		b, s = append(b, next...), s[n:]
	}
	return string(b)
}

// DecodeForward is the inverse of EncodeForward; Via is set to keymgr.ViaFileDaemon. Error: keymgr.ErrValidation.
func DecodeForward(value string) (keymgr.Caller, error) {
	bad := &keymgr.Fault{Class: keymgr.ErrValidation, Message: HeaderForward + " is malformed"}
	if len(value) > maxForward {
		return keymgr.Caller{}, bad
	}
	raw, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil {
		return keymgr.Caller{}, bad
	}
	var f forward
	if len(raw) == 0 || Decode(raw, &f) != nil || len(f.Program) > maxPath || len(f.Path) > maxPath || f.UID < 0 || f.GID < 0 || f.PID < 0 {
		return keymgr.Caller{}, bad
	}
	return keymgr.Caller{UID: f.UID, GID: f.GID, PID: f.PID, Program: f.Program, Path: f.Path, Via: keymgr.ViaFileDaemon}, nil
}
