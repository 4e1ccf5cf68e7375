//go:build cgo

package pkcs11

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// syncSoftHSM makes what SoftHSM has written durable, which it does not do
// itself: a power cut could take a new key and with it all that it encrypted.
// since is when the writing began.
func syncSoftHSM(since time.Time) {
	dir, err := softHSMDir()
	if err == nil {
		err = syncTree(dir, since.Add(-clockSlack))
	}
	if err != nil {
		unix.Sync() // everything, then: slow, but as good
	}
}

// softHSMDir is the directory of SoftHSM's tokens, from its configuration.
func softHSMDir() (string, error) {
	path := os.Getenv("SOFTHSM2_CONF")
	if path == "" {
		path = "/etc/softhsm/softhsm2.conf"
		if home, err := os.UserHomeDir(); err == nil {
			own := filepath.Join(home, ".config/softhsm2/softhsm2.conf")
			if _, err := os.Stat(own); err == nil {
				path = own
			}
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		key, value, ok := strings.Cut(in.Text(), "=")
		if ok && strings.TrimSpace(key) == "directories.tokendir" {
			return strings.TrimSpace(value), nil
		}
	}
	return "", errors.New("no directories.tokendir in " + path)
}

// clockSlack is how far the clock of a lower filesystem may be behind ours.
const clockSlack = 10 * time.Second

// syncTree syncs every file and directory below dir that changed since then.
func syncTree(dir string, since time.Time) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if st, err := d.Info(); err == nil && st.ModTime().Before(since) {
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}
