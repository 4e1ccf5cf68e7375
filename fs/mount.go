package fs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/fs/transport"
)

// Server is one mount that is being served. Safe for concurrent use.
type Server struct {
	fs         *FS
	transport  transport.Transport
	mountPoint string
	direct     bool          // mounted by mount(2), not by fusermount3
	device     uint64        // st_dev of the mount
	done       chan struct{} // closed when the kernel has let go of the mount
}

// Mount mounts f at mountPoint, an existing directory, and serves it until it is unmounted. When it returns, the mount answers. Root mounts by
// mount(2); everybody else through fusermount3. What a crash left without a name is released first.
//
// Errors: ErrNoFUSE, ErrMount, and those of the volume.
func Mount(mountPoint string, f *FS, o MountOptions) (*Server, error) {
	mountPoint, err := filepath.Abs(mountPoint)
	if err != nil {
		return nil, fmt.Errorf("mount: %w: %w", ErrMount, err)
	}
	if mountPoint, err = filepath.EvalSymlinks(mountPoint); err != nil {
		return nil, fmt.Errorf("mount: %w: %w", ErrMount, err)
	}
	kind, err := transport.Resolve(o.Transport)
	if err != nil {
		return nil, fmt.Errorf("mount on %s: %w: %w", mountPoint, ErrMount, err)
	}
	if err := f.start(context.Background()); err != nil {
		return nil, fmt.Errorf("mount on %s: %w", mountPoint, err)
	}
	s := &Server{fs: f, mountPoint: mountPoint, direct: os.Geteuid() == 0, done: make(chan struct{})}
	f.meter = o.Meter
	device := -1
	if s.direct {
		device, err = mountDirect(mountPoint, o)
	} else {
		device, err = mountHelped(mountPoint, o)
	}
	if err != nil {
		return nil, err
	}
	if s.device, err = deviceAt(mountPoint); err != nil {
		return nil, errors.Join(fmt.Errorf("mount on %s: %w: %w", mountPoint, ErrMount, err), unix.Close(device))
	}
	s.transport, err = transport.New(kind, device, metered(f, o.Meter), o.serverOptions(f.log, f.fatal), transport.Options{MaxPoll: o.MaxPoll, Idle: o.Idle, Log: f.log})
	if err != nil { // the device is closed
		return nil, errors.Join(err, s.Detach())
	}
	f.connect(s.transport)
	go s.serve()
	s.refusePoll()
	s.tune()
	return s, nil
}

// pollHackName is a name below the root that go-fuse answers itself: polling it is refused, and the kernel never asks again. Without that, the Go runtime's
// epoll on a file of the mount, opened in the process that serves it, could stop both.
const pollHackName = ".go-fuse-epoll-hack"

// refusePoll makes the kernel learn that there is no poll, and so waits until the mount answers. It need not succeed.
func (s *Server) refusePoll() {
	fd, err := unix.Open(filepath.Join(s.mountPoint, pollHackName), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
}

// mountDirect opens the device itself, so that no child ever inherits it, and mounts it.
func mountDirect(mountPoint string, o MountOptions) (int, error) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open /dev/fuse: %w: %w", ErrNoFUSE, err)
	}
	if err := unix.Mount(o.source(), mountPoint, "fuse."+subtype, o.flags(), o.data(fd)); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("mount on %s: %w: %w", mountPoint, ErrMount, err)
	}
	return fd, nil
}

func mountHelped(mountPoint string, o MountOptions) (int, error) {
	if err := unix.Access("/dev/fuse", unix.R_OK|unix.W_OK); err != nil { // the helper opens it as this user
		return -1, fmt.Errorf("open /dev/fuse: %w: %w", ErrNoFUSE, err)
	}
	fd, err := fusermount(mountPoint, o.helperOptions())
	if err != nil {
		return -1, fmt.Errorf("mount on %s: %w", mountPoint, err)
	}
	return fd, nil
}

func (s *Server) serve() {
	defer close(s.done)
	if err := s.transport.Serve(); err != nil {
		s.fs.log.Error("connection to the kernel ended", "cause", err)
	}
	s.fs.disconnect()
}

// Transport says how requests arrive.
func (s *Server) Transport() transport.Kind { return s.transport.Kind() }

// Idle says what idle processors do while requests follow each other quickly.
func (s *Server) Idle() transport.Idle { return s.transport.Idle() }

// MountPoint returns the absolute path of the mount, free of symbolic links.
func (s *Server) MountPoint() string { return s.mountPoint }

// Device returns the st_dev of what lies on the mount.
func (s *Server) Device() uint64 { return s.device }

// Done is closed when the kernel has let go of the mount and the last request is answered, whoever unmounted it.
func (s *Server) Done() <-chan struct{} { return s.done }

// Wait blocks until Done.
func (s *Server) Wait() { <-s.done }

// Unmount unmounts and waits, bounded by ctx, until the last request is answered. Dirty pages are written back first, by the kernel. It is no
// error if the mount is gone already. If the wait ends first, a copy of the mount lives on in another mount namespace (a container, unshare(1)), which
// can be waited for, or be ended by Abort.
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

func (s *Server) await(ctx context.Context) error {
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("unmount %s: %w", s.mountPoint, ctx.Err())
	}
}

// mounted says whether this mount, and not another one or none, is at the mount point, served or not.
func (s *Server) mounted() bool {
	device, err := deviceAt(s.mountPoint)
	return err == nil && device == s.device
}

// deviceAt returns the st_dev of a path without asking the filesystem that it lies on, if that is one of FUSE.
func deviceAt(path string) (uint64, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC|unix.AT_SYMLINK_NOFOLLOW, unix.STATX_TYPE, &st); err != nil {
		return 0, err
	}
	return unix.Mkdev(st.Dev_major, st.Dev_minor), nil
}

func (s *Server) detach(flags int) error {
	if !s.mounted() {
		return nil
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
