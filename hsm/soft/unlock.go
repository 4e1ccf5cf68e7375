package soft

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/hsm"
)

const (
	minKeySecret = 32                      // shortest content of a key file, in bytes
	maxSecret    = 64 << 10                // longest passphrase or key file, in bytes
	credentials  = "CREDENTIALS_DIRECTORY" // set by systemd for a service
)

// Unlocker supplies the secret that opens a soft token: see Passphrase, KeyFile
// and Credential. It holds no secret of its own and may be used more than once.
type Unlocker struct {
	name   string // for errors: "the passphrase", "key file /etc/k"
	method method // methodAny: whatever the token wants
	load   func() (*locked.Buffer, error)
}

// Passphrase opens a token by a passphrase of 1 to 65536 bytes, taken as it is:
// the caller strips a trailing newline. The buffer stays the caller's; it is
// read during Create, Open and ChangeSecret only.
func Passphrase(p *locked.Buffer) Unlocker {
	return Unlocker{name: "the passphrase", method: methodPassphrase, load: func() (*locked.Buffer, error) {
		if len(p.Bytes()) > maxSecret {
			return nil, fmt.Errorf("%w: longer than %d bytes", hsm.ErrPIN, maxSecret)
		}
		if len(p.Bytes()) == 0 {
			return nil, fmt.Errorf("%w: the passphrase is empty", hsm.ErrPIN)
		}
		return p.Clone()
	}}
}

// KeyFile opens a token by the content of a file: 64 hexadecimal digits (and
// perhaps a newline), which stand for 32 bytes, or any 32 to 65536 bytes as they
// are. The file must be a regular file of ours or root's that nobody else may
// read; it is read during Create, Open and ChangeSecret.
func KeyFile(path string) Unlocker {
	return Unlocker{name: "key file " + path, method: methodKeyFile, load: func() (*locked.Buffer, error) {
		raw, err := readSecret(path, true)
		if err != nil {
			return nil, err
		}
		return keySecret(raw)
	}}
}

// KeyBytes opens a token by the content of a key file that somebody else has
// read, in the forms that KeyFile takes. The buffer stays the caller's; it is
// read during Create, Open and ChangeSecret only.
func KeyBytes(content *locked.Buffer) Unlocker {
	return Unlocker{name: "the key", method: methodKeyFile, load: func() (*locked.Buffer, error) {
		if len(content.Bytes()) > maxSecret {
			return nil, fmt.Errorf("%w: longer than %d bytes", hsm.ErrPIN, maxSecret)
		}
		raw, err := content.Clone()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", hsm.ErrPIN, err)
		}
		return keySecret(raw)
	}}
}

// Credential opens a token by a systemd credential (LoadCredential= or
// LoadCredentialEncrypted= of the service): the content of a key file, or the
// passphrase with at most one trailing newline, whichever the token wants. A
// token created by a credential wants a key file.
func Credential(name string) Unlocker {
	return Unlocker{name: "systemd credential " + name, method: methodAny, load: func() (*locked.Buffer, error) {
		dir := os.Getenv(credentials)
		if dir == "" {
			return nil, fmt.Errorf("%w: $%s is not set: is this running as a systemd service with LoadCredential=%s:...?",
				hsm.ErrPIN, credentials, name)
		}
		if name == "" || strings.ContainsRune(name, '/') || name == "." || name == ".." {
			return nil, fmt.Errorf("%w: %q is not the name of a credential", hsm.ErrPIN, name)
		}
		// No look at the mode: systemd grants access by an ACL, which shows
		// as group bits.
		return readSecret(filepath.Join(dir, name), false)
	}}
}

// secret loads what a token of the wanted method needs.
func (u Unlocker) secret(want method) (*locked.Buffer, error) {
	if u.load == nil {
		return nil, fmt.Errorf("%w: no secret given", hsm.ErrPIN)
	}
	if u.method != methodAny && u.method != want {
		return nil, fmt.Errorf("%w: this token is unlocked by a %s, not by %s", hsm.ErrPIN, want, u.name)
	}
	b, err := u.load()
	if err != nil || u.method != methodAny {
		return b, err
	}
	if want == methodKeyFile {
		return keySecret(b)
	}
	defer b.Close()
	line := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	return fromPart(b, line)
}

// creates is the method of a token that is made with u.
func (u Unlocker) creates() method {
	if u.method == methodAny {
		return methodKeyFile
	}
	return u.method
}

// readSecret reads a file straight into locked memory.
func readSecret(path string, private bool) (*locked.Buffer, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not hang us
	if err != nil {
		return nil, fmt.Errorf("%w: %w", hsm.ErrPIN, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", hsm.ErrPIN, err)
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is not a regular file", hsm.ErrPIN, path)
	}
	if private {
		if err := checkPrivate(path, st); err != nil {
			return nil, err
		}
	}
	b, err := locked.ReadAll(f, maxSecret)
	if err != nil {
		return nil, fmt.Errorf("%w: read %s: %w", hsm.ErrPIN, path, err)
	}
	return b, nil
}

func checkPrivate(path string, st os.FileInfo) error {
	if m := st.Mode().Perm(); m&0o077 != 0 {
		return fmt.Errorf("%w: others may read or change %s (mode %04o): chmod 600 %s, and make a new key if they had the chance",
			hsm.ErrPIN, path, m, path)
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Uid != 0 && int(sys.Uid) != os.Geteuid() {
		return fmt.Errorf("%w: %s belongs to uid %d: chown it to the user who mounts", hsm.ErrPIN, path, sys.Uid)
	}
	return nil
}

// keySecret turns the content of a key file into the secret, and closes raw.
func keySecret(raw *locked.Buffer) (*locked.Buffer, error) {
	defer raw.Close()
	b := raw.Bytes()
	if len(b) < minKeySecret {
		return nil, fmt.Errorf("%w: the key file has %d bytes, it needs %d at least (head -c 32 /dev/urandom makes one)",
			hsm.ErrPIN, len(b), minKeySecret)
	}
	text := bytes.TrimSpace(b)
	if len(text) != hex.EncodedLen(minKeySecret) {
		return raw.Clone()
	}
	key, err := locked.New(minKeySecret)
	if err != nil {
		return nil, err
	}
	if _, err := hex.Decode(key.Bytes(), text); err != nil {
		key.Close() // 64 bytes that are no hexadecimal digits are a key as they are
		return raw.Clone()
	}
	return key, nil
}

func fromPart(whole *locked.Buffer, part []byte) (*locked.Buffer, error) {
	if len(part) == 0 {
		return nil, fmt.Errorf("%w: the passphrase is empty", hsm.ErrPIN)
	}
	if len(part) == whole.Len() {
		return whole.Clone()
	}
	b, err := locked.New(len(part))
	if err != nil {
		return nil, errors.Join(hsm.ErrPIN, err)
	}
	copy(b.Bytes(), part)
	return b, nil
}
