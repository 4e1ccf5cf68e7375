package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// daemon is a peer whose filesystem process runs in the foreground as our
// child and ends when it is unmounted.
type daemon struct {
	base
	argv  []string
	child *exec.Cmd
	out   bytes.Buffer
	ended chan error
}

// newGocryptfs initialises a gocryptfs directory. Its scrypt cost is lowered:
// it is paid at mount only, which no load measures.
func newGocryptfs(ctx context.Context, b base) (Peer, error) {
	pass := filepath.Join(filepath.Dir(b.lower), "passphrase")
	if err := os.WriteFile(pass, []byte("for measuring only\n"), 0o600); err != nil {
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

func (d *daemon) Mount(ctx context.Context) error {
	d.out.Reset()
	d.child = exec.Command(d.argv[0], d.argv[1:]...)
	d.child.Stdout, d.child.Stderr = &d.out, &d.out
	if err := d.child.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func(child *exec.Cmd) { ended <- child.Wait() }(d.child)
	d.ended = ended
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	mounted := make(chan error, 1)
	go func() { mounted <- d.await(ctx, true) }()
	select {
	case err := <-mounted:
		return err
	case err := <-ended:
		ended <- err // for stop
		cancel(nil)
		<-mounted
		return fmt.Errorf("%s ended: %v: %.500s", d.name, err, d.out.String())
	}
}

func (d *daemon) Unmount(ctx context.Context) error {
	if d.child == nil {
		return nil
	}
	if err := d.Sync(); err != nil {
		return err
	}
	if err := d.umount(ctx); err != nil {
		return err
	}
	return d.stop(30 * time.Second)
}

// umount retries for a while: a program that has just ended may be counted as
// a user of the mount for a moment longer.
func (d *daemon) umount(ctx context.Context) error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := run(ctx, "umount", d.mnt)
		if err == nil || time.Now().After(deadline) || ctx.Err() != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// stop waits for the child to end by itself and kills it in the end.
func (d *daemon) stop(patience time.Duration) error {
	if d.child == nil {
		return nil
	}
	var err error
	select {
	case <-d.ended:
	case <-time.After(patience):
		err = fmt.Errorf("%s did not end after it was unmounted", d.name)
		_ = d.child.Process.Kill()
		<-d.ended
	}
	d.child = nil
	return err
}

func (d *daemon) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := d.Unmount(ctx)
	d.force()
	return errors.Join(err, d.stop(5*time.Second))
}
