package peer

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
)

// secret writes a file with a passphrase, or the like, beside the lower
// directory.
func (b *base) secret() (string, error) {
	name := filepath.Join(filepath.Dir(b.lower), "passphrase")
	return name, os.WriteFile(name, []byte("for measuring only\n"), 0o600)
}

// newGocryptfs initialises a gocryptfs directory. Its scrypt cost is lowered:
// it is paid at mount only, and the mounts that are timed are compared without
// what guessing a passphrase shall cost.
func newGocryptfs(ctx context.Context, b base) (Peer, error) {
	pass, err := b.secret()
	if err != nil {
		return nil, err
	}
	if err := run(ctx, "gocryptfs", "-init", "-q", "-scryptn", "10", "-passfile", pass, b.lower); err != nil {
		return nil, err
	}
	return &daemon{base: b, argv: []string{"gocryptfs", "-fg", "-q", "-nosyslog", "-passfile", pass, b.lower, b.mnt}}, nil
}

// newLoopback uses this program itself.
func newLoopback(b base) (Peer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return &daemon{base: b, argv: []string{self, "loopback", b.lower, b.mnt}}, nil
}

// newSecurefs makes a securefs of its default format with a key file instead
// of a passphrase, as cheap to derive as it offers.
func newSecurefs(ctx context.Context, b base) (Peer, error) {
	key, err := b.secret()
	if err != nil {
		return nil, err
	}
	if err := run(ctx, "securefs", "create", "--keyfile", key, "--pbkdf", "pkcs5-pbkdf2-hmac-sha256", "-r", "1000", b.lower); err != nil {
		return nil, err
	}
	return &daemon{base: b, argv: []string{"securefs", "mount", "--keyfile", key, b.lower, b.mnt}}, nil
}

// newEncfs has the first mount make the filesystem, with its standard
// settings.
func newEncfs(b base) (Peer, error) {
	if _, err := exec.LookPath("encfs"); err != nil {
		return nil, err
	}
	pass, err := b.secret()
	if err != nil {
		return nil, err
	}
	return &daemon{base: b, argv: []string{"encfs", "-f", "--standard", "--extpass=cat '" + pass + "'", b.lower, b.mnt}}, nil
}

// newCryfs has the first mount make the filesystem, with its defaults. It
// keeps its state beside the lower directory, not in the home directory.
func newCryfs(b base) (Peer, error) {
	if _, err := exec.LookPath("cryfs"); err != nil {
		return nil, err
	}
	pass, err := b.secret()
	if err != nil {
		return nil, err
	}
	return &daemon{base: b, input: pass, argv: []string{"cryfs", "-f", b.lower, b.mnt},
		env: []string{"CRYFS_FRONTEND=noninteractive", "CRYFS_NO_UPDATE_CHECK=true",
			"CRYFS_LOCAL_STATE_DIR=" + filepath.Join(filepath.Dir(b.lower), "state")}}, nil
}
