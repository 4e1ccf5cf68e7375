package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
)

// uringSwitch says Y or N for the whole machine.
const uringSwitch = "/sys/module/fuse/parameters/enable_uring"

// uring is kmsfs over io_uring. Mounting it switches the kernel's support on,
// Close puts back what was.
type uring struct {
	*kmsfs
	was []byte
}

func newUring(ctx context.Context, b base, bin string) (Peer, error) {
	was, err := os.ReadFile(uringSwitch)
	if err != nil {
		return nil, fmt.Errorf("the kernel has no FUSE over io_uring: %w", err)
	}
	k, err := newKmsfs(ctx, b, bin, "io_uring")
	if err != nil {
		return nil, err
	}
	return &uring{k, was}, nil
}

func (u *uring) Close() error { return errors.Join(u.kmsfs.Close(), u.restore()) }

func (u *uring) restore() error {
	is, err := os.ReadFile(uringSwitch)
	if err != nil || bytes.Equal(is, u.was) {
		return err
	}
	return os.WriteFile(uringSwitch, u.was, 0)
}
