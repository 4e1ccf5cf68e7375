package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// capability is the bit of FUSE_INIT for FUSE over io_uring; flags2 holds the bits from 32 on.
const capability = fuse.CAP_OVER_IO_URING

// Ring serves one FUSE connection over io_uring: a request is handled on the processor where it was made, by one of the threads that wait there. What does not come that
// way (the first request, FORGET, INTERRUPT) and notifications go over the device, which a Loop that does not poll serves beside. Where the kernel does not offer it
// after all, a Ring is that Loop.
type Ring struct {
	loop     *Loop
	anywhere unix.CPUSet
	nudges   atomic.Uint64
	workers  sync.WaitGroup
	kind     Kind
}

// NewRing returns a Ring for the open FUSE device fd: see New.
func NewRing(fd int, filesystem fuse.RawFileSystem, mount *fuse.MountOptions, o Options) (*Ring, error) {
	with := *mount
	with.ExtraCapabilities |= capability
	with.MaxBackground = min(with.MaxBackground, maxBackground)
	loop, err := NewLoop(fd, filesystem, &with, o)
	if err != nil {
		return nil, err
	}
	r := &Ring{loop: loop, kind: Uring}
	if err := unix.SchedGetaffinity(0, &r.anywhere); err != nil {
		loop.idling.close()
		unix.Close(fd)
		return nil, fmt.Errorf("processors of this process: %w", err)
	}
	offered, err := loop.handshake()
	if err == nil && !offered {
		loop.log.Warn("the kernel does not offer FUSE over io_uring for this mount: it goes over the device")
		r.kind = Device
		return r, nil
	}
	if err == nil {
		loop.poll = pollWindow{}
		err = r.register()
	}
	if err != nil {
		loop.idling.close()
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrNoUring, err), unix.Close(fd)) // which ends the mount
	}
	return r, nil
}

// handshake takes the first request, FUSE_INIT, answers it, and tells whether io_uring was agreed upon.
func (l *Loop) handshake() (bool, error) {
	r := &reader{buffers: &buffers{make([]byte, l.size), make([]byte, l.size)}, loop: l}
	n, ok := r.receive()
	if !ok {
		return false, errors.Join(errors.New("the mount ended before its first request"), l.endErr)
	}
	r.handle(n)
	// struct fuse_init_in: major, minor, max_readahead, flags, flags2.
	return n >= inHeaderSize+20 && uint64(binary.NativeEndian.Uint32(r.in[inHeaderSize+16:]))<<32&capability != 0, nil
}

// register gives the kernel an entry for each possible processor. It holds back all requests until it has them.
func (r *Ring) register() error {
	highest, err := highestProcessor("/sys/devices/system/cpu/possible") // the kernel has a queue for each
	if err == nil && highest >= len(unix.CPUSet{})*64 {
		err = fmt.Errorf("processor %d is more than there can be", highest)
	}
	if err != nil {
		return err
	}
	n := highest + 1
	started := make(chan error, n*(reserve+1))
	for cpu := range n {
		q := &queue{ring: r, cpu: cpu}
		for range reserve + 1 {
			q.grow(func(err error) { started <- err })
		}
	}
	for range cap(started) {
		err = errors.Join(err, <-started)
	}
	return err
}

// Serve implements Transport.
func (r *Ring) Serve() error {
	err := r.loop.serve()
	if err == nil || errors.Is(err, unix.ECONNABORTED) {
		r.workers.Wait() // they end with the connection; after another fault of the device it may live on
	}
	if closeErr := unix.Close(r.loop.fd); closeErr != nil {
		return errors.Join(err, fmt.Errorf("close /dev/fuse: %w", closeErr))
	}
	return err
}

// Kind is Uring, or Device where the kernel did not offer it.
func (r *Ring) Kind() Kind { return r.kind }

// Idle implements Transport.
func (r *Ring) Idle() Idle { return r.loop.Idle() }

// Stats returns the counters. Those of polling and handing over count what came over the device.
func (r *Ring) Stats() Stats { return r.loop.Stats() }

// InodeNotify is Loop's.
func (r *Ring) InodeNotify(node uint64, off, length int64) fuse.Status {
	return r.loop.InodeNotify(node, off, length)
}

// InodeStore is Loop's.
func (r *Ring) InodeStore(node uint64, data []byte) fuse.Status { return r.loop.InodeStore(node, data) }

// EntryNotify is Loop's.
func (r *Ring) EntryNotify(parent uint64, name string) fuse.Status {
	return r.loop.EntryNotify(parent, name)
}

// DeleteNotify is Loop's.
func (r *Ring) DeleteNotify(parent, child uint64, name string) fuse.Status {
	return r.loop.DeleteNotify(parent, child, name)
}
