//go:build cgo

package pkcs11

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/kmsfs/kmsfs/hsm"
)

var _ hsm.Importer = (*Token)(nil)

// ImportKey implements hsm.Importer by C_CreateObject, which takes the key in clear: tokens in FIPS mode refuse that.
func (t *Token) ImportKey(ctx context.Context, id hsm.KeyID, label string, key []byte) (hsm.KeyInfo, error) {
	err := hsm.CheckImport(label, key)
	switch {
	case err != nil:
	case id == sentinelID:
		err = hsm.ErrExists
	case !t.imports:
		err = fmt.Errorf("%w: it takes no keys from outside", hsm.ErrUnfit)
	}
	if err != nil {
		return hsm.KeyInfo{}, t.wrap("import key", id, err)
	}
	in := slices.Clone(key)
	var begun atomic.Bool
	info, err := do(ctx, t, task[hsm.KeyInfo]{alone: true, begun: &begun, done: func() { clear(in) }, run: func(c *conn, s p11.SessionHandle) (hsm.KeyInfo, error) {
		return t.add(c, s, id, &begun, func() (object, error) { return c.create(s, id, label, in, true) })
	}})
	return info, t.wrap("import key", id, err)
}

// create puts a key into the token and refuses one that can be read there.
func (c *conn) create(s p11.SessionHandle, id hsm.KeyID, label string, key []byte, durable bool) (object, error) {
	began := time.Now()
	template := slices.DeleteFunc(keyTemplate(id, label, durable), func(a *p11.Attribute) bool { return a.Type == p11.CKA_VALUE_LEN })
	h, err := c.mod.ctx.CreateObject(s, append(template, p11.NewAttribute(p11.CKA_VALUE, key)))
	if err != nil {
		return object{}, fmt.Errorf("create an AES key: %w", err)
	}
	return c.keep(s, h, id, began, durable, c.unreadable)
}

// takesKeys tries whether keys can be put into the token, with one that goes with the session.
func (c *conn) takesKeys() bool {
	key := make([]byte, hsm.KeySize)
	rand.Read(key) // never fails
	o, err := c.create(c.anchor, hsm.NewKeyID(), "kmsfs-probe", key, false)
	if err != nil {
		return false
	}
	return c.mod.ctx.DestroyObject(c.anchor, o.handle) == nil
}
