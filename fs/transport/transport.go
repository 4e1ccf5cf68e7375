package transport

import (
	"errors"
	"fmt"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Transport serves one FUSE connection. Serve runs it; everything else is safe for concurrent use while it runs. Loop and Ring are the two.
type Transport interface {
	// Serve takes requests and answers them until the filesystem is unmounted or the connection aborted, then interrupts what is still under way, waits
	// for it, and closes the device. It returns nil after an unmount, else why the connection ended.
	Serve() error
	// Kind is Device or Uring.
	Kind() Kind
	// Idle is what idle processors do while requests come quickly: IdlePoll or IdleHalt.
	Idle() Idle
	Stats() Stats
	InodeNotify(node uint64, off, length int64) fuse.Status
	InodeStore(node uint64, data []byte) fuse.Status
	EntryNotify(parent uint64, name string) fuse.Status
	DeleteNotify(parent, child uint64, name string) fuse.Status
}

// Kind names a way that requests arrive.
type Kind string

const (
	Auto   Kind = ""         // Uring where the kernel has it switched on, else Device
	Device Kind = "device"   // read and written on /dev/fuse
	Uring  Kind = "io_uring" // FUSE-over-io_uring (Linux 6.14)
)

// ErrNoUring means that FUSE-over-io_uring was asked for and is not to be had.
var ErrNoUring = errors.New("FUSE over io_uring is not available")

// ParseKind reads the name of a kind: auto (or nothing), device, io_uring.
func ParseKind(s string) (Kind, error) {
	switch k := Kind(s); {
	case s == "auto":
		return Auto, nil
	case k == Auto || k == Device || k == Uring:
		return k, nil
	}
	return Auto, fmt.Errorf("transport %q: there are auto, device and io_uring", s)
}

// Resolve says which kind a mount will have, before it is made. Auto never fails; Uring switches the kernel's support on if it is off and the process may do so
// (root). ErrNoUring.
func Resolve(k Kind) (Kind, error) {
	switch k {
	case Device:
		return Device, nil
	case Uring:
		if err := switchOn(); err != nil {
			return "", err
		}
		return Uring, probe()
	}
	if on, err := switchedOn(); err != nil || !on || probe() != nil {
		return Device, nil
	}
	return Uring, nil
}

// New returns the transport of a kind that Resolve gave, for the open FUSE device fd, which is mounted already; it takes ownership of fd. The options are
// go-fuse's: MaxWrite must be the max_read of the mount.
func New(k Kind, fd int, filesystem fuse.RawFileSystem, mount *fuse.MountOptions, o Options) (Transport, error) {
	if k == Uring {
		return NewRing(fd, filesystem, mount, o)
	}
	return NewLoop(fd, filesystem, mount, o)
}
