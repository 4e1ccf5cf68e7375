// Package locked keeps raw secrets in memory that is not swapped, not dumped and not inherited, and makes a process unattractive to look into.
//
// It does not know what a secret means. Its one noun is the Buffer: a few bytes outside the Go heap, so that the garbage collector neither
// copies nor keeps them. A Buffer costs at least one page and one mapping, so it is meant for the handful of long-lived secrets of a process
// (passphrase, PIN, store key), not for a key per file.
//
// A Buffer may be used by several goroutines as long as none of them touches the slice from Bytes after Close. See docs/THREATMODEL.md for
// what this defends against, and what it does not (a tracer, root, a hypervisor).
package locked

import (
	"fmt"
	"io"
	"log/slog"
	"sync"

	"golang.org/x/sys/unix"
)

// MaxSize is the largest Buffer in bytes; secrets are small, and locked memory is a scarce resource of the machine.
const MaxSize = 1 << 20

// Buffer is a fixed number of secret bytes in locked memory. The zero value holds nothing and is closed. It prints as [redacted].
type Buffer struct {
	mu struct {
		sync.Mutex
		region []byte // whole pages; nil once closed
	}
	n    int
	kind string
}

// New returns a Buffer of n zero bytes, 1 <= n <= MaxSize. The memory comes from memfd_secret where the kernel has it (such pages leave the
// kernel's own address map; while one is open, the machine does not hibernate), otherwise from a private mapping that is locked, left out of core dumps and
// emptied in a forked child. Errors: ErrSize, or the system's reason why no memory could be locked (RLIMIT_MEMLOCK).
func New(n int) (*Buffer, error) {
	if n < 1 || n > MaxSize {
		return nil, fmt.Errorf("allocate %d bytes of locked memory: %w", n, ErrSize)
	}
	page := unix.Getpagesize()
	size := (n + page - 1) / page * page
	b := &Buffer{n: n, kind: "memfd_secret"}
	region, err := mapSecret(size)
	if err != nil {
		b.kind = "mlock"
		if region, err = mapPrivate(size); err != nil {
			return nil, fmt.Errorf("allocate %d bytes of locked memory: %w", n, err)
		}
	}
	b.mu.region = region
	return b, nil
}

// FromBytes moves the secret into a new Buffer: it copies secret and wipes the original, also when it fails. Errors as New.
func FromBytes(secret []byte) (*Buffer, error) {
	defer Wipe(secret)
	b, err := New(len(secret))
	if err != nil {
		return nil, err
	}
	copy(b.mu.region, secret)
	return b, nil
}

// ReadAll reads r to its end straight into a new Buffer; nothing passes through the Go heap unless r itself does so. More than limit bytes is ErrSize, none at all is
// ErrEmpty; 1 <= limit <= MaxSize.
func ReadAll(r io.Reader, limit int) (*Buffer, error) {
	if limit < 1 || limit >= MaxSize {
		return nil, fmt.Errorf("read a secret of at most %d bytes: %w", limit, ErrSize)
	}
	in, err := New(limit + 1) // one more, to see that there is more
	if err != nil {
		return nil, err
	}
	defer in.Close()
	n, err := io.ReadFull(r, in.Bytes())
	switch {
	case err == nil:
		return nil, fmt.Errorf("read a secret of at most %d bytes: %w", limit, ErrSize)
	case n == 0 && err == io.EOF:
		return nil, fmt.Errorf("read a secret: %w", ErrEmpty)
	case err != io.EOF && err != io.ErrUnexpectedEOF:
		return nil, fmt.Errorf("read a secret: %w", err)
	}
	return FromBytes(in.Bytes()[:n])
}

// Bytes returns the secret itself, of the length given to New; it belongs to b and must not be used after Close. It is nil after Close.
func (b *Buffer) Bytes() []byte {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.region == nil {
		return nil
	}
	return b.mu.region[:b.n:b.n]
}

// Len is the number of secret bytes, also after Close.
func (b *Buffer) Len() int {
	if b == nil {
		return 0
	}
	return b.n
}

// Clone returns a second Buffer with the same content, which is closed on its own. ErrClosed when b is closed.
func (b *Buffer) Clone() (*Buffer, error) {
	src := b.Bytes()
	if src == nil {
		return nil, ErrClosed
	}
	c, err := New(len(src))
	if err != nil {
		return nil, err
	}
	copy(c.mu.region, src)
	return c, nil
}

// Kind says how the memory is protected: "memfd_secret" or "mlock".
func (b *Buffer) Kind() string { return b.kind }

// Close wipes the secret and gives the memory back. It may be called more than once and on nil.
func (b *Buffer) Close() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.region == nil {
		return
	}
	Wipe(b.mu.region)
	_ = unix.Munmap(b.mu.region) // fails only for a region that is not ours
	b.mu.region = nil
}

// Format prints [redacted] for every verb.
func (b *Buffer) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue logs [redacted].
func (b *Buffer) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText gives [redacted], so that a Buffer inside a larger value never reaches an encoder.
func (b *Buffer) MarshalText() ([]byte, error) { return []byte(redacted), nil }

const redacted = "[redacted]"

// Wipe overwrites p with zeros. It is for secrets that had to be on the Go heap for a moment; copies that others made are out of its reach.
func Wipe(p []byte) { clear(p) }
