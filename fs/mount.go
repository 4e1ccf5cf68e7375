package fs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Server is one mount that is being served. Safe for concurrent use.
type Server struct {
	fs         *FS
	fuse       *fuse.Server
	mountPoint string
	direct     bool          // mounted by mount(2), not by fusermount3
	device     uint64        // st_dev of the mount
	done       chan struct{} // closed when the kernel has let go of the mount
}

// Mount mounts f at mountPoint, an existing directory, and serves it until it is unmounted. When it returns, the mount answers. Root mounts by
// mount(2); everybody else through fusermount3.
//
// Errors: ErrNoFUSE, ErrMount.
func Mount(mountPoint string, f *FS, o MountOptions) (*Server, error) {
	mountPoint, err := filepath.Abs(mountPoint)
	if err != nil {
		return nil, fmt.Errorf("mount: %w: %w", ErrMount, err)
	}
	if mountPoint, err = filepath.EvalSymlinks(mountPoint); err != nil {
		return nil, fmt.Errorf("mount: %w: %w", ErrMount, err)
	}
	s := &Server{fs: f, mountPoint: mountPoint, direct: os.Geteuid() == 0, done: make(chan struct{})}
	if s.direct {
		err = s.mountDirect(o)
	} else {
		err = s.mountHelped(o)
	}
	if err != nil {
		return nil, err
	}
	go s.serve()
	s.tune()
	return s, nil
}

// mountDirect opens the device itself, so that no child ever inherits it (go-fuse's own direct mount leaves a window), and hands it to go-fuse.
func (s *Server) mountDirect(o MountOptions) error {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/fuse: %w: %w", ErrNoFUSE, err)
	}
	if err := unix.Mount(o.source(), s.mountPoint, "fuse."+subtype, o.flags(), o.data(fd)); err != nil {
		unix.Close(fd)
		return fmt.Errorf("mount on %s: %w: %w", s.mountPoint, ErrMount, err)
	}
	s.fuse, err = fuse.NewServer(s.fs, fmt.Sprintf("/dev/fd/%d", fd), o.serverOptions(s.fs.log, s.fs.fatal))
	if err != nil { // go-fuse has closed the descriptor
		return errors.Join(fmt.Errorf("mount on %s: %w: %w", s.mountPoint, ErrMount, err), unix.Unmount(s.mountPoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW))
	}
	return nil
}

func (s *Server) mountHelped(o MountOptions) error {
	if _, err := fusermountPath(); err != nil {
		return err
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return fmt.Errorf("%w: %w", ErrNoFUSE, err)
	}
	var err error
	if s.fuse, err = fuse.NewServer(s.fs, s.mountPoint, o.serverOptions(s.fs.log, s.fs.fatal)); err != nil {
		return fmt.Errorf("mount on %s: %w: %w", s.mountPoint, ErrMount, err)
	}
	return nil
}

func (s *Server) serve() {
	defer close(s.done)
	s.fuse.Serve()
}

// MountPoint returns the absolute path of the mount, free of symbolic links.
func (s *Server) MountPoint() string { return s.mountPoint }

// Done is closed when the kernel has let go of the mount and the last request is answered, whoever unmounted it.
func (s *Server) Done() <-chan struct{} { return s.done }

// Wait blocks until Done.
func (s *Server) Wait() { <-s.done }

// Unmount unmounts and waits, bounded by ctx, until the last request is answered. Dirty pages are written back first, by the kernel. It is no
// error if the mount is gone already.
//
// Errors: ErrBusy; ctx's.
func (s *Server) Unmount(ctx context.Context) error {
	if err := s.detach(0); err != nil {
		return err
	}
	return s.await(ctx)
}

// Detach unmounts lazily: the mount point is free at once, and programs that use the mount go on until they let go of it.
func (s *Server) Detach() error { return s.detach(unix.MNT_DETACH) }

// Abort breaks the connection to the kernel: every pending and later request fails with ECONNABORTED. What the page cache held unwritten is lost.
func (s *Server) Abort() error {
	return writeSysfs(fmt.Sprintf("/sys/fs/fuse/connections/%d/abort", unix.Minor(s.device)), "1")
}

func (s *Server) await(ctx context.Context) error {
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("unmount %s: %w", s.mountPoint, ctx.Err())
	}
}

func (s *Server) detach(flags int) error {
	select {
	case <-s.done:
		return nil
	default:
	}
	if !s.direct {
		return s.detachHelped(flags)
	}
	switch err := unix.Unmount(s.mountPoint, flags|unix.UMOUNT_NOFOLLOW); {
	case err == nil, errors.Is(err, unix.EINVAL): // EINVAL: no mount point any more
		return nil
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("unmount %s: %w", s.mountPoint, ErrBusy)
	default:
		return fmt.Errorf("unmount %s: %w", s.mountPoint, err)
	}
}

func (s *Server) detachHelped(flags int) error {
	bin, err := fusermountPath()
	if err != nil {
		return err
	}
	args := []string{"-u"}
	if flags&unix.MNT_DETACH != 0 {
		args = append(args, "-z")
	}
	out, err := exec.Command(bin, append(args, "--", s.mountPoint)...).CombinedOutput()
	if err == nil {
		return nil
	}
	return fmt.Errorf("unmount %s: %w: %s: %s", s.mountPoint, ErrBusy, err, strings.TrimSpace(string(out)))
}

func fusermountPath() (string, error) {
	for _, name := range []string{"fusermount3", "fusermount"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: fusermount3 is not installed (package fuse3)", ErrNoFUSE)
}
