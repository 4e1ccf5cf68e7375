//go:build cgo

package pkcs11

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/kmsfs/kmsfs/hsm"
)

var _ hsm.Signer = (*Token)(nil)

// What PKCS#11 3.0 added, which the binding does not name.
const (
	ckkECEdwards          = 0x40
	ckmECEdwardsKeyPairGn = 0x1055
	ckmEdDSA              = 0x1057
)

// curve is a kind of key pair that a token may be able to make.
type curve struct {
	algorithm string
	keyType   uint
	params    []byte // CKA_EC_PARAMS
	generate  uint
	sign      uint
	point     int // length of the public key, in bytes
}

// curves are tried in this order. Ed25519 has two spellings of its parameters: SoftHSM and PKCS#11 3.0 take the name, others the object identifier.
var curves = []curve{
	{hsm.Ed25519, ckkECEdwards, append([]byte{0x13, 12}, "edwards25519"...), ckmECEdwardsKeyPairGn, ckmEdDSA, 32},
	{hsm.Ed25519, ckkECEdwards, []byte{6, 3, 0x2b, 0x65, 0x70}, ckmECEdwardsKeyPairGn, ckmEdDSA, 32},
	{hsm.ECDSAP256, p11.CKK_EC, []byte{6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}, p11.CKM_EC_KEY_PAIR_GEN, p11.CKM_ECDSA, 65},
}

// pair is a key pair under its handles in a session.
type pair struct {
	private, public p11.ObjectHandle
	curve           curve
	key             hsm.SigningKey
}

func pairTemplates(c curve, id hsm.KeyID, label string) (public, private []*p11.Attribute) {
	public = []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PUBLIC_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, c.keyType), p11.NewAttribute(p11.CKA_TOKEN, true),
		p11.NewAttribute(p11.CKA_VERIFY, true), p11.NewAttribute(p11.CKA_EC_PARAMS, c.params), p11.NewAttribute(p11.CKA_ID, id[:]), p11.NewAttribute(p11.CKA_LABEL, label),
	}
	private = []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, c.keyType), p11.NewAttribute(p11.CKA_TOKEN, true),
		p11.NewAttribute(p11.CKA_PRIVATE, true), p11.NewAttribute(p11.CKA_SENSITIVE, true), p11.NewAttribute(p11.CKA_EXTRACTABLE, false),
		p11.NewAttribute(p11.CKA_SIGN, true), p11.NewAttribute(p11.CKA_ID, id[:]), p11.NewAttribute(p11.CKA_LABEL, label),
	}
	return public, private
}

// GenerateSigningKey implements hsm.Signer.
func (t *Token) GenerateSigningKey(ctx context.Context, id hsm.KeyID, label string) (hsm.SigningKey, error) {
	if err := hsm.CheckLabel(label); err != nil {
		return hsm.SigningKey{}, t.wrap("generate signing key", id, err)
	}
	var begun atomic.Bool
	key, err := do(ctx, t, task[hsm.SigningKey]{alone: true, begun: &begun, run: func(c *conn, s p11.SessionHandle) (hsm.SigningKey, error) {
		return t.generatePair(c, s, id, label, &begun)
	}})
	return key, t.wrap("generate signing key", id, err)
}

func (t *Token) generatePair(c *conn, s p11.SessionHandle, id hsm.KeyID, label string, begun *atomic.Bool) (hsm.SigningKey, error) {
	if err := c.check(s, t.known); err != nil {
		return hsm.SigningKey{}, errors.Join(errLost, err)
	}
	found, err := c.searchPair(s, id, p11.CKO_PRIVATE_KEY)
	if err != nil {
		return hsm.SigningKey{}, err
	}
	if len(found) > 0 {
		return hsm.SigningKey{}, hsm.ErrExists
	}
	var why []error
	for _, k := range curves[t.cfg.signing:] {
		begun.Store(true)
		key, err := c.makePair(s, k, id, label)
		if err == nil {
			return key, nil
		}
		if lost(err) {
			return hsm.SigningKey{}, err
		}
		why = append(why, fmt.Errorf("%s: %w", k.algorithm, errors.New(err.Error()))) // a refusal, not a lost token
	}
	return hsm.SigningKey{}, fmt.Errorf("%w: it makes no key that can sign: %w", hsm.ErrUnfit, errors.Join(why...))
}

// makePair makes a key pair and refuses one that does not sign, or whose private key can be read.
func (c *conn) makePair(s p11.SessionHandle, k curve, id hsm.KeyID, label string) (hsm.SigningKey, error) {
	began := time.Now()
	public, private := pairTemplates(k, id, label)
	hPub, hPriv, err := c.mod.ctx.GenerateKeyPair(s, []*p11.Mechanism{p11.NewMechanism(k.generate, nil)}, public, private)
	if err != nil {
		return hsm.SigningKey{}, err
	}
	p, err := c.describePair(s, hPriv, hPub, id)
	if err == nil {
		err = c.protectedPair(s, hPriv)
	}
	if err == nil {
		_, err = c.signWith(s, p, []byte("kmsfs probe"))
	}
	if err != nil {
		_ = c.mod.ctx.DestroyObject(s, hPriv) // it has signed nothing
		_ = c.mod.ctx.DestroyObject(s, hPub)
		return hsm.SigningKey{}, err
	}
	if c.mod.soft {
		syncSoftHSM(began)
	}
	return p.key, nil
}

func (c *conn) protectedPair(s p11.SessionHandle, h p11.ObjectHandle) error {
	attrs, err := c.mod.ctx.GetAttributeValue(s, h, []*p11.Attribute{
		p11.NewAttribute(p11.CKA_LOCAL, nil), p11.NewAttribute(p11.CKA_SENSITIVE, nil), p11.NewAttribute(p11.CKA_NEVER_EXTRACTABLE, nil)})
	if err != nil {
		return err
	}
	for _, a := range attrs {
		if len(a.Value) != 1 || a.Value[0] == 0 {
			return fmt.Errorf("%w: it makes private keys that can be read", hsm.ErrUnfit)
		}
	}
	return nil
}

// FindSigningKey implements hsm.Signer.
func (t *Token) FindSigningKey(ctx context.Context, id hsm.KeyID) (hsm.SigningKey, error) {
	key, err := do(ctx, t, task[hsm.SigningKey]{run: func(c *conn, s p11.SessionHandle) (hsm.SigningKey, error) {
		p, err := t.findPair(c, s, id)
		return p.key, err
	}})
	return key, t.wrap("find signing key", id, err)
}

// Sign implements hsm.Signer.
func (t *Token) Sign(ctx context.Context, id hsm.KeyID, message []byte) ([]byte, error) {
	if err := hsm.CheckMessage(message); err != nil {
		return nil, t.wrap("sign with key", id, err)
	}
	message = slices.Clone(message)
	sig, err := do(ctx, t, task[[]byte]{run: func(c *conn, s p11.SessionHandle) ([]byte, error) {
		p, err := t.findPair(c, s, id)
		if err != nil {
			return nil, err
		}
		return c.signWith(s, p, message)
	}})
	return sig, t.wrap("sign with key", id, err)
}

func (c *conn) signWith(s p11.SessionHandle, p pair, message []byte) ([]byte, error) {
	if p.curve.algorithm == hsm.ECDSAP256 {
		sum := sha256.Sum256(message)
		message = sum[:]
	}
	if err := c.mod.ctx.SignInit(s, []*p11.Mechanism{p11.NewMechanism(p.curve.sign, nil)}, p.private); err != nil {
		return nil, err
	}
	sig, err := c.mod.ctx.Sign(s, message)
	if err == nil && len(sig) != 64 {
		err = fmt.Errorf("%w: it makes a signature of %d bytes", hsm.ErrUnfit, len(sig))
	}
	return sig, err
}

// DestroySigningKey implements hsm.Signer.
func (t *Token) DestroySigningKey(ctx context.Context, id hsm.KeyID) error {
	var begun atomic.Bool
	_, err := do(ctx, t, task[struct{}]{alone: true, begun: &begun, run: func(c *conn, s p11.SessionHandle) (none struct{}, err error) {
		p, err := t.findPair(c, s, id)
		if err != nil {
			return none, err
		}
		begun.Store(true)
		began := time.Now()
		err = errors.Join(c.mod.ctx.DestroyObject(s, p.private), c.mod.ctx.DestroyObject(s, p.public))
		if err == nil && c.mod.soft {
			syncSoftHSM(began)
		}
		return none, err
	}})
	return t.wrap("destroy signing key", id, err)
}

// findPair looks a pair up in the token; seals are few, so nothing is cached.
func (t *Token) findPair(c *conn, s p11.SessionHandle, id hsm.KeyID) (pair, error) {
	private, err := c.searchPair(s, id, p11.CKO_PRIVATE_KEY)
	if err != nil {
		return pair{}, err
	}
	public, err := c.searchPair(s, id, p11.CKO_PUBLIC_KEY)
	if err != nil {
		return pair{}, err
	}
	switch {
	case len(private) == 0:
		return pair{}, t.absent(c, s)
	case len(private) > 1 || len(public) != 1:
		return pair{}, fmt.Errorf("%w: it has %d private and %d public keys of this id", hsm.ErrUnfit, len(private), len(public))
	}
	return c.describePair(s, private[0], public[0], id)
}

func (c *conn) searchPair(s p11.SessionHandle, id hsm.KeyID, class uint) ([]p11.ObjectHandle, error) {
	template := []*p11.Attribute{p11.NewAttribute(p11.CKA_CLASS, class), p11.NewAttribute(p11.CKA_TOKEN, true), p11.NewAttribute(p11.CKA_ID, id[:])}
	return c.findObjects(s, template)
}

func (c *conn) describePair(s p11.SessionHandle, private, public p11.ObjectHandle, id hsm.KeyID) (pair, error) {
	attrs, err := c.mod.ctx.GetAttributeValue(s, public, []*p11.Attribute{
		p11.NewAttribute(p11.CKA_LABEL, nil), p11.NewAttribute(p11.CKA_EC_PARAMS, nil), p11.NewAttribute(p11.CKA_EC_POINT, nil)})
	if err != nil {
		return pair{}, fmt.Errorf("read the attributes of signing key %s: %w", id, err)
	}
	p := pair{private: private, public: public, key: hsm.SigningKey{ID: id, Label: string(attrs[0].Value)}}
	for _, k := range curves {
		if bytes.Equal(attrs[1].Value, k.params) {
			p.curve, p.key.Algorithm = k, k.algorithm
		}
	}
	p.key.Public = attrs[2].Value
	var inner []byte // DER octet string, in most modules
	if rest, err := asn1.Unmarshal(attrs[2].Value, &inner); err == nil && len(rest) == 0 {
		p.key.Public = inner
	}
	if p.key.Algorithm == "" || len(p.key.Public) != p.curve.point {
		return pair{}, fmt.Errorf("%w: signing key %s has parameters %x and a point of %d bytes", hsm.ErrUnfit, id, attrs[1].Value, len(p.key.Public))
	}
	return p, nil
}
