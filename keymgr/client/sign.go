package client

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

// AccessKey is an identity's: who has it asks in its name.
type AccessKey struct{ ID, Secret string }

// sign signs a request by Signature Version 4, with what it means: host, time and operation, and the body.
func (k *AccessKey) sign(r *http.Request, body []byte, now time.Time) {
	const names = "host;x-amz-date;x-amz-target"
	at := now.UTC().Format("20060102T150405Z")
	r.Header.Set("X-Amz-Date", at)
	digest := sha256.Sum256(body)
	canonical := fmt.Sprintf("POST\n/\n\nhost:%s\nx-amz-date:%s\nx-amz-target:%s\n\n%s\n%x", r.URL.Host, at, r.Header.Get(wire.HeaderTarget), names, digest)
	scope := []string{at[:8], keymgr.Region, "kms", "aws4_request"}
	hashed := sha256.Sum256([]byte(canonical))
	text := strings.Join([]string{"AWS4-HMAC-SHA256", at, strings.Join(scope, "/"), hex.EncodeToString(hashed[:])}, "\n")
	key := []byte("AWS4" + k.Secret)
	for _, part := range append(scope, text) {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(part))
		clear(key)
		key = h.Sum(nil)
	}
	r.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%x", k.ID, strings.Join(scope, "/"), names, key))
}
