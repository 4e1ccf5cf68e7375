// Package loopback mounts a directory through FUSE unchanged: what FUSE
// itself costs with go-fuse's own example of a filesystem, no encryption. It
// is the yardstick of the benchmark and no part of kmsfs.
package loopback

import (
	"context"
	"fmt"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Serve mounts source on mountpoint and serves it until somebody unmounts it
// or ctx is done.
func Serve(ctx context.Context, source, mountpoint string) error {
	root, err := fusefs.NewLoopbackRoot(source)
	if err != nil {
		return fmt.Errorf("loopback root: %w", err)
	}
	second := time.Second // the example's time-outs
	server, err := fusefs.Mount(mountpoint, root, &fusefs.Options{
		AttrTimeout:     &second,
		EntryTimeout:    &second,
		NullPermissions: true,
		MountOptions: fuse.MountOptions{
			FsName:        source,
			Name:          "loopback",
			DisableSplice: false,
			// As root the kernel would read and write the files below by itself: then
			// the column would say what they cost without FUSE.
			DisabledCapabilities: fuse.CAP_PASSTHROUGH,
		},
	})
	if err != nil {
		return fmt.Errorf("mount loopback: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Unmount() })
	defer stop()
	server.Wait()
	return nil
}
