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
func (u UnlockConfig) read(tokenKind string) (*locked.Buffer, error) {
	switch {
	case u.KeyFile != "":
		return readSecret(u.KeyFile, true)
	case u.Credential != "":
		return readCredential(u.Credential, tokenKind == hsm.KindPKCS11)
	}
	return nil, fmt.Errorf("%w: its %s", ErrNoSecret, u.Kind)
}

func readCredential(name string, text bool) (*locked.Buffer, error) {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return nil, fmt.Errorf("%w: systemd credential %s is not here ($CREDENTIALS_DIRECTORY is not set)", ErrNoSecret, name)
	}
	if name != filepath.Base(name) || name == "." || name == ".." {
		return nil, fmt.Errorf("%w: %q is not the name of a credential", ErrDamaged, name)
	}
	b, err := readSecret(filepath.Join(dir, name), false) // systemd grants access by an ACL, which shows as group bits
	if err != nil || !text {
		return b, err
	}
	defer b.Close()
	line := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	out, err := locked.New(len(line))
	if err != nil {
		return nil, fmt.Errorf("%w: credential %s: %w", hsm.ErrPIN, name, err)
	}
	copy(out.Bytes(), line)
	return out, nil
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
