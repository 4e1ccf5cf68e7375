package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/mount"
)

// keyOut says where an access key goes that is given once: to a new file, or to be printed.
type keyOut struct {
	file   string
	asJSON bool
}

func (o *keyOut) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.file, "out", "", "write the access key to `FILE`, which is new and its owner's alone, and print where it is; --identity takes it")
	jsonFlag(cmd, &o.asJSON)
}

// give has an access key made, and puts it into a new file, or prints it where none is named. again is what to do if it cannot be written down.
func (o *keyOut) give(io stdio, again string, make func() (identityKeyView, error)) error {
	if o.file == "" {
		v, err := make()
		if err != nil {
			return err
		}
		return io.print(o.asJSON, v, func(w *tabwriter.Writer) {
			line(w, "Arn", v.ARN)
			line(w, "AccessKeyId", v.AccessKeyID)
			line(w, "SecretAccessKey", v.Secret)
			line(w, "until", since(v.Until))
		})
	}
	f, err := newAccessKeyFile(o.file)
	if err != nil {
		return err
	}
	k, err := make()
	if err != nil {
		f.discard()
		return err
	}
	if err := f.write(k); err != nil {
		return &mount.Advice{Err: err, Next: "the key is lost; " + again}
	}
	v := identityFileView{k.ARN, k.AccessKeyID, f.path, k.Until}
	return io.print(o.asJSON, v, func(w *tabwriter.Writer) {
		line(w, "Arn", v.ARN)
		line(w, "AccessKeyId", v.AccessKeyID)
		line(w, "access key", quote(v.File)+" (new, mode 0600)")
		line(w, "until", since(v.Until))
	})
}

// accessKeyFile is the new file that an access key goes to, which is printed once: it is made before the key is, so that a file that cannot be made costs none.
type accessKeyFile struct {
	f    *os.File
	path string // absolute
}

// newAccessKeyFile makes the file, empty, for its owner alone. Errors: fs.ErrExist, the system's.
func newAccessKeyFile(path string) (*accessKeyFile, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("file for the access key: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, &mount.Advice{Err: fmt.Errorf("file for the access key: %w", err), Next: "name a file that is not there yet; nothing was changed"}
	}
	if err != nil {
		return nil, fmt.Errorf("file for the access key: %w", err)
	}
	return &accessKeyFile{f, path}, nil
}

// discard removes the file again, when there is no key.
func (a *accessKeyFile) discard() { _ = errors.Join(a.f.Close(), os.Remove(a.path)) }

// write puts the key into the file, as --json prints it, durably.
func (a *accessKeyFile) write(v identityKeyView) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	defer func() { clear(text) }()
	text = append(text, '\n')
	_, err = a.f.Write(text)
	if err = errors.Join(err, a.f.Sync(), a.f.Close()); err == nil {
		err = syncDirectory(filepath.Dir(a.path))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write the access key to %s: %w", a.path, err), os.Remove(a.path))
	}
	return nil
}

func syncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
