package transport

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
)

// uringSwitch is the module parameter without which the kernel does not offer FUSE over io_uring. Only root can write it.
const uringSwitch = "/sys/module/fuse/parameters/enable_uring"

// switchedOn tells whether the kernel offers it. fs.ErrNotExist: the kernel does not know it.
func switchedOn() (bool, error) {
	b, err := os.ReadFile(uringSwitch)
	return bytes.HasPrefix(b, []byte("Y")), err
}

// switchOn makes the kernel offer it to this and later mounts of the machine.
func switchOn() error {
	on, err := switchedOn()
	if err != nil {
		return fmt.Errorf("%w: this kernel does not know it (Linux 6.14 with CONFIG_FUSE_IO_URING): %w", ErrNoUring, err)
	}
	if on {
		return nil
	}
	if err := os.WriteFile(uringSwitch, []byte("Y"), 0); err != nil {
		return fmt.Errorf("%w: it is switched off, root switches it on with: echo Y > %s: %w", ErrNoUring, uringSwitch, err)
	}
	return nil
}

// probe tries what a queue will need, because nothing can be taken back once the kernel counts on the queues.
func probe() error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // a ring belongs to the thread that makes it
		r, err := newRing()
		if err == nil {
			r.close()
		}
		result <- err
	}()
	if err := <-result; err != nil {
		return fmt.Errorf("%w: %w", ErrNoUring, err)
	}
	return nil
}
