package soft

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/kmsfs/kmsfs/hsm"
)

// GenerateKey implements hsm.Token.
func (t *Token) GenerateKey(ctx context.Context, id hsm.KeyID, label string) (hsm.KeyInfo, error) {
	if err := hsm.CheckLabel(label); err != nil {
		return hsm.KeyInfo{}, t.wrap("generate key", id, err)
	}
	info, err := t.add(ctx, id, label, func(key []byte) { rand.Read(key) }) // never fails
	return info, t.wrap("generate key", id, err)
}

// ImportKey implements hsm.Importer.
func (t *Token) ImportKey(ctx context.Context, id hsm.KeyID, label string, key []byte) (hsm.KeyInfo, error) {
	if err := hsm.CheckImport(label, key); err != nil {
		return hsm.KeyInfo{}, t.wrap("import key", id, err)
	}
	info, err := t.add(ctx, id, label, func(slot []byte) { copy(slot, key) })
	return info, t.wrap("import key", id, err)
}

// add stores a key that fill writes to its place in memory.
func (t *Token) add(ctx context.Context, id hsm.KeyID, label string, fill func(key []byte)) (hsm.KeyInfo, error) {
	if err := hsm.ContextError(ctx); err != nil {
		return hsm.KeyInfo{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.shut {
		return hsm.KeyInfo{}, hsm.ErrClosed
	}
	if _, err := os.Lstat(t.path(id)); err == nil {
		return hsm.KeyInfo{}, hsm.ErrExists
	}
	slot := t.mu.slots.take()
	key := t.mu.slots.key(slot)
	fill(key)
	k := keyHeader{Magic: keyMagic, ID: id, Created: time.Now().UTC().Truncate(time.Second), Label: label}
	info, err := t.store(k, key)
	if err != nil {
		t.mu.slots.give(slot)
		return hsm.KeyInfo{}, err
	}
	t.mu.slots.put(slot, info)
	return clone(info), nil
}

// store writes the file of one key.
func (t *Token) store(k keyHeader, key []byte) (hsm.KeyInfo, error) {
	info, err := k.info(key)
	if err != nil {
		return hsm.KeyInfo{}, err
	}
	head := k.encode()
	nonce, sealed, err := seal(nil, t.mu.root.Bytes(), key, head)
	if err != nil {
		return hsm.KeyInfo{}, err
	}
	return info, t.away(writeFile(t.path(k.ID), append(append(head, nonce...), sealed...)))
}

func (k *keyHeader) info(key []byte) (hsm.KeyInfo, error) {
	check, err := checkValue(key)
	return hsm.KeyInfo{ID: k.ID, Label: k.Label, CheckValue: check, Created: k.Created}, err
}

// ExportKey implements hsm.Exporter.
func (t *Token) ExportKey(ctx context.Context, id hsm.KeyID, fn func(key []byte) error) error {
	return t.wrap("export key", id, t.with(ctx, id, func(key []byte, _ hsm.KeyInfo) error { return fn(key) }))
}

// FindKey implements hsm.Token.
func (t *Token) FindKey(ctx context.Context, id hsm.KeyID) (hsm.KeyInfo, error) {
	var found hsm.KeyInfo
	err := t.with(ctx, id, func(_ []byte, info hsm.KeyInfo) error {
		found = clone(info)
		return nil
	})
	return found, t.wrap("find key", id, err)
}

// Encrypt implements hsm.Token. Every call uses a subkey of its own, so the
// number of calls under one key is not limited.
func (t *Token) Encrypt(ctx context.Context, id hsm.KeyID, plaintext, aad []byte) (hsm.Sealed, error) {
	if err := hsm.CheckEncrypt(plaintext, aad); err != nil {
		return hsm.Sealed{}, t.wrap("encrypt with key", id, err)
	}
	s := hsm.Sealed{Mechanism: hsm.XAES256GCM}
	err := t.with(ctx, id, func(key []byte, _ hsm.KeyInfo) (err error) {
		s.IV, s.Ciphertext, err = seal(nil, key, plaintext, aad)
		return err
	})
	if err != nil {
		return hsm.Sealed{}, t.wrap("encrypt with key", id, err)
	}
	return s, nil
}

// Decrypt implements hsm.Token.
func (t *Token) Decrypt(ctx context.Context, id hsm.KeyID, s hsm.Sealed, aad []byte) ([]byte, error) {
	if err := hsm.CheckDecrypt(s, aad, hsm.XAES256GCM, nonceSize); err != nil {
		return nil, t.wrap("decrypt with key", id, err)
	}
	var plain []byte
	err := t.with(ctx, id, func(key []byte, _ hsm.KeyInfo) (err error) {
		plain, err = open(nil, key, s.IV, s.Ciphertext, aad)
		if errors.Is(err, errOpen) {
			return hsm.ErrAuth
		}
		return err
	})
	return plain, t.wrap("decrypt with key", id, err)
}

// DestroyKey implements hsm.Token. Snapshots, backups and flash may keep the
// sealed key; it takes the secret and the header to open those.
func (t *Token) DestroyKey(ctx context.Context, id hsm.KeyID) error {
	if err := hsm.ContextError(ctx); err != nil {
		return t.wrap("destroy key", id, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.shut {
		return hsm.ErrClosed
	}
	err := t.missing(removeFile(t.path(id)))
	if err == nil || errors.Is(err, hsm.ErrKeyNotFound) {
		t.mu.slots.drop(id)
	}
	return t.wrap("destroy key", id, err)
}

// with runs fn with a key that stays in memory meanwhile.
func (t *Token) with(ctx context.Context, id hsm.KeyID, fn func(key []byte, info hsm.KeyInfo) error) error {
	if err := hsm.ContextError(ctx); err != nil {
		return err
	}
	t.mu.RLock()
	if h, ok := t.mu.slots.keys[id]; ok && !t.mu.shut {
		defer t.mu.RUnlock()
		return fn(t.mu.slots.key(h.slot), h.info)
	}
	t.mu.RUnlock()

	t.mu.Lock()
	defer t.mu.Unlock()
	h, err := t.load(id)
	if err != nil {
		return err
	}
	return fn(t.mu.slots.key(h.slot), h.info)
}

// load makes sure that a key is in memory; the caller holds the write lock.
func (t *Token) load(id hsm.KeyID) (held, error) {
	if t.mu.shut {
		return held{}, hsm.ErrClosed
	}
	if h, ok := t.mu.slots.keys[id]; ok {
		return h, nil
	}
	data, err := readFile(t.path(id), maxKeyFile)
	if err != nil {
		return held{}, t.missing(err)
	}
	k, head, nonce, sealed, err := parseKeyFile(keyMagic, id, data)
	if err != nil {
		return held{}, err
	}
	slot := t.mu.slots.take()
	key := t.mu.slots.key(slot)
	info := hsm.KeyInfo{}
	if _, err = open(key[:0], t.mu.root.Bytes(), nonce, sealed, head); err != nil {
		err = fmt.Errorf("%w: the key file is %w", hsm.ErrDamaged, err)
	} else {
		info, err = k.info(key)
	}
	if err != nil {
		t.mu.slots.give(slot)
		return held{}, err
	}
	t.mu.slots.put(slot, info)
	return t.mu.slots.keys[id], nil
}

// missing tells a key that is not there from a token that is not there.
func (t *Token) missing(err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := t.away(err); errors.Is(err, hsm.ErrTokenAway) {
		return err
	}
	return hsm.ErrKeyNotFound
}

// away makes an error hsm.ErrTokenAway if the header, our sentinel, is missing.
func (t *Token) away(err error) error {
	if err == nil {
		return nil
	}
	if _, serr := os.Lstat(filepath.Join(t.dir, headerFile)); serr != nil {
		return fmt.Errorf("%w: %w", hsm.ErrTokenAway, serr)
	}
	return err
}

func (t *Token) path(id hsm.KeyID) string {
	return filepath.Join(t.dir, keysDir, id.String()+keySuffix)
}

func (t *Token) wrap(op string, id hsm.KeyID, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s in soft token: %w", op, id, err)
}

func clone(info hsm.KeyInfo) hsm.KeyInfo {
	info.CheckValue = append([]byte(nil), info.CheckValue...)
	return info
}
