package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// daemon is a peer whose filesystem process runs in the foreground as our
// child and ends when it is unmounted.
type daemon struct {
	base
	argv  []string
	env   []string // added to ours
	input string   // file that is its standard input, "" for none
	child *exec.Cmd
	out   bytes.Buffer
	ended chan error
}

func (d *daemon) Mount(ctx context.Context) error {
	if err := d.start(); err != nil {
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

// start runs the child. It is in a process group of its own: Ctrl-C is for
// this program, which ends the child by unmounting.
func (d *daemon) start() error {
	d.out.Reset()
	child := exec.Command(d.argv[0], d.argv[1:]...)
	child.Stdout, child.Stderr = &d.out, &d.out
	child.Env = append(os.Environ(), d.env...)
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if d.input != "" {
		in, err := os.Open(d.input)
		if err != nil {
			return err
		}
		defer in.Close() // the child has its own
		child.Stdin = in
	}
	if err := child.Start(); err != nil {
		return err
	}
	d.child = child
	return nil
}

func (d *daemon) Unmount(ctx context.Context) error {
	if d.child == nil {
		return nil
	}
	if !d.mounted() { // it ended by itself, or never came up
		return d.stop(time.Second)
	}
	if err := errors.Join(d.Sync(), d.umount(ctx)); err != nil {
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
		err = fmt.Errorf("%s did not end by itself; another mount namespace may hold its mount", d.name)
		_ = d.child.Process.Kill()
		<-d.ended
	}
	d.child = nil
	return err
}

// Processes is the child.
func (d *daemon) Processes(context.Context) ([]int, error) {
	if d.child == nil {
		return nil, fmt.Errorf("%s is not mounted", d.name)
	}
	return []int{d.child.Process.Pid}, nil
}

func (d *daemon) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := d.Unmount(ctx)
	d.force()
	return errors.Join(err, d.stop(5*time.Second))
}
