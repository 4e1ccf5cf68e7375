package mount

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// maxLog is how large a daemon's log grows, in bytes. Then it becomes the older one, FILE.1, and a new one begins.
const maxLog = 8 << 20

// openLog opens a daemon's log for appending, 0600.
func openLog(path string) (*os.File, error) {
	if err := rotate(path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return f, nil
}

// rotate moves a log that is full out of the way.
func rotate(path string) error {
	if st, err := os.Lstat(path); err != nil || st.Size() < maxLog {
		return nil
	}
	if err := os.Rename(path, path+".1"); err != nil {
		return fmt.Errorf("rotate log: %w", err)
	}
	return nil
}

// daemonLog is the log of a daemon in the background, whose standard error is the file at path: each line goes there, and a full file is replaced by a
// new one, also as standard error, where a panic prints its stack. With path "" it is standard error as it is.
func daemonLog(path string) *slog.Logger {
	if path == "" {
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return slog.New(slog.NewTextHandler(&logWriter{path: path}, nil))
}

type logWriter struct {
	path    string
	mu      sync.Mutex
	written int64 // guarded by mu; since the file was looked at
}

var _ io.Writer = (*logWriter)(nil)

// Write never fails because of rotation: a log that cannot be rotated goes on to grow.
func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.written += int64(len(p)); w.written > maxLog/8 {
		w.written = 0
		w.renew()
	}
	return os.Stderr.Write(p)
}

func (w *logWriter) renew() {
	if st, err := os.Lstat(w.path); err != nil || st.Size() < maxLog {
		return
	}
	f, err := openLog(w.path)
	if err != nil {
		return
	}
	defer f.Close()
	_ = unix.Dup3(int(f.Fd()), int(os.Stderr.Fd()), 0)
}
