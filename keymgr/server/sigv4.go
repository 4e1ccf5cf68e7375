package server

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/policy"
)

// Signature Version 4, the server's side.
const (
	sigAlgorithm  = "AWS4-HMAC-SHA256"
	sigService    = "kms"
	sigTerminator = "aws4_request"
	sigTime       = "20060102T150405Z"
	sigSkew       = 5 * time.Minute

	// AWS' command line signs the second, target and body, nothing that is different for each request: two equal ones within a second have one signature. So one is taken
	// again for this long after it was seen first.
	sigRepeat = 5 * time.Second
)

// signature is an Authorization header.
type signature struct {
	accessKey, date, region, service, terminator string
	headers                                      []string // signed, in the order given
	hex                                          string
}

// signatures verifies signed requests.
type signatures struct {
	now     func() time.Time
	replays replays
}

// newSignatures verifies by a clock, and remembers signatures in so much memory, in bytes (0: DefaultReplayMemory).
func newSignatures(now func() time.Time, memory int64) *signatures {
	if memory <= 0 {
		memory = DefaultReplayMemory
	}
	return &signatures{now: now, replays: replays{now: now, limit: int(memory / signatureSize)}}
}

func fail(class error, format string, args ...any) error {
	return &keymgr.Fault{Class: class, Message: fmt.Sprintf(format, args...)}
}

// credentials finds the secret of an access key.
type credentials interface {
	Credentials(ctx context.Context, accessKeyID string) (secret string, who policy.Principal, err error)
}

// verify says who signed the request, whose body is given, with which access key. Errors, with AWS' texts: keymgr.ErrMissingToken, ErrIncompleteSignature, ErrInvalidSignature, ErrUnrecognizedClient, ErrThrottling, and
// those of keys.
func (s *signatures) verify(ctx context.Context, r *http.Request, body []byte, keys credentials) (who policy.Principal, accessKey string, err error) {
	sig, err := parseSignature(r)
	if err != nil {
		return who, "", err
	}
	at, signed, err := s.checkTime(r)
	if err != nil {
		return who, "", err
	}
	if r.Header.Get("X-Amz-Security-Token") != "" { // there are no temporary credentials
		return who, "", fail(keymgr.ErrUnrecognizedClient, "The security token included in the request is invalid.")
	}
	secret, who, err := keys.Credentials(ctx, sig.accessKey)
	if err != nil {
		return who, "", err
	}
	if err := sig.checkScope(r); err != nil {
		return who, "", err
	}
	if err := sig.checkHeaders(r); err != nil {
		return who, "", err
	}
	if !hmac.Equal([]byte(sig.sign(secret, at, r, body)), []byte(sig.hex)) {
		return who, "", fail(keymgr.ErrInvalidSignature, "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	return who, sig.accessKey, s.replays.check(sig.hex, signed)
}

// parseSignature reads the Authorization header.
func parseSignature(r *http.Request) (sig signature, err error) {
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return sig, fail(keymgr.ErrMissingToken, "Missing Authentication Token")
	}
	algorithm, rest, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || algorithm != sigAlgorithm {
		return sig, fail(keymgr.ErrIncompleteSignature, "Unsupported AWS 'algorithm': only %s is supported.", sigAlgorithm)
	}
	parts := map[string]string{}
	for _, p := range strings.Split(rest, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(p), "=")
		if _, twice := parts[name]; !ok || twice {
			return sig, fail(keymgr.ErrIncompleteSignature, "Authorization header is malformed.")
		}
		parts[name] = value
	}
	for _, name := range []string{"Credential", "Signature", "SignedHeaders"} {
		if parts[name] == "" {
			return sig, fail(keymgr.ErrIncompleteSignature, "Authorization header requires '%s' parameter.", name)
		}
	}
	scope := strings.Split(parts["Credential"], "/")
	if len(scope) != 5 || len(parts["Signature"]) != 2*sha256.Size {
		return sig, fail(keymgr.ErrIncompleteSignature, "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, and Signature 64 hexadecimal digits.")
	}
	return signature{scope[0], scope[1], scope[2], scope[3], scope[4], strings.Split(parts["SignedHeaders"], ";"), parts["Signature"]}, nil
}

// checkTime returns the header's time of the request, as it stands there and read, if it is near enough.
func (s *signatures) checkTime(r *http.Request) (text string, at time.Time, err error) {
	values := r.Header.Values("X-Amz-Date")
	if len(values) != 1 {
		return "", at, fail(keymgr.ErrIncompleteSignature, "Authorization header requires existence of an 'X-Amz-Date' header.")
	}
	if at, err = time.Parse(sigTime, values[0]); err != nil {
		return "", at, fail(keymgr.ErrIncompleteSignature, "Date must be in ISO-8601 'basic format'. Got '%.32s'.", values[0])
	}
	now := s.now().UTC().Truncate(time.Second)
	switch {
	case at.Before(now.Add(-sigSkew)):
		return "", at, fail(keymgr.ErrInvalidSignature, "Signature expired: %s is now earlier than %s (%s - 5 min.)", values[0], now.Add(-sigSkew).Format(sigTime), now.Format(sigTime))
	case at.After(now.Add(sigSkew)):
		return "", at, fail(keymgr.ErrInvalidSignature, "Signature not yet current: %s is still later than %s (%s + 5 min.)", values[0], now.Add(sigSkew).Format(sigTime), now.Format(sigTime))
	}
	return values[0], at, nil
}

// checkScope compares the credential's scope with the request and with us.
func (sig *signature) checkScope(r *http.Request) error {
	at := r.Header.Get("X-Amz-Date")
	switch {
	case sig.date != at[:8]:
		return fail(keymgr.ErrInvalidSignature, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%.16s' != '%s', from '%s'.", sig.date, at[:8], at)
	case sig.region != keymgr.Region:
		return fail(keymgr.ErrInvalidSignature, "Credential should be scoped to a valid region. ")
	case sig.service != sigService:
		return fail(keymgr.ErrInvalidSignature, "Credential should be scoped to correct service: '%s'. ", sigService)
	case sig.terminator != sigTerminator:
		return fail(keymgr.ErrInvalidSignature, "Credential should be scoped with a valid terminator: '%s'. ", sigTerminator)
	}
	return nil
}

// checkHeaders insists that what decides what a request means is signed.
func (sig *signature) checkHeaders(r *http.Request) error {
	if !slices.IsSorted(sig.headers) || slices.ContainsFunc(sig.headers, func(h string) bool { return h == "" || h != strings.ToLower(h) }) {
		return fail(keymgr.ErrIncompleteSignature, "SignedHeaders must be sorted and in lower case.")
	}
	must := []string{"host", "x-amz-date", "x-amz-target"}
	for name := range r.Header {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "x-amz-") {
			must = append(must, lower)
		}
	}
	for _, name := range must {
		if !slices.Contains(sig.headers, name) {
			return fail(keymgr.ErrInvalidSignature, "'%s' must be a 'SignedHeader' in the AWS Authorization.", name)
		}
	}
	return nil
}

// sign computes the signature that the request should have.
func (sig *signature) sign(secret, at string, r *http.Request, body []byte) string {
	var canonical strings.Builder
	canonical.WriteString("POST\n/\n\n")
	for _, name := range sig.headers {
		canonical.WriteString(name + ":" + headerValue(r, name) + "\n")
	}
	sum := sha256.Sum256(body)
	canonical.WriteString("\n" + strings.Join(sig.headers, ";") + "\n" + hex.EncodeToString(sum[:]))
	hashed := sha256.Sum256([]byte(canonical.String()))
	scope := strings.Join([]string{sig.date, sig.region, sig.service, sig.terminator}, "/")
	text := strings.Join([]string{sigAlgorithm, at, scope, hex.EncodeToString(hashed[:])}, "\n")
	key := []byte("AWS4" + secret)
	for _, part := range []string{sig.date, sig.region, sig.service, sig.terminator, text} {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(part))
		key = h.Sum(nil)
	}
	return hex.EncodeToString(key)
}

// headerValue is a header in canonical form; net/http keeps two of them elsewhere.
func headerValue(r *http.Request, name string) string {
	switch name {
	case "host":
		return r.Host
	case "content-length":
		return fmt.Sprint(r.ContentLength)
	}
	values := slices.Clone(r.Header.Values(name))
	for i, v := range values {
		values[i] = strings.Join(strings.Fields(v), " ")
	}
	return strings.Join(values, ",")
}
