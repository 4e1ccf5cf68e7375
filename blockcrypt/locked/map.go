package locked

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// mapSecret maps size bytes (whole pages) of memfd_secret(2) memory: locked by its nature, unmapped from the kernel's direct map, unreadable through
// /proc/PID/mem and left out of core dumps. It is a shared mapping, so a forked child must not get it at all.
func mapSecret(size int) ([]byte, error) {
	fd, err := unix.MemfdSecret(unix.O_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_secret: %w", err)
	}
	defer func() { _ = unix.Close(fd) }() // the mapping keeps the memory
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return nil, fmt.Errorf("size secret memory: %w", err)
	}
	region, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map secret memory: %w", err)
	}
	if err := unix.Madvise(region, unix.MADV_DONTFORK); err != nil {
		_ = unix.Munmap(region)
		return nil, fmt.Errorf("keep secret memory from children: %w", err)
	}
	return region, nil
}

// mapPrivate maps size bytes (whole pages) of anonymous memory, locked, not dumped, zero in a forked child.
func mapPrivate(size int) ([]byte, error) {
	region, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map private memory: %w", err)
	}
	if err := unix.Mlock(region); err != nil {
		_ = unix.Munmap(region)
		return nil, fmt.Errorf("lock private memory (see ulimit -l): %w", err)
	}
	for _, advice := range []int{unix.MADV_DONTDUMP, unix.MADV_WIPEONFORK} {
		if err := unix.Madvise(region, advice); err != nil {
			_ = unix.Munmap(region)
			return nil, fmt.Errorf("protect private memory: %w", err)
		}
	}
	return region, nil
}
