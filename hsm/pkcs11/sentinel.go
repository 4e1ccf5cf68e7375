//go:build cgo

package pkcs11

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	p11 "github.com/miekg/pkcs11"

	"github.com/kmsfs/kmsfs/hsm"
)

// The sentinel is an AES key that encrypts nothing of value. It is in the token
// from the first use on and never destroyed, so its absence means that the token
// is away, or another one.
const sentinelLabel = "kmsfs-sentinel"

// sentinelID is the CKA_ID of the sentinel; no other key may have it.
var sentinelID = hsm.KeyID([]byte(sentinelLabel + "\x00\x00"))

// known is the known answer: a fixed plaintext sealed under the sentinel.
type known struct {
	check  []byte // check value of the sentinel
	iv, ct []byte
}

var knownPlain, knownAAD = []byte("kmsfs known answer: the token is in order"), []byte("kmsfs known answer")

// firstSentinel finds the sentinel, or makes it if that is allowed, and seals
// the known answer.
func (c *conn) firstSentinel(create bool) (known, error) {
	found, err := c.sentinels(c.anchor)
	if err != nil {
		return known{}, fmt.Errorf("look for the sentinel: %w", err)
	}
	if len(found) == 0 {
		if !create {
			return known{}, fmt.Errorf("%w: token %q (serial %s) has no object %q: it was never prepared for kmsfs, "+
				"or it is another token with the same label", hsm.ErrUnfit, c.info.Label, c.info.Serial, sentinelLabel)
		}
		o, err := c.generate(c.anchor, sentinelID, sentinelLabel, true)
		if err != nil {
			return known{}, fmt.Errorf("make the sentinel: %w", err)
		}
		found = []object{o}
	}
	o := found[0]
	iv := make([]byte, ivSize)
	rand.Read(iv) // never fails
	k := known{check: o.info.CheckValue}
	if k.iv, k.ct, err = c.mod.native.encrypt(c.anchor, o.handle, iv, knownPlain, knownAAD); err != nil {
		return known{}, fmt.Errorf("%w: AES-GCM with the sentinel: %w", hsm.ErrUnfit, err)
	}
	c.remember(o)
	if err := c.check(c.anchor, k); err != nil {
		return known{}, fmt.Errorf("%w: %w", hsm.ErrUnfit, err)
	}
	return k, nil
}

// sameSentinel finds the sentinel of an earlier connection again. If it is not
// there, this is not the token of before: hsm.ErrTokenAway, as that one may come
// back.
func (c *conn) sameSentinel(k known) error {
	found, err := c.sentinels(c.anchor)
	if err != nil {
		return fmt.Errorf("%w: look for the sentinel: %w", hsm.ErrTokenAway, err)
	}
	i := slices.IndexFunc(found, func(o object) bool { return bytes.Equal(o.info.CheckValue, k.check) })
	if i < 0 {
		return fmt.Errorf("%w: there is a token labelled %q, but not the one of before (its sentinel is missing)",
			hsm.ErrTokenAway, c.info.Label)
	}
	c.remember(found[i])
	if err := c.check(c.anchor, k); err != nil {
		return fmt.Errorf("%w: %w", hsm.ErrTokenAway, err)
	}
	return nil
}

// sentinels are the sentinels of the token in the order of their check values:
// two, if two key stores were made on a new token at the same moment.
func (c *conn) sentinels(s p11.SessionHandle) ([]object, error) {
	handles, err := c.search(s, sentinelID, sentinelLabel)
	if err != nil {
		return nil, err
	}
	var found []object
	for _, h := range handles {
		o, err := c.describe(s, h, sentinelID)
		if err != nil {
			return nil, err
		}
		found = append(found, o)
	}
	slices.SortFunc(found, func(a, b object) int { return bytes.Compare(a.info.CheckValue, b.info.CheckValue) })
	return found, nil
}

// check decrypts the known answer in session s: nil means that the token, the
// login and the session are in order.
func (c *conn) check(s p11.SessionHandle, k known) error {
	o, ok := c.cached(sentinelID)
	if !ok {
		return errors.New("no sentinel in this connection")
	}
	plain, err := c.mod.native.decrypt(s, o.handle, k.iv, k.ct, knownAAD)
	if err != nil {
		return fmt.Errorf("decrypt the known answer: %w", err)
	}
	if !bytes.Equal(plain, knownPlain) {
		return errors.New("the known answer decrypts to something else")
	}
	return nil
}
