// Package soft is the embedded token: backing keys in a directory, sealed under
// a root key, which is sealed under a key from a passphrase, a key file or a
// systemd credential. It is not an HSM, and Info says so: while the token is
// open its keys lie in the memory of this process (locked there, and their
// expanded forms for a moment on the Go heap).
//
// It does not know what the keys are for. One process opens a token at a time;
// the package relies on its caller for that and does not lock the directory.
//
// Nouns: the secret is what the user has; the root key seals the key files; the
// header is token.json. Everything is written to a temporary file, synced and
// renamed, so a crash leaves the old state or the new one.
//
// docs/FORMAT.md section 10 describes the files.
package soft

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/hsm"
)

// Token is an open soft token. It implements hsm.Token and is safe for
// concurrent use.
type Token struct {
	dir string
	mu  struct {
		sync.RWMutex
		head  *header
		root  *locked.Buffer
		slots *slots
		shut  bool
	}
}

var (
	_ hsm.Token    = (*Token)(nil)
	_ hsm.Importer = (*Token)(nil)
)

// Create makes a token in dir, which is made if need be (mode 0700), and opens
// it. hsm.ErrExists if there is one, hsm.ErrPIN if the secret cannot be had.
// With a passphrase it takes some tenths of a second.
func Create(dir string, unlock Unlocker) (*Token, error) {
	t, err := create(dir, unlock)
	if err != nil {
		return nil, fmt.Errorf("create soft token %s: %w", dir, err)
	}
	return t, nil
}

func create(dir string, unlock Unlocker) (*Token, error) {
	if _, err := os.Lstat(filepath.Join(dir, headerFile)); err == nil {
		return nil, hsm.ErrExists
	}
	for _, d := range []string{dir, filepath.Join(dir, keysDir)} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	head := &header{Created: time.Now().UTC().Truncate(time.Second)}
	rand.Read(head.Serial[:]) // never fails
	root, err := locked.New(keySize)
	if err != nil {
		return nil, err
	}
	rand.Read(root.Bytes())
	t, err := newToken(dir, head, root)
	if err != nil {
		return nil, err
	}
	if err := t.sealRoot(unlock); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, syncDir(filepath.Dir(filepath.Clean(dir)))
}

// Open opens the token in dir. Errors: hsm.ErrPIN (the secret is wrong, cannot
// be read, or may be read by others), hsm.ErrTokenAway (there is no token),
// hsm.ErrDamaged, ErrVersion. With a passphrase it takes some tenths of a second.
func Open(dir string, unlock Unlocker) (*Token, error) {
	t, err := openToken(dir, unlock)
	if err != nil {
		return nil, fmt.Errorf("open soft token %s: %w", dir, err)
	}
	return t, nil
}

func openToken(dir string, unlock Unlocker) (*Token, error) {
	head, err := readHeader(dir)
	if err != nil {
		return nil, err
	}
	root, err := head.openRoot(unlock)
	if err != nil {
		return nil, err
	}
	return newToken(dir, head, root)
}

// newToken takes root over, also when it fails.
func newToken(dir string, head *header, root *locked.Buffer) (*Token, error) {
	s, err := newSlots()
	if err != nil {
		root.Close()
		return nil, err
	}
	t := &Token{dir: dir}
	t.mu.head, t.mu.root, t.mu.slots = head, root, s
	return t, nil
}

func readHeader(dir string) (*header, error) {
	data, err := readFile(filepath.Join(dir, headerFile), maxHeader)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", hsm.ErrTokenAway, err)
	}
	if err != nil {
		return nil, err
	}
	return decodeHeader(data)
}

// openRoot opens the sealed root key. The check value tells a wrong secret from
// a damaged header; it gives a guesser nothing that Root does not give as well.
func (h *header) openRoot(unlock Unlocker) (*locked.Buffer, error) {
	d, err := h.derive(unlock)
	if err != nil {
		return nil, err
	}
	defer d.key.Close()
	root, err := locked.New(keySize)
	if err != nil {
		return nil, err
	}
	right := subtle.ConstantTimeCompare(d.check[:], h.Check[:]) == 1
	_, err = open(root.Bytes()[:0], d.key.Bytes(), h.Root[:nonceSize], h.Root[nonceSize:], h.aad())
	switch {
	case err == nil && right:
		return root, nil
	case err == nil || right:
		err = fmt.Errorf("%w: the secret is right, but %s was changed: restore it from a backup", hsm.ErrDamaged, headerFile)
	default:
		err = fmt.Errorf("%w: %s does not open it", hsm.ErrPIN, unlock.name)
	}
	root.Close()
	return nil, err
}

func (h *header) derive(unlock Unlocker) (derived, error) {
	secret, err := unlock.secret(h.Unlock.Method)
	if err != nil {
		return derived{}, err
	}
	defer secret.Close()
	return h.Unlock.derive(secret.Bytes())
}

// ChangeSecret makes the token open by unlock from now on instead of the secret
// that opened it; the kind may change. It is durable when it returns. The root
// key stays: whoever kept both an old copy of token.json and the old secret can
// still open the keys, so after a leak new backing keys are needed as well.
func (t *Token) ChangeSecret(ctx context.Context, unlock Unlocker) error {
	if err := hsm.ContextError(ctx); err != nil {
		return err
	}
	if err := t.sealRoot(unlock); err != nil {
		return fmt.Errorf("change the secret of soft token %s: %w", t.dir, err)
	}
	return nil
}

// sealRoot writes a header in which the root key is sealed under unlock.
func (t *Token) sealRoot(unlock Unlocker) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.shut {
		return hsm.ErrClosed
	}
	next := *t.mu.head
	next.Unlock = newParams(unlock.creates())
	d, err := next.derive(unlock)
	if err != nil {
		return err
	}
	defer d.key.Close()
	next.Check = d.check
	nonce, ct, err := seal(nil, d.key.Bytes(), t.mu.root.Bytes(), next.aad())
	if err != nil {
		return err
	}
	copy(next.Root[copy(next.Root[:], nonce):], ct)
	data, err := next.encode()
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(t.dir, headerFile), data); err != nil {
		return err
	}
	t.mu.head = &next
	return nil
}

// Info describes the token after a look at its header: hsm.ErrTokenAway if it
// is not there any more, hsm.ErrDamaged if it is another one.
func (t *Token) Info(ctx context.Context) (hsm.Info, error) {
	if err := hsm.ContextError(ctx); err != nil {
		return hsm.Info{}, err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.mu.shut {
		return hsm.Info{}, hsm.ErrClosed
	}
	head, err := readHeader(t.dir)
	if err == nil && head.Serial != t.mu.head.Serial {
		err = fmt.Errorf("%w: another token lies in its place", hsm.ErrDamaged)
	}
	if err != nil {
		return hsm.Info{}, fmt.Errorf("look at soft token %s: %w", t.dir, err)
	}
	return hsm.Info{
		Kind:       hsm.KindSoft,
		Label:      t.dir,
		Model:      "kmsfs embedded token",
		Serial:     hex.EncodeToString(head.Serial[:]),
		Mechanisms: []string{hsm.XAES256GCM},
		Imports:    true,
	}, nil
}

// Close wipes all keys. It waits for calls in progress, which are short.
func (t *Token) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.mu.shut {
		t.mu.shut = true
		t.mu.slots.close()
		t.mu.root.Close()
	}
	return nil
}
