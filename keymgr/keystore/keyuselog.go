package keystore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/keymgr"
)

// KeyUseLog is the key-use log: a file of mode 0600 to which one JSON object a line is appended and flushed (fdatasync) before Record returns. Records that arrive while one
// batch is written go into the next, so a flush serves many. When a write or flush fails, the records of that batch are refused and the next batch
// tries again. A file that was moved away is replaced by a new one.
type KeyUseLog struct {
	path string
	open func(path string) (logFile, error) // openLogFile, but for tests
	wake chan struct{}                      // holds one token if there is a batch
	done chan struct{}                      // closed when the writer is gone

	mu struct {
		sync.Mutex
		next   *batch
		err    error // of the last batch
		closed bool
	}
	file logFile // the writer's
	torn bool    // the writer's: the last line may be incomplete
}

// logFile is what the log needs of a file.
type logFile interface {
	Write(p []byte) (int, error)
	Sync() error
	Size() (int64, error)
	Truncate(size int64) error
	Torn() bool  // its last line has no end
	Moved() bool // it is no longer the file at its path
	Close() error
}

// batch is a number of lines that are written together.
type batch struct {
	lines []byte
	done  chan struct{} // closed when err is final
	err   error
}

// maxBacklog bounds the lines that wait for a slow disk, in bytes.
const maxBacklog = 4 << 20

var (
	errLogClosed = errors.New("the key-use log is closed")
	errLogBehind = errors.New("the key-use log is too far behind")
)

var _ keymgr.Recorder = (*KeyUseLog)(nil)

// OpenLog opens the log at path, or makes it. The system's error, or ErrUnsafe for what is not a regular file.
func OpenLog(path string) (*KeyUseLog, error) { return openLog(path, openLogFile) }

func openLog(path string, open func(string) (logFile, error)) (*KeyUseLog, error) {
	f, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("open key-use log: %w", err)
	}
	l := &KeyUseLog{path: path, open: open, wake: make(chan struct{}, 1), done: make(chan struct{}), file: f, torn: f.Torn()}
	go l.write()
	return l, nil
}

// Record implements keymgr.Recorder: it returns nil when the line is on disk. When ctx ends first the use is refused, though its line may still
// reach the disk.
func (l *KeyUseLog) Record(ctx context.Context, u keymgr.Use) error {
	line, err := json.Marshal(u)
	if err != nil {
		return fmt.Errorf("encode key use: %w", err)
	}
	b, err := l.enqueue(append(line, '\n'))
	if err != nil {
		return err
	}
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return fmt.Errorf("write key-use log: %w", ctx.Err())
	}
}

func (l *KeyUseLog) enqueue(line []byte) (*batch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.closed {
		return nil, errLogClosed
	}
	if l.mu.next == nil {
		l.mu.next = &batch{done: make(chan struct{})}
	}
	b := l.mu.next
	if len(b.lines)+len(line) > maxBacklog {
		return nil, errLogBehind
	}
	b.lines = append(b.lines, line...)
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return b, nil
}

// write is the writer: the only one to touch the file.
func (l *KeyUseLog) write() {
	defer close(l.done)
	for range l.wake {
		b := l.take()
		if b == nil {
			continue
		}
		b.err = l.append(b.lines)
		l.mu.Lock()
		l.mu.err = b.err
		l.mu.Unlock()
		close(b.done)
	}
	if b := l.take(); b != nil { // came in just before Close
		b.err = l.append(b.lines)
		close(b.done)
	}
	if l.file != nil {
		_ = l.file.Close()
	}
}

func (l *KeyUseLog) take() *batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.mu.next
	l.mu.next = nil
	return b
}

// append writes and flushes lines. What failed half-way is cut off again, or, where that fails too, closed by a newline next time: a reader skips
// the line that is no JSON.
func (l *KeyUseLog) append(lines []byte) error {
	if err := l.ready(); err != nil {
		return fmt.Errorf("write key-use log: %w", err)
	}
	size, err := l.file.Size()
	if err != nil {
		return fmt.Errorf("write key-use log: %w", err)
	}
	if l.torn {
		lines = append([]byte("\n"), lines...)
	}
	if _, err = l.file.Write(lines); err != nil {
		l.torn = l.file.Truncate(size) != nil || l.torn
		return fmt.Errorf("write key-use log: %w", err)
	}
	l.torn = false
	if err := l.file.Sync(); err != nil {
		return fmt.Errorf("flush key-use log: %w", err)
	}
	return nil
}

// ready makes sure that the file at the log's path is open.
func (l *KeyUseLog) ready() error {
	if l.file != nil && !l.file.Moved() {
		return nil
	}
	if l.file != nil {
		_ = l.file.Close()
		l.file = nil
	}
	f, err := l.open(l.path)
	if err != nil {
		return err
	}
	l.file, l.torn = f, f.Torn()
	return nil
}

// Err is why the last batch could not be written, nil if it could.
func (l *KeyUseLog) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.err
}

// Close writes what is waiting and closes the file. Later Records fail.
func (l *KeyUseLog) Close() error {
	l.mu.Lock()
	if !l.mu.closed {
		l.mu.closed = true
		close(l.wake)
	}
	l.mu.Unlock()
	<-l.done
	return nil
}

// diskLog is the logFile on disk.
type diskLog struct {
	f    *os.File
	path string
}

func openLogFile(path string) (logFile, error) {
	_, missing := os.Lstat(path)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && (!st.Mode().IsRegular() || st.Mode().Perm()&0o077 != 0) {
		err = fmt.Errorf("%w: %s is %s", ErrUnsafe, path, st.Mode())
	}
	if err == nil && missing != nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &diskLog{f, path}, nil
}

func (d *diskLog) Write(p []byte) (int, error) { return d.f.Write(p) }
func (d *diskLog) Sync() error                 { return unix.Fdatasync(int(d.f.Fd())) }
func (d *diskLog) Truncate(size int64) error   { return d.f.Truncate(size) }
func (d *diskLog) Close() error                { return d.f.Close() }
func (d *diskLog) Size() (int64, error) {
	st, err := d.f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (d *diskLog) Torn() bool {
	size, err := d.Size()
	if err != nil || size == 0 {
		return err != nil
	}
	last := make([]byte, 1)
	_, err = d.f.ReadAt(last, size-1)
	return err != nil || last[0] != '\n'
}

func (d *diskLog) Moved() bool {
	here, err := d.f.Stat()
	if err != nil {
		return true
	}
	there, err := os.Lstat(d.path)
	return err != nil || !os.SameFile(here, there)
}
