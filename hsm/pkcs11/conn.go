//go:build cgo

package pkcs11

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	p11 "github.com/miekg/pkcs11"

	"github.com/kmsfs/kmsfs/hsm"
)

// conn is one connection: everything between C_Initialize and C_Finalize. It is
// used by many goroutines, each with a session of its own.
type conn struct {
	mod    *module
	slot   uint
	info   hsm.Info
	anchor p11.SessionHandle // keeps the login; no call uses it

	mu struct {
		sync.Mutex
		idle []p11.SessionHandle
		keys map[hsm.KeyID]object
	}
}

// object is a key of the token under its handle in this connection.
type object struct {
	handle p11.ObjectHandle
	info   hsm.KeyInfo
}

// connect initialises the module, finds the token and logs in. Nothing is left
// initialised if it fails.
func (m *module) connect(cfg *Config, pin []byte) (*conn, error) {
	if err := m.ctx.Initialize(); err != nil {
		if code(err) == p11.CKR_CRYPTOKI_ALREADY_INITIALIZED {
			return nil, fmt.Errorf("%w: it is in use by something else in this process", hsm.ErrModule)
		}
		return nil, fmt.Errorf("%w: C_Initialize of %s: %w (%s)", hsm.ErrTokenAway, cfg.Module, err, m.hint())
	}
	m.identify()
	c := &conn{mod: m}
	c.mu.keys = make(map[hsm.KeyID]object)
	if err := c.login(cfg, pin); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *conn) login(cfg *Config, pin []byte) (err error) {
	if err = c.findSlot(cfg); err != nil {
		return err
	}
	if c.anchor, err = c.session(); err != nil {
		return fmt.Errorf("%w: open a session: %w", hsm.ErrTokenAway, err)
	}
	err = c.mod.native.login(c.anchor, pin)
	switch code(err) {
	case p11.CKR_OK, p11.CKR_USER_ALREADY_LOGGED_IN:
		return nil
	case p11.CKR_PIN_INCORRECT, p11.CKR_PIN_INVALID, p11.CKR_PIN_LEN_RANGE:
		return fmt.Errorf("%w: token %q refuses the PIN (%w): correct the PIN file; it is not tried again by itself, "+
			"because tokens lock after a few wrong PINs", hsm.ErrPIN, cfg.TokenLabel, err)
	case p11.CKR_PIN_EXPIRED:
		return fmt.Errorf("%w: the PIN of token %q has expired: set a new one with the vendor's tool", hsm.ErrPIN, cfg.TokenLabel)
	case p11.CKR_USER_PIN_NOT_INITIALIZED:
		return fmt.Errorf("%w: token %q has no user PIN yet: set one with the vendor's tool", hsm.ErrPIN, cfg.TokenLabel)
	case p11.CKR_PIN_LOCKED:
		return fmt.Errorf("%w: token %q: its security officer has to unlock it", hsm.ErrLocked, cfg.TokenLabel)
	}
	return fmt.Errorf("%w: log in to token %q: %w", hsm.ErrTokenAway, cfg.TokenLabel, err)
}

// findSlot finds the token by label, and serial if one is given.
func (c *conn) findSlot(cfg *Config) error {
	slots, err := c.mod.ctx.GetSlotList(true)
	if err != nil {
		return fmt.Errorf("%w: list the tokens: %w", hsm.ErrTokenAway, err)
	}
	var seen []string
	found := 0
	for _, slot := range slots {
		t, err := c.mod.ctx.GetTokenInfo(slot)
		if err != nil {
			continue // pulled out between the two calls
		}
		label, serial := strings.TrimRight(t.Label, " \x00"), strings.TrimRight(t.SerialNumber, " \x00")
		if t.Flags&p11.CKF_TOKEN_INITIALIZED == 0 {
			continue
		}
		seen = append(seen, fmt.Sprintf("%q (serial %s)", label, serial))
		if label != cfg.TokenLabel || cfg.Serial != "" && serial != cfg.Serial {
			continue
		}
		found++
		c.slot = slot
		c.info = hsm.Info{
			Kind:       hsm.KindPKCS11,
			Label:      label,
			Model:      strings.TrimRight(t.Model, " \x00"),
			Serial:     serial,
			HSM:        true,
			Mechanisms: []string{hsm.AESGCM},
		}
	}
	if found == 1 {
		return nil
	}
	return missingToken(cfg, found, seen, c.mod.hint())
}

func missingToken(cfg *Config, found int, seen []string, hint string) error {
	want := fmt.Sprintf("labelled %q", cfg.TokenLabel)
	if cfg.Serial != "" {
		want += " with serial number " + cfg.Serial
	}
	if found > 1 {
		return fmt.Errorf("%w: module %s shows %d tokens %s: give each its own label", hsm.ErrUnfit, cfg.Module, found, want)
	}
	slices.Sort(seen)
	shown := "no token at all"
	if len(seen) > 0 {
		shown = strings.Join(seen, ", ")
	}
	return fmt.Errorf("%w: no token %s; module %s shows %s (check the label; %s)", hsm.ErrTokenAway, want, cfg.Module, shown, hint)
}

// session opens a session that may write.
func (c *conn) session() (p11.SessionHandle, error) {
	return c.mod.ctx.OpenSession(c.slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
}

// take gives a session for one call.
func (c *conn) take() (p11.SessionHandle, error) {
	c.mu.Lock()
	if n := len(c.mu.idle); n > 0 {
		s := c.mu.idle[n-1]
		c.mu.idle = c.mu.idle[:n-1]
		c.mu.Unlock()
		return s, nil
	}
	c.mu.Unlock()
	s, err := c.session()
	if err != nil {
		return 0, errors.Join(errLost, err)
	}
	return s, nil
}

// give returns a session after its call. One whose call failed is closed: it
// may be left in the middle of an operation.
func (c *conn) give(s p11.SessionHandle, ok bool) {
	if !ok {
		_ = c.mod.ctx.CloseSession(s)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.idle = append(c.mu.idle, s)
}

func (c *conn) cached(id hsm.KeyID) (object, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o, ok := c.mu.keys[id]
	return o, ok
}

func (c *conn) remember(o object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.keys[o.info.ID] = o
}

func (c *conn) forget(id hsm.KeyID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.mu.keys, id)
}

// close ends the connection; no call may be in the module. C_Finalize closes
// the sessions and logs out.
func (c *conn) close() { _ = c.mod.ctx.Finalize() }

// search finds the secret keys with this CKA_ID and label (any label if empty).
func (c *conn) search(s p11.SessionHandle, id hsm.KeyID, label string) ([]p11.ObjectHandle, error) {
	template := []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY),
		p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_AES),
		p11.NewAttribute(p11.CKA_TOKEN, true),
		p11.NewAttribute(p11.CKA_ID, id[:]),
	}
	if label != "" {
		template = append(template, p11.NewAttribute(p11.CKA_LABEL, label))
	}
	return c.findObjects(s, template)
}

// findObjects returns the objects that have all attributes of a template, maxDoubles at most.
func (c *conn) findObjects(s p11.SessionHandle, template []*p11.Attribute) ([]p11.ObjectHandle, error) {
	if err := c.mod.ctx.FindObjectsInit(s, template); err != nil {
		return nil, err
	}
	found, _, err := c.mod.ctx.FindObjects(s, maxDoubles)
	return found, errors.Join(err, c.mod.ctx.FindObjectsFinal(s))
}

// maxDoubles is how many objects of one id are looked at.
const maxDoubles = 16

// describe reads a key's attributes.
func (c *conn) describe(s p11.SessionHandle, h p11.ObjectHandle, id hsm.KeyID) (object, error) {
	attrs, err := c.mod.ctx.GetAttributeValue(s, h, []*p11.Attribute{
		p11.NewAttribute(p11.CKA_LABEL, nil),
		p11.NewAttribute(p11.CKA_LOCAL, nil),
		p11.NewAttribute(p11.CKA_SENSITIVE, nil),
		p11.NewAttribute(p11.CKA_ALWAYS_SENSITIVE, nil),
		p11.NewAttribute(p11.CKA_EXTRACTABLE, nil),
		p11.NewAttribute(p11.CKA_NEVER_EXTRACTABLE, nil),
	})
	if err != nil {
		return object{}, fmt.Errorf("read the attributes of key %s: %w", id, err)
	}
	is := func(i int) bool { return len(attrs[i].Value) == 1 && attrs[i].Value[0] != 0 } // CK_BBOOL
	o := object{handle: h, info: hsm.KeyInfo{
		ID:               id,
		Label:            string(attrs[0].Value),
		Local:            is(1),
		Sensitive:        is(2) && is(3),
		NeverExtractable: !is(4) && is(5),
	}}
	o.info.CheckValue, err = c.checkValue(s, h)
	return o, err
}

// checkValue recognises a key: CKA_CHECK_VALUE, or, from a module that does not
// know that attribute, the same by encrypting a zero block.
func (c *conn) checkValue(s p11.SessionHandle, h p11.ObjectHandle) ([]byte, error) {
	attrs, err := c.mod.ctx.GetAttributeValue(s, h, []*p11.Attribute{p11.NewAttribute(p11.CKA_CHECK_VALUE, nil)})
	if err == nil && len(attrs[0].Value) == checkSize {
		return attrs[0].Value, nil
	}
	if err != nil && (lost(err) || handleGone(err)) {
		return nil, err
	}
	if err := c.mod.ctx.EncryptInit(s, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_ECB, nil)}, h); err != nil {
		return nil, fmt.Errorf("%w: it gives no check value of keys: %w", hsm.ErrUnfit, err)
	}
	out, err := c.mod.ctx.Encrypt(s, make([]byte, 16))
	if err != nil || len(out) < checkSize {
		return nil, errors.Join(fmt.Errorf("%w: it gives no check value of keys", hsm.ErrUnfit), err)
	}
	return out[:checkSize], nil
}

const checkSize = 3 // of a check value, in bytes
