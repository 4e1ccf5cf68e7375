package mount

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/mount/control"
)

// Descriptors that a spawned process finds open, beside the three usual ones.
const (
	ReadyFD = 3 // it writes one line here: ready, or why not
	InputFD = 4 // its secret (keyd) or its configuration (file daemon), to the end
)

// spawnTimeout bounds how long a started daemon may take to be ready; replaying a large journal takes the longest.
const spawnTimeout = 5 * time.Minute

// readiness is the line on ReadyFD.
type readiness struct {
	Error *control.Failure `json:"error,omitempty"`
}

// spawn starts this program again as a daemon: a session of its own, no terminal, output to the log file, input on InputFD. It returns when the
// daemon says that it is ready, or with the error it gave.
func spawn(args []string, logPath string, input []byte) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	log, err := openLog(logPath)
	if err != nil {
		return err
	}
	defer log.Close()
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start daemon: %w", err)
	}
	defer readyR.Close()
	inputR, err := inputPipe(input)
	if err != nil {
		readyW.Close()
		return err
	}
	st, err := log.Stat()
	if err != nil {
		return fmt.Errorf("start daemon: %w", err)
	}
	cmd := exec.Command(self, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{readyW, inputR}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	readyW.Close()
	inputR.Close()
	if err != nil {
		return fmt.Errorf("start daemon: %w", err)
	}
	c := watch(cmd, log)
	c.from = st.Size()
	return c.awaitReady(readyR)
}

func (c *child) awaitReady(r *os.File) error {
	_ = r.SetReadDeadline(time.Now().Add(spawnTimeout))
	line, err := bufio.NewReader(io.LimitReader(r, 64<<10)).ReadBytes('\n')
	if err != nil {
		return c.died(err)
	}
	var got readiness
	if err := json.Unmarshal(line, &got); err != nil {
		return fmt.Errorf("%w: process %d said %.100q", ErrDaemon, c.pid, line)
	}
	if got.Error != nil {
		return got.Error
	}
	return nil
}

// inputPipe returns the read end of a pipe that holds the whole input, which must fit into it.
func inputPipe(input []byte) (*os.File, error) {
	if len(input) > 48<<10 {
		return nil, fmt.Errorf("start daemon: input of %d bytes", len(input))
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start daemon: %w", err)
	}
	_, err = w.Write(input)
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("start daemon: %w", err)
	}
	return r, nil
}

// Ready is the daemon's side of spawn: it tells the waiting parent once how it went. The zero Ready (a daemon in the foreground) tells nobody.
type Ready struct{ w *os.File }

// ReadyTo returns the Ready that speaks to fd, which the process inherited; 0 means nobody.
func ReadyTo(fd int) *Ready {
	if fd <= 0 {
		return &Ready{}
	}
	unix.CloseOnExec(fd)
	return &Ready{w: os.NewFile(uintptr(fd), "ready")}
}

// Tell says how the start went; only the first call has an effect.
func (r *Ready) Tell(err error) {
	if r.w == nil {
		return
	}
	var line readiness
	if err != nil {
		line.Error = failure(err)
	}
	if raw, err := json.Marshal(line); err == nil {
		_, _ = r.w.Write(append(raw, '\n'))
	}
	_ = r.w.Close()
	r.w = nil
}
