package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// WorkerCommand is the first argument with which a program that runs loads
// has to call Worker.
const WorkerCommand = "worker"

// crew are processes that wait for their start.
type crew struct {
	workers []*exec.Cmd
	start   []io.Closer // their standard inputs
	stderr  []*bytes.Buffer
}

// hire starts n processes of this program and waits until all are ready. They
// end with ctx, in any case.
func hire(ctx context.Context, n int, args func(k int) []string) (*crew, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &crew{}
	for k := range n {
		cmd := exec.CommandContext(ctx, self, append([]string{WorkerCommand}, args(k)...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the parent, which ends it
		if err := c.add(cmd); err != nil {
			c.dismiss()
			return nil, err
		}
	}
	return c, nil
}

// add starts a worker and waits for its line on standard output.
func (c *crew) add(cmd *exec.Cmd) error {
	stderr := &bytes.Buffer{}
	cmd.Stderr = stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start a worker: %w", err)
	}
	c.workers, c.start, c.stderr = append(c.workers, cmd), append(c.start, in), append(c.stderr, stderr)
	if _, err := io.ReadFull(out, make([]byte, len(ready))); err != nil {
		return fmt.Errorf("a worker is not ready: %w", err)
	}
	return nil
}

// work lets all begin and waits for all.
func (c *crew) work() error {
	for _, in := range c.start {
		_ = in.Close() // Wait closes it again if this fails
	}
	return c.wait()
}

// dismiss ends workers that have not begun.
func (c *crew) dismiss() {
	for _, w := range c.workers {
		_ = w.Process.Kill()
	}
	_ = c.wait() // they were killed
}

func (c *crew) wait() error {
	var errs []error
	for k, w := range c.workers {
		if err := w.Wait(); err != nil {
			errs = append(errs, fmt.Errorf("worker %d: %w: %.300s", k, err, c.stderr[k]))
		}
	}
	return errors.Join(errs...)
}

const ready = "ready\n"

// Worker is the life of a worker process: it says that it is ready on out,
// waits for the end of in, and does an operation on so many files: args are
// operation, directory and number.
func Worker(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	if len(args) != 3 {
		return fmt.Errorf("worker: operation, directory and number are wanted, not %q", args)
	}
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	op, passes := workerOp(args[0])
	if op == nil {
		return fmt.Errorf("worker: no operation %q", args[0])
	}
	if _, err := io.WriteString(out, ready); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return err
	}
	for range passes {
		for i := range n {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := op(workerFile(args[1], i)); err != nil {
				return err
			}
		}
	}
	return nil
}

func workerFile(dir string, i int) string { return filepath.Join(dir, strconv.Itoa(i)) }

// workerOp returns what is done with a file's name, and how often.
func workerOp(name string) (op func(string) error, passes int) {
	switch name {
	case opCreate:
		content := make([]byte, page)
		return func(name string) error { return createFile(name, content) }, 1
	case opOpen:
		return openFile, 1
	case opStat:
		return statFile, statPasses
	case opUnlink:
		return os.Remove, 1
	}
	return nil, 0
}

func createFile(name string, content []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.Write(content); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}

func openFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return f.Close()
}

func statFile(name string) error {
	info, err := os.Lstat(name)
	if err == nil && info.Size() != page {
		err = fmt.Errorf("%s has %d bytes: wrong data", filepath.Base(name), info.Size())
	}
	return err
}
