//go:build cgo

package pkcs11

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/kmsfs/kmsfs/hsm"
)

// keyTemplate describes the keys we make.
func keyTemplate(id hsm.KeyID, label string, durable bool) []*p11.Attribute {
	return []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY),
		p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_AES),
		p11.NewAttribute(p11.CKA_VALUE_LEN, 32),
		p11.NewAttribute(p11.CKA_TOKEN, durable),
		p11.NewAttribute(p11.CKA_PRIVATE, true),
		p11.NewAttribute(p11.CKA_SENSITIVE, true),
		p11.NewAttribute(p11.CKA_EXTRACTABLE, false),
		p11.NewAttribute(p11.CKA_ENCRYPT, true),
		p11.NewAttribute(p11.CKA_DECRYPT, true),
		p11.NewAttribute(p11.CKA_WRAP, false),
		p11.NewAttribute(p11.CKA_UNWRAP, false),
		p11.NewAttribute(p11.CKA_ID, id[:]),
		p11.NewAttribute(p11.CKA_LABEL, label),
	}
}

// generate makes a key and refuses one that is not as asked for.
func (c *conn) generate(s p11.SessionHandle, id hsm.KeyID, label string, durable bool) (object, error) {
	began := time.Now()
	mech := []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_KEY_GEN, nil)}
	h, err := c.mod.ctx.GenerateKey(s, mech, keyTemplate(id, label, durable))
	if err != nil {
		return object{}, fmt.Errorf("generate an AES key: %w", err)
	}
	return c.keep(s, h, id, began, durable, c.protected)
}

// keep describes a key that was put into the token since began, and destroys it again if fit refuses it: it has encrypted nothing.
func (c *conn) keep(s p11.SessionHandle, h p11.ObjectHandle, id hsm.KeyID, began time.Time, durable bool, fit func(p11.SessionHandle, object) error) (object, error) {
	o, err := c.describe(s, h, id)
	if err == nil {
		err = fit(s, o)
	}
	if err != nil {
		_ = c.mod.ctx.DestroyObject(s, h)
		return object{}, err
	}
	if durable && c.mod.soft {
		syncSoftHSM(began)
	}
	return o, nil
}

// protected checks that a key made here can be neither read nor exported.
func (c *conn) protected(s p11.SessionHandle, o object) error {
	if !o.info.Local || !o.info.Sensitive || !o.info.NeverExtractable {
		return fmt.Errorf("%w: it makes keys with local=%t sensitive=%t non-extractable=%t",
			hsm.ErrUnfit, o.info.Local, o.info.Sensitive, o.info.NeverExtractable)
	}
	return c.unreadable(s, o)
}

// unreadable checks that the token does not give a key away.
func (c *conn) unreadable(s p11.SessionHandle, o object) error {
	attrs, err := c.mod.ctx.GetAttributeValue(s, o.handle, []*p11.Attribute{p11.NewAttribute(p11.CKA_VALUE, nil)})
	if err == nil && len(attrs[0].Value) > 0 {
		clear(attrs[0].Value)
		return fmt.Errorf("%w: it gives away the value of a sensitive key", hsm.ErrUnfit)
	}
	return nil
}

// probe makes a key for the session and tries with it what everything else
// relies on.
func (c *conn) probe() error {
	o, err := c.generate(c.anchor, hsm.NewKeyID(), "kmsfs-probe", false)
	if err != nil {
		return fmt.Errorf("probe the token: %w", err)
	}
	defer func() { _ = c.mod.ctx.DestroyObject(c.anchor, o.handle) }() // gone with the session at the latest
	if err := c.probeGCM(o.handle); err != nil {
		return fmt.Errorf("probe the token: %w", err)
	}
	return nil
}

func (c *conn) probeGCM(key p11.ObjectHandle) error {
	n, s := c.mod.native, c.anchor
	plain, aad, iv := make([]byte, 32), []byte("kmsfs probe"), make([]byte, ivSize)
	rand.Read(plain) // never fails
	rand.Read(iv)
	iv, ct, err := n.encrypt(s, key, iv, plain, aad)
	if err != nil {
		return fmt.Errorf("%w: AES-GCM: %w", hsm.ErrUnfit, err)
	}
	if bytes.Contains(ct, plain) {
		return fmt.Errorf("%w: AES-GCM does not encrypt", hsm.ErrUnfit)
	}
	back, err := n.decrypt(s, key, iv, ct, aad)
	if err != nil || !bytes.Equal(back, plain) {
		return fmt.Errorf("%w: AES-GCM does not give back what it got: %w", hsm.ErrUnfit, orDifferent(err))
	}
	if err := c.refuses(key, iv, ct, aad); err != nil {
		return err
	}
	// The session must be in order after a refusal.
	if back, err = n.decrypt(s, key, iv, ct, aad); err != nil || !bytes.Equal(back, plain) {
		return fmt.Errorf("%w: AES-GCM fails after a refusal: %w", hsm.ErrUnfit, orDifferent(err))
	}
	return nil
}

// refuses tries blobs that are not authentic.
func (c *conn) refuses(key p11.ObjectHandle, iv, ct, aad []byte) error {
	flip := func(b []byte, i int) []byte {
		b = slices.Clone(b)
		b[i] ^= 1
		return b
	}
	for _, try := range []struct {
		name        string
		iv, ct, aad []byte
	}{
		{"another AAD", iv, ct, flip(aad, 0)},
		{"no AAD", iv, ct, nil},
		{"another IV", flip(iv, 0), ct, aad},
		{"another ciphertext", iv, flip(ct, 0), aad},
		{"another tag", iv, flip(ct, len(ct)-1), aad},
	} {
		if _, err := c.mod.native.decrypt(c.anchor, key, try.iv, try.ct, try.aad); err == nil {
			return fmt.Errorf("%w: AES-GCM accepts %s", hsm.ErrUnfit, try.name)
		}
	}
	return nil
}

func orDifferent(err error) error {
	if err == nil {
		return fmt.Errorf("another plaintext")
	}
	return err
}
