package peer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// kmsfs is the filesystem of this project, run as the README says.
type kmsfs struct {
	base
	bin       string
	store     []string // flags that name the key store and its key
	transport string   // as -o transport
	checked   bool     // that requests do come over it
}

func newKmsfs(ctx context.Context, b base, bin, transport string) (*kmsfs, error) {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(bin); err != nil {
		return nil, fmt.Errorf("kmsfs is not built: %w", err)
	}
	dir := filepath.Dir(b.lower)
	k := &kmsfs{base: b, bin: bin, transport: transport,
		store: []string{"--keystore", filepath.Join(dir, "keystore"), "--key-file", filepath.Join(dir, "key")}}
	if err := k.run(ctx, "init", b.lower); err != nil {
		return nil, errors.Join(err, k.lock())
	}
	return k, nil
}

// run executes a subcommand with the key store's flags.
func (k *kmsfs) run(ctx context.Context, command string, args ...string) error {
	return run(ctx, k.bin, append(append([]string{command}, args...), k.store...)...)
}

// lock ends the key daemon of this benchmark's key store.
func (k *kmsfs) lock() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return run(ctx, k.bin, "keystore", "lock", k.store[0], k.store[1])
}

func (k *kmsfs) Mount(ctx context.Context) error {
	if err := k.run(ctx, "mount", k.lower, k.mnt, "-o", "transport="+k.transport); err != nil || k.checked {
		return err
	}
	status, err := k.status(ctx)
	if err == nil && status.Transport != k.transport {
		err = fmt.Errorf("requests come over %s, not %s", status.Transport, k.transport)
	}
	k.checked = err == nil
	return err
}

// mountStatus is what is used of `kmsfs status`.
type mountStatus struct {
	PID       int    `json:"pid"`
	Transport string `json:"transport"`
}

func (k *kmsfs) status(ctx context.Context) (mountStatus, error) {
	var mounts []mountStatus
	if err := k.query(ctx, &mounts, "status", k.mnt, "--json"); err != nil {
		return mountStatus{}, err
	}
	if len(mounts) != 1 {
		return mountStatus{}, fmt.Errorf("kmsfs status shows %d mounts", len(mounts))
	}
	return mounts[0], nil
}

// query reads the JSON that a subcommand prints.
func (k *kmsfs) query(ctx context.Context, into any, args ...string) error {
	out, err := output(ctx, k.bin, args...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, into); err != nil {
		return fmt.Errorf("kmsfs %s: %w", args[0], err)
	}
	return nil
}

// Processes are the file daemon and the key daemon.
func (k *kmsfs) Processes(ctx context.Context) ([]int, error) {
	status, err := k.status(ctx)
	if err != nil {
		return nil, err
	}
	var keys struct {
		PID int `json:"pid"`
	}
	if err := k.query(ctx, &keys, "keystore", "status", "--json", k.store[0], k.store[1]); err != nil {
		return nil, err
	}
	return []int{status.PID, keys.PID}, nil
}

// Unmount waits until the volume is closed, which makes it durable.
func (k *kmsfs) Unmount(ctx context.Context) error {
	if !k.mounted() {
		return nil
	}
	return run(ctx, k.bin, "umount", k.mnt)
}

// Sync uses that fsync of a kmsfs mount's root makes all of it durable.
func (k *kmsfs) Sync() error {
	if err := syncfs(k.mnt); err != nil { // hands over the pages the kernel holds
		return err
	}
	f, err := os.Open(k.mnt)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func (k *kmsfs) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := k.Unmount(ctx)
	k.force()
	return errors.Join(err, k.lock())
}
