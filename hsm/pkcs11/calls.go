//go:build cgo

package pkcs11

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/kmsfs/kmsfs/hsm"
)

// GenerateKey implements hsm.Token.
func (t *Token) GenerateKey(ctx context.Context, id hsm.KeyID, label string) (hsm.KeyInfo, error) {
	if err := hsm.CheckLabel(label); err != nil {
		return hsm.KeyInfo{}, t.wrap("generate key", id, err)
	}
	if id == sentinelID {
		return hsm.KeyInfo{}, t.wrap("generate key", id, hsm.ErrExists)
	}
	var begun atomic.Bool
	info, err := do(ctx, t, task[hsm.KeyInfo]{alone: true, begun: &begun, run: func(c *conn, s p11.SessionHandle) (hsm.KeyInfo, error) {
		return t.add(c, s, id, &begun, func() (object, error) { return c.generate(s, id, label, true) })
	}})
	return info, t.wrap("generate key", id, err)
}

// add has make add a key, after making sure that the token is there and the id is
// free. It is alone in the module; a key that another process makes at the same
// moment is seen afterwards.
func (t *Token) add(c *conn, s p11.SessionHandle, id hsm.KeyID, begun *atomic.Bool, make func() (object, error)) (hsm.KeyInfo, error) {
	if err := c.check(s, t.known); err != nil {
		return hsm.KeyInfo{}, errors.Join(errLost, err)
	}
	found, err := c.search(s, id, "")
	if err != nil {
		return hsm.KeyInfo{}, err
	}
	if len(found) > 0 {
		return hsm.KeyInfo{}, hsm.ErrExists
	}
	begun.Store(true)
	o, err := make()
	if err != nil {
		return hsm.KeyInfo{}, err
	}
	if found, err = c.search(s, id, ""); err == nil && len(found) > 1 {
		err = hsm.ErrExists
	}
	if err != nil {
		_ = c.mod.ctx.DestroyObject(s, o.handle) // it has encrypted nothing
		return hsm.KeyInfo{}, err
	}
	t.expect(o.info)
	c.remember(o)
	return clone(o.info), nil
}

// FindKey implements hsm.Token. It asks the token, whatever is cached.
func (t *Token) FindKey(ctx context.Context, id hsm.KeyID) (hsm.KeyInfo, error) {
	info, err := do(ctx, t, task[hsm.KeyInfo]{run: func(c *conn, s p11.SessionHandle) (hsm.KeyInfo, error) {
		o, err := t.find(c, s, id)
		return clone(o.info), err
	}})
	return info, t.wrap("find key", id, err)
}

// Encrypt implements hsm.Token: AES-256-GCM with a random 96-bit IV. The caller
// keeps the number of calls under one key below 2^32.
func (t *Token) Encrypt(ctx context.Context, id hsm.KeyID, plaintext, aad []byte) (hsm.Sealed, error) {
	if err := hsm.CheckEncrypt(plaintext, aad); err != nil {
		return hsm.Sealed{}, t.wrap("encrypt with key", id, err)
	}
	in, aad := slices.Clone(plaintext), slices.Clone(aad)
	sealed, err := do(ctx, t, task[hsm.Sealed]{
		done: func() { clear(in) },
		run: func(c *conn, s p11.SessionHandle) (sealed hsm.Sealed, err error) {
			err = t.withKey(c, s, id, func(key p11.ObjectHandle) (err error) {
				sealed, err = c.seal(s, key, in, aad)
				return err
			})
			return sealed, err
		},
	})
	return sealed, t.wrap("encrypt with key", id, err)
}

// seal encrypts under a fresh IV.
func (c *conn) seal(s p11.SessionHandle, key p11.ObjectHandle, in, aad []byte) (hsm.Sealed, error) {
	iv := make([]byte, ivSize)
	rand.Read(iv) // never fails
	iv, ct, err := c.mod.native.encrypt(s, key, iv, in, aad)
	if err != nil {
		return hsm.Sealed{}, err
	}
	return hsm.Sealed{Mechanism: hsm.AESGCM, IV: iv, Ciphertext: ct}, nil
}

// Decrypt implements hsm.Token. It opens what an embedded token made under a key that was imported from there, too.
func (t *Token) Decrypt(ctx context.Context, id hsm.KeyID, s hsm.Sealed, aad []byte) ([]byte, error) {
	if s.Mechanism == hsm.XAES256GCM {
		return t.decryptXAES(ctx, id, s, aad)
	}
	if err := hsm.CheckDecrypt(s, aad, hsm.AESGCM, ivSize); err != nil {
		return nil, t.wrap("decrypt with key", id, err)
	}
	iv, in, aad := slices.Clone(s.IV), slices.Clone(s.Ciphertext), slices.Clone(aad)
	plain, err := do(ctx, t, task[[]byte]{
		blob:    true,
		discard: func(plain []byte) { clear(plain) },
		run: func(c *conn, s p11.SessionHandle) (plain []byte, err error) {
			err = t.withKey(c, s, id, func(key p11.ObjectHandle) (err error) {
				plain, err = c.mod.native.decrypt(s, key, iv, in, aad)
				return err
			})
			return plain, err
		},
	})
	return plain, t.wrap("decrypt with key", id, err)
}

// DestroyKey implements hsm.Token.
func (t *Token) DestroyKey(ctx context.Context, id hsm.KeyID) error {
	var begun atomic.Bool
	_, err := do(ctx, t, task[struct{}]{alone: true, begun: &begun, run: func(c *conn, s p11.SessionHandle) (none struct{}, err error) {
		o, err := t.find(c, s, id)
		if err != nil {
			return none, err
		}
		begun.Store(true)
		began := time.Now()
		c.forget(id)
		if err := c.mod.ctx.DestroyObject(s, o.handle); err != nil {
			return none, err
		}
		t.unexpect(id)
		if c.mod.soft {
			syncSoftHSM(began)
		}
		return none, nil
	}})
	return t.wrap("destroy key", id, err)
}

// Info implements hsm.Token: it decrypts the known answer.
func (t *Token) Info(ctx context.Context) (hsm.Info, error) {
	info, err := do(ctx, t, task[hsm.Info]{run: func(c *conn, s p11.SessionHandle) (hsm.Info, error) {
		if err := c.check(s, t.known); err != nil {
			return hsm.Info{}, errors.Join(errLost, err)
		}
		info := c.info
		info.Mechanisms = slices.Clone(info.Mechanisms)
		info.Imports = t.imports
		return info, nil
	}})
	if err != nil {
		return hsm.Info{}, fmt.Errorf("look at PKCS#11 token %q: %w", t.cfg.TokenLabel, err)
	}
	return info, nil
}

// withKey runs fn with the handle of a key. A handle that turns out invalid is
// looked up once more, if the known answer says that the token is in order.
func (t *Token) withKey(c *conn, s p11.SessionHandle, id hsm.KeyID, fn func(p11.ObjectHandle) error) error {
	if id == sentinelID {
		return hsm.ErrKeyNotFound
	}
	if o, ok := c.cached(id); ok {
		err := fn(o.handle)
		if !handleGone(err) {
			return err
		}
		c.forget(id)
		if kerr := c.check(s, t.known); kerr != nil {
			return errors.Join(errLost, err, kerr)
		}
	}
	o, err := t.find(c, s, id)
	if err != nil {
		return err
	}
	if err = fn(o.handle); handleGone(err) {
		return errors.Join(errLost, err)
	}
	return err
}

// find searches the token for a key and remembers its handle. A key that was
// seen before must be the same: id, label and check value.
func (t *Token) find(c *conn, s p11.SessionHandle, id hsm.KeyID) (object, error) {
	if id == sentinelID {
		return object{}, hsm.ErrKeyNotFound
	}
	handles, err := c.search(s, id, "")
	if err != nil {
		return object{}, err
	}
	if len(handles) == 0 {
		c.forget(id)
		return object{}, t.absent(c, s)
	}
	var found []object
	for _, h := range handles {
		o, err := c.describe(s, h, id)
		if err != nil {
			return object{}, err
		}
		found = append(found, o)
	}
	o, err := t.choose(id, found)
	if err != nil {
		c.forget(id)
		return object{}, err
	}
	c.remember(o)
	return o, nil
}

// absent says what it means that a key is not found: hsm.ErrKeyNotFound if the
// sentinel is, else that the token is away. SoftHSM finds nothing at all then.
func (t *Token) absent(c *conn, s p11.SessionHandle) error {
	handles, err := c.search(s, sentinelID, sentinelLabel)
	switch {
	case err != nil:
		return err
	case len(handles) == 0:
		return fmt.Errorf("%w: neither the key nor the sentinel is found", errLost)
	}
	if err := c.check(s, t.known); err != nil {
		return errors.Join(errLost, err)
	}
	return hsm.ErrKeyNotFound
}

// choose picks the key seen before among those of its id.
func (t *Token) choose(id hsm.KeyID, found []object) (object, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before, known := t.mu.seen[id]
	if !known {
		if len(found) > 1 {
			return object{}, fmt.Errorf("%w: it has %d keys of this id", hsm.ErrUnfit, len(found))
		}
		t.mu.seen[id] = found[0].info
		return found[0], nil
	}
	for _, o := range found {
		if o.info.Label == before.Label && bytes.Equal(o.info.CheckValue, before.CheckValue) {
			return o, nil
		}
	}
	return object{}, fmt.Errorf("%w: label %q and check value %x instead of %q and %x", hsm.ErrKeyMismatch,
		found[0].info.Label, found[0].info.CheckValue, before.Label, before.CheckValue)
}

// expect notes what a key must look like from now on.
func (t *Token) expect(info hsm.KeyInfo) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.seen[info.ID] = info
}

func (t *Token) unexpect(id hsm.KeyID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.mu.seen, id)
}

func (t *Token) wrap(op string, id hsm.KeyID, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s in PKCS#11 token %q: %w", op, id, t.cfg.TokenLabel, err)
}

func clone(info hsm.KeyInfo) hsm.KeyInfo {
	info.CheckValue = slices.Clone(info.CheckValue)
	return info
}
