package mount

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/blockcrypt/locked"
)

// How a key store is unlocked, as keymgr.Status.Unlock names it.
const (
	unlockPassphrase = "passphrase"
	unlockKeyFile    = "key-file"
	unlockCredential = "credential"
	unlockPIN        = "pin"
)

// maxSecret bounds what is read as a secret, in bytes: the largest key file.
const maxSecret = 64 << 10

// SecretSource says where a key store's secret comes from. At most one of the first five is set; Prompt asks the user where none is, and is nil
// where nobody can be asked. Secrets themselves never stand in arguments or the environment.
type SecretSource struct {
	PassphraseFile string
	KeyFile        string
	PINFile        string
	Credential     string // name of a systemd credential
	FD             int    // an inherited descriptor; 0: none

	Prompt func(what string, confirm bool) (*locked.Buffer, error)
}

// given returns the kind of the source that was named ("" for none), ErrUsage if there are two. A descriptor fits every kind.
func (s *SecretSource) given() (string, error) {
	kind, n := "", 0
	for _, c := range []struct {
		set  bool
		kind string
	}{{s.PassphraseFile != "", unlockPassphrase}, {s.KeyFile != "", unlockKeyFile}, {s.PINFile != "", unlockPIN}, {s.Credential != "", unlockCredential}, {s.FD != 0, "fd"}} {
		if c.set {
			kind = c.kind
			n++
		}
	}
	if n > 1 {
		return "", fmt.Errorf("%w: more than one secret given", ErrUsage)
	}
	return kind, nil
}

// absolute makes the paths independent of the working directory.
func (s *SecretSource) absolute() error {
	for _, p := range []*string{&s.PassphraseFile, &s.KeyFile, &s.PINFile} {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return fmt.Errorf("secret: %w", err)
		}
		*p = abs
	}
	return nil
}

// read returns the secret for a key store of the given kind. The caller closes it. ErrUsage if the source is of another kind, ErrNoSecret if
// there is none.
func (s *SecretSource) read(kind string) (*locked.Buffer, error) {
	given, err := s.given()
	if err != nil {
		return nil, err
	}
	switch given {
	case "":
		return s.ask(kind, false)
	case "fd":
		return readSecretFD(s.FD, isText(kind))
	case unlockCredential: // a service gets every kind of secret this way
		return readCredential(s.Credential, isText(kind))
	}
	if given != kind && !(kind == unlockCredential && given == unlockKeyFile) {
		return nil, fmt.Errorf("%w: this key store opens by a %s, not by a %s", ErrUsage, kind, given)
	}
	switch given {
	case unlockKeyFile:
		return readSecretFile(s.KeyFile, false)
	case unlockPIN:
		return readSecretFile(s.PINFile, true)
	default:
		return readSecretFile(s.PassphraseFile, true)
	}
}

// isText says whether secrets of a kind are typed or written by people, so that a newline at the end is not part of them.
func isText(kind string) bool { return kind == unlockPassphrase || kind == unlockPIN }

func (s *SecretSource) ask(kind string, confirm bool) (*locked.Buffer, error) {
	switch {
	case kind == unlockKeyFile:
		return nil, fmt.Errorf("%w: this key store opens by a key file (--key-file FILE)", ErrNoSecret)
	case kind == unlockCredential:
		return nil, fmt.Errorf("%w: this key store opens by a systemd credential (--credential NAME) or its content (--key-file FILE)", ErrNoSecret)
	case s.Prompt == nil:
		return nil, fmt.Errorf("%w, and there is no terminal to ask for the %s", ErrNoSecret, kind)
	}
	return s.Prompt(kind, confirm)
}

// readSecretFile reads a secret from a file of ours or root's that nobody else can read; one newline at the end of text is not part of it.
func readSecretFile(path string, text bool) (*locked.Buffer, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, advise(fmt.Errorf("%w: %w", ErrNoSecret, err), "see that %s is there and that this user may read it", path)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrNoSecret, path, err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFREG && (st.Mode&0o077 != 0 || (int(st.Uid) != os.Geteuid() && st.Uid != 0)) {
		return nil, advise(fmt.Errorf("%w: %s can be read by others, or is theirs", ErrNoSecret, path), "chmod 600 %s, and choose a new secret if others may have read it", path)
	}
	b, err := locked.ReadAll(f, maxSecret)
	if err != nil {
		return nil, advise(fmt.Errorf("%w: %s: %w", ErrNoSecret, path, err), "name a file that holds the secret")
	}
	if text {
		return trimNewline(b)
	}
	return b, nil
}

// ReadSecretFile reads a secret that somebody wrote down, without a newline at its end. The caller closes it. ErrNoSecret.
func ReadSecretFile(path string) (*locked.Buffer, error) { return readSecretFile(path, true) }

// trimNewline returns the secret without one newline at its end.
func trimNewline(b *locked.Buffer) (*locked.Buffer, error) {
	trimmed, found := bytes.CutSuffix(b.Bytes(), []byte("\n"))
	if !found {
		return b, nil
	}
	defer b.Close()
	if len(trimmed) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrNoSecret)
	}
	out, err := locked.New(len(trimmed))
	if err != nil {
		return nil, err
	}
	copy(out.Bytes(), trimmed)
	return out, nil
}

func readCredential(name string, text bool) (*locked.Buffer, error) {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return nil, fmt.Errorf("%w: no systemd credentials here (CREDENTIALS_DIRECTORY is not set)", ErrNoSecret)
	}
	if name != filepath.Base(name) || name == "." || name == ".." {
		return nil, fmt.Errorf("%w: %q is not the name of a credential", ErrUsage, name)
	}
	return readSecretFile(filepath.Join(dir, name), text)
}

// readSecretFD reads a secret from an inherited descriptor to its end, and closes it.
func readSecretFD(fd int, text bool) (*locked.Buffer, error) {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || fd < 3 && fd != 0 {
		return nil, fmt.Errorf("%w: descriptor %d is not open", ErrNoSecret, fd)
	}
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "secret")
	defer f.Close()
	b, err := locked.ReadAll(f, maxSecret)
	if err != nil {
		return nil, fmt.Errorf("%w: descriptor %d: %w", ErrNoSecret, fd, err)
	}
	if text {
		return trimNewline(b)
	}
	return b, nil
}

// makeKeyFile writes a new key file, 32 random bytes in hexadecimal, mode 0600, durably. It leaves one that is there alone and says so.
func makeKeyFile(path string) (made bool, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("make key file: %w", err)
	}
	key, err := blockcrypt.NewKey()
	if err == nil {
		_, err = f.WriteString(hex.EncodeToString(key[:]) + "\n")
		key.Wipe()
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		os.Remove(path)
		return false, fmt.Errorf("make key file: %w", err)
	}
	return true, nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
