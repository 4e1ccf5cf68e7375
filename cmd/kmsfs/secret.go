package main

import (
	"bytes"
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/mount"
)

// storeFlags are the flags of every command that opens a key store.
type storeFlags struct {
	dir    string
	secret mount.SecretSource
	as     mount.IdentitySource
}

func (f *storeFlags) add(cmd *cobra.Command) {
	f.addDir(cmd)
	f.addSecret(cmd)
}

// again is what a later command needs of the flags: the key store, and a secret that it does not remember, as it does a key file's place.
func (f *storeFlags) again() (args string) {
	for _, flag := range []struct{ name, value string }{{"keystore", f.dir}, {"passphrase-file", f.secret.PassphraseFile}, {"pin-file", f.secret.PINFile}} {
		if flag.value != "" {
			args += " --" + flag.name + " " + quote(flag.value)
		}
	}
	return args
}

// addFor is add, and addAs where identities may call the command as well.
func (f *storeFlags) addFor(cmd *cobra.Command, identities bool) {
	if identities {
		f.addAs(cmd)
		return
	}
	f.add(cmd)
}

// addAs is add for commands that identities may call as well.
func (f *storeFlags) addAs(cmd *cobra.Command) {
	f.add(cmd)
	cmd.Flags().StringVar(&f.as.File, "identity", "", "ask in the name of the identity whose access key is in `FILE`, as identity create --out writes it")
	cmd.Flags().StringVar(&f.as.Endpoint, "endpoint", "", "`URL` of a key daemon that listens (https://HOST:PORT), with --identity")
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
	for _, name := range []string{"passphrase-file", "key-file", "pin-file", "credential", "passphrase-fd"} {
		_ = flags.SetAnnotation(name, secretAnnotation, nil) // they are there
	}
	cmd.PreRun = func(cmd *cobra.Command, _ []string) { f.secret.Prompt = prompter(cmd.Context()) }
}

// prompter asks for secrets on the terminal, for a new one twice, until ctx ends.
func prompter(ctx context.Context) func(what string, confirm bool) (*locked.Buffer, error) {
	return func(what string, confirm bool) (*locked.Buffer, error) {
		tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
		if err != nil {
			return nil, fmt.Errorf("%w, and there is no terminal to ask for the %s", mount.ErrNoSecret, what)
		}
		defer tty.Close()
		first, err := ask(ctx, tty, what+": ")
		if err != nil || !confirm {
			return first, err
		}
		second, err := ask(ctx, tty, what+" again: ")
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
}

// ask reads one line without showing it, nor what is typed ahead. When ctx ends the terminal is put back as it was; what waits for the line ends with
// the process.
func ask(ctx context.Context, tty *os.File, text string) (*locked.Buffer, error) {
	restore, err := hideInput(int(tty.Fd()))
	if err != nil {
		return nil, fmt.Errorf("%w: terminal: %w", mount.ErrNoSecret, err)
	}
	defer func() {
		restore()
		fmt.Fprintln(tty)
	}()
	fmt.Fprint(tty, text)
	type answer struct {
		typed []byte
		err   error
	}
	answered := make(chan answer, 1)
	go func() {
		typed, err := term.ReadPassword(int(tty.Fd()))
		answered <- answer{typed, err}
	}()
	select {
	case a := <-answered:
		if a.err != nil {
			return nil, fmt.Errorf("%w: read from terminal: %w", mount.ErrNoSecret, a.err)
		}
		if len(a.typed) == 0 {
			return nil, fmt.Errorf("%w: nothing was typed", mount.ErrNoSecret)
		}
		return locked.FromBytes(a.typed)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// hideInput turns the terminal's echo off, before the prompt says that one may type.
func hideInput(fd int) (restore func(), err error) {
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	hidden := *before
	hidden.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &hidden); err != nil {
		return nil, err
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, before) }, nil
}
