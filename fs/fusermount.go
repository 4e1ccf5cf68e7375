package fs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// fusermountPath finds the helper that mounts for users without privileges.
func fusermountPath() (string, error) {
	for _, name := range []string{"fusermount3", "fusermount"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: fusermount3 is not installed (package fuse3)", ErrNoFUSE)
}

// fusermount has the helper open the FUSE device and mount it, and returns the device. The helper passes it over a socket that it inherits (mount.fuse3(8);
// the variable _FUSE_COMMFD names its descriptor).
func fusermount(mountPoint string, options []string) (int, error) {
	bin, err := fusermountPath()
	if err != nil {
		return -1, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket pair for %s: %w", bin, err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "fusermount"), os.NewFile(uintptr(pair[1]), "fusermount child")
	defer ours.Close()
	cmd := exec.Command(bin, "-o", strings.Join(options, ","), "--", mountPoint)
	cmd.Env = append(os.Environ(), "_FUSE_COMMFD=3")
	cmd.ExtraFiles = []*os.File{theirs}
	out, err := cmd.CombinedOutput()
	theirs.Close()
	if err != nil {
		return -1, fmt.Errorf("%w: %s: %w: %s", ErrMount, bin, err, strings.TrimSpace(string(out)))
	}
	return receiveDescriptor(pair[0])
}

// receiveDescriptor takes the one descriptor that was sent over a socket. No child inherits it.
func receiveDescriptor(socket int) (int, error) {
	data, control := make([]byte, 16), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, data, control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("receive the FUSE device: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return -1, errors.Join(fmt.Errorf("receive the FUSE device: %w: no descriptor came", ErrMount), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, errors.Join(fmt.Errorf("receive the FUSE device: %w: no descriptor came", ErrMount), err)
	}
	return fds[0], nil
}
