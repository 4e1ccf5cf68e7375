package main

import (
	"bytes"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/mount"
)

// storeFlags are the flags of every command that opens a key store.
type storeFlags struct {
	dir    string
	secret mount.SecretSource
}

func (f *storeFlags) add(cmd *cobra.Command) {
	f.addDir(cmd)
	f.addSecret(cmd)
}

func (f *storeFlags) addDir(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.dir, "keystore", "", "key store `DIR` (default $KMSFS_KEYSTORE, else /var/lib/kmsfs for root, else $XDG_DATA_HOME/kmsfs)")
}

func (f *storeFlags) addSecret(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.secret.PassphraseFile, "passphrase-file", "", "read the passphrase from `FILE`")
	flags.StringVar(&f.secret.KeyFile, "key-file", "", "open the key store by the content of `FILE`")
	flags.StringVar(&f.secret.PINFile, "pin-file", "", "read the token's PIN from `FILE`")
	flags.StringVar(&f.secret.Credential, "credential", "", "use the systemd credential `NAME`")
	flags.IntVar(&f.secret.FD, "passphrase-fd", 0, "read the secret (passphrase, PIN or key file) from descriptor `N`, from 3 on")
	f.secret.Prompt = prompt
}

// prompt asks for a secret on the terminal, twice if it is a new one.
func prompt(what string, confirm bool) (*locked.Buffer, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("%w, and there is no terminal to ask for the %s", mount.ErrNoSecret, what)
	}
	defer tty.Close()
	first, err := promptOnce(tty, what+": ")
	if err != nil || !confirm {
		return first, err
	}
	second, err := promptOnce(tty, what+" again: ")
	if err != nil {
		first.Close()
		return nil, err
	}
	defer second.Close()
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		first.Close()
		return nil, fmt.Errorf("%w: the two are not equal", mount.ErrNoSecret)
	}
	return first, nil
}

func promptOnce(tty *os.File, text string) (*locked.Buffer, error) {
	fmt.Fprint(tty, text)
	typed, err := term.ReadPassword(int(tty.Fd()))
	fmt.Fprintln(tty)
	if err != nil {
		return nil, fmt.Errorf("%w: read from terminal: %w", mount.ErrNoSecret, err)
	}
	if len(typed) == 0 {
		return nil, fmt.Errorf("%w: nothing was typed", mount.ErrNoSecret)
	}
	return locked.FromBytes(typed)
}
