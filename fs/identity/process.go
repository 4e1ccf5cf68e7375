package identity

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// process is a thread, held by its directory in /proc: what is read through it is that thread's, or fails.
type process struct{ dir int }

func openProcess(pid uint32) (*process, error) {
	if pid == 0 {
		return nil, fmt.Errorf("process 0: %w", os.ErrNotExist)
	}
	dir, err := unix.Open("/proc/"+strconv.FormatUint(uint64(pid), 10), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	return &process{dir}, nil
}

func (p *process) close() { _ = unix.Close(p.dir) }

// maxStatus bounds what is read of a process: 65,536 groups of up to 11 characters are the most that Linux knows.
const maxStatus = 1 << 20

func (p *process) read(name string) ([]byte, error) {
	fd, err := unix.Openat(p.dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxStatus))
}

// groups returns the supplementary groups and the one for new files, if the process acts as uid and gid.
func (p *process) groups(uid, gid uint32) ([]uint32, error) {
	status, err := p.read("status")
	if err != nil {
		return nil, err
	}
	groups := []uint32{gid}
	var uids, gids []uint32
	found := false
	for line := range bytes.Lines(status) {
		name, rest, _ := bytes.Cut(line, []byte(":"))
		switch string(name) {
		case "Uid":
			uids, err = numbers(rest)
		case "Gid":
			gids, err = numbers(rest)
		case "Groups":
			var more []uint32
			more, err = numbers(rest)
			groups, found = append(groups, more...), true
		}
		if err != nil {
			return nil, err
		}
	}
	if !found || len(uids) != 4 || len(gids) != 4 {
		return nil, fmt.Errorf("status of a process lacks uids, gids or groups")
	}
	if uids[3] != uid || gids[3] != gid { // the last of four is the filesystem's
		return nil, fmt.Errorf("process acts as %d:%d, not as %d:%d", uids[3], gids[3], uid, gid)
	}
	slices.Sort(groups)
	return slices.Compact(groups), nil
}

func numbers(text []byte) ([]uint32, error) {
	var all []uint32
	for _, field := range bytes.Fields(text) {
		n, err := strconv.ParseUint(string(field), 10, 32)
		if err != nil {
			return nil, fmt.Errorf("status of a process: %w", err)
		}
		all = append(all, uint32(n))
	}
	return all, nil
}
