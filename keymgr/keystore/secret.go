package keystore

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/hsm"
)

// MaxSecret is the longest secret in bytes.
const MaxSecret = 64 << 10

// read fetches the secret from where the configuration says. ErrNoSecret if it says nothing, hsm.ErrPIN if it cannot be had.
func (u UnlockConfig) read() (*locked.Buffer, error) {
	switch {
	case u.KeyFile != "":
		return readSecret(u.KeyFile, true)
	case u.Credential != "":
		return readCredential(u.Credential)
	}
	return nil, fmt.Errorf("%w: its %s", ErrNoSecret, u.Kind)
}

func readCredential(name string) (*locked.Buffer, error) {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return nil, fmt.Errorf("%w: systemd credential %s is not here ($CREDENTIALS_DIRECTORY is not set)", ErrNoSecret, name)
	}
	if name != filepath.Base(name) || name == "." || name == ".." {
		return nil, fmt.Errorf("%w: %q is not the name of a credential", ErrDamaged, name)
	}
	return readSecret(filepath.Join(dir, name), false) // systemd grants access by an ACL, which shows as group bits
}

// trim takes one newline off the end of a PIN that comes from a credential: files tend to have one. done is called when the result is no longer needed.
func (c *Config) trim(secret *locked.Buffer) (trimmed *locked.Buffer, done func(), err error) {
	line, found := bytes.CutSuffix(secret.Bytes(), []byte("\n"))
	if !found || c.Token.Kind != hsm.KindPKCS11 || c.Unlock.Kind != Credential {
		return secret, func() {}, nil
	}
	if trimmed, err = locked.New(len(line)); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", hsm.ErrPIN, err)
	}
	copy(trimmed.Bytes(), line)
	return trimmed, trimmed.Close, nil
}

// readSecret reads a regular file straight into locked memory; a private one is ours or root's and closed to everybody else.
func readSecret(path string, private bool) (*locked.Buffer, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO must not hang us
	if err != nil {
		return nil, fmt.Errorf("%w: %w", hsm.ErrPIN, err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", hsm.ErrPIN, path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("%w: %s is not a regular file", hsm.ErrPIN, path)
	}
	if private && (st.Mode&0o077 != 0 || int(st.Uid) != os.Geteuid() && st.Uid != 0) {
		return nil, fmt.Errorf("%w: %s can be read by others, or is theirs (mode %04o, uid %d)", hsm.ErrPIN, path, st.Mode&0o7777, st.Uid)
	}
	b, err := locked.ReadAll(f, MaxSecret)
	if err != nil {
		return nil, fmt.Errorf("%w: read %s: %w", hsm.ErrPIN, path, err)
	}
	return b, nil
}
