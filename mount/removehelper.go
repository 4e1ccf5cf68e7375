package mount

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The file daemon removes files of its own mount by another process. One that waits in the kernel for its own answer could not be killed: its descriptor of the connection stays open until
// it has ended, and the answer never comes.

// removeRequest has names of a directory removed.
type removeRequest struct {
	MountPoint string   `json:"mount_point"`
	Device     uint64   `json:"device"` // of the mount
	Inode      uint64   `json:"inode"`  // of the directory
	Path       []byte   `json:"path"`   // of the directory in the mount
	Names      [][]byte `json:"names"`
	Dirs       []bool   `json:"dirs"` // which of them are directories
}

// removeReply says for each name what came of it, 0 for what is removed, or that the directory could not be had.
type removeReply struct {
	Errors []syscall.Errno `json:"errors,omitempty"`
	Open   string          `json:"open,omitempty"`
}

// RemoveHelper is that other process: it answers requests until there are no more. It opens nothing but directories of the mount, each for one request.
func RemoveHelper(in io.Reader, out io.Writer) error {
	dec, enc := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var q removeRequest
		if err := dec.Decode(&q); err != nil {
			return ignoreEOF(err)
		}
		if err := enc.Encode(q.do()); err != nil {
			return err
		}
	}
}

func (q *removeRequest) do() (reply removeReply) {
	fd, err := q.open()
	if err != nil {
		return removeReply{Open: err.Error()}
	}
	defer unix.Close(fd)
	for i, name := range q.Names {
		flags := 0
		if i < len(q.Dirs) && q.Dirs[i] {
			flags = unix.AT_REMOVEDIR
		}
		var errno syscall.Errno
		if err := unix.Unlinkat(fd, string(name), flags); err != nil && !errors.As(err, &errno) {
			errno = unix.EIO
		}
		reply.Errors = append(reply.Errors, errno)
	}
	return reply
}

// open opens the directory by its place, one component after the other, following nothing, and makes sure that it is the one. The caller closes it.
func (q *removeRequest) open() (int, error) {
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Open(q.MountPoint, flags, 0)
	for _, name := range strings.Split(string(q.Path), "/") {
		if err != nil {
			return -1, fmt.Errorf("open %s in the mount: %w", q.Path, err)
		}
		if name == "" {
			continue
		}
		up := fd
		fd, err = unix.Openat(up, name, flags, 0)
		unix.Close(up)
	}
	if err != nil {
		return -1, fmt.Errorf("open %s in the mount: %w", q.Path, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Dev != q.Device || st.Ino != q.Inode {
		unix.Close(fd)
		return -1, fmt.Errorf("%s is not what it was in the mount, or lies below another one", q.Path)
	}
	return fd, nil
}

// helper is a RemoveHelper at work.
type helper struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	dec *json.Decoder
}

func startHelper() (*helper, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find own program: %w", err)
	}
	cmd := exec.Command(self, "remove-helper")
	cmd.Dir = "/"
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start helper: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start helper: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start helper: %w", err)
	}
	return &helper{cmd: cmd, in: in, dec: json.NewDecoder(out)}, nil
}

// ask has one request done.
func (h *helper) ask(q *removeRequest) (reply removeReply, err error) {
	if err = json.NewEncoder(h.in).Encode(q); err == nil {
		err = h.dec.Decode(&reply)
	}
	switch {
	case err != nil:
		return reply, fmt.Errorf("helper that removes files: %w", err)
	case reply.Open != "":
		return reply, fmt.Errorf("%w: %s", ErrBusy, reply.Open)
	case len(reply.Errors) != len(q.Names):
		return reply, fmt.Errorf("%w: the helper answers for %d names of %d", ErrDaemon, len(reply.Errors), len(q.Names))
	}
	return reply, nil
}

// close ends the process.
func (h *helper) close() {
	_ = h.in.Close()
	_ = h.cmd.Wait()
}
