package peer

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ticks per second of the times in /proc, on all architectures of Linux.
const ticks = 100

// CPU is the processor time that processes have used, in user and kernel
// mode, to 10 ms.
func CPU(pids []int) (total time.Duration, err error) {
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		t, err := parseCPU(stat)
		if err != nil {
			return 0, fmt.Errorf("process %d: %w", pid, err)
		}
		total += t
	}
	return total, nil
}

// parseCPU adds utime and stime, the 14th and 15th field of stat. The second
// one is a name in brackets that may hold anything.
func parseCPU(stat []byte) (time.Duration, error) {
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0, errors.New("stat is too short")
	}
	user, err := strconv.ParseUint(fields[11], 10, 48)
	if err != nil {
		return 0, err
	}
	kernel, err := strconv.ParseUint(fields[12], 10, 48)
	return time.Duration(user+kernel) * (time.Second / ticks), err
}

// Memory is what a process holds for itself, RssAnon and RssShmem, in bytes.
func Memory(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	n, err := parseMemory(string(status))
	if err != nil {
		return 0, fmt.Errorf("process %d: %w", pid, err)
	}
	return n, nil
}

func parseMemory(status string) (total int64, err error) {
	found := 0
	for line := range strings.Lines(status) {
		fields := strings.Fields(line)
		if len(fields) != 3 || (fields[0] != "RssAnon:" && fields[0] != "RssShmem:") {
			continue
		}
		kib, err := strconv.ParseInt(fields[1], 10, 48)
		if err != nil {
			return 0, err
		}
		total += kib << 10
		found++
	}
	if found != 2 {
		return 0, errors.New("no RssAnon and RssShmem in status")
	}
	return total, nil
}

// diskUse is what du says of dir, in bytes.
func diskUse(dir string) (total int64, err error) {
	linked := map[uint64]bool{} // inodes with several names, seen already
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // removed meanwhile by the filesystem
			return nil
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		if !d.IsDir() && st.Nlink > 1 {
			if linked[st.Ino] {
				return nil
			}
			linked[st.Ino] = true
		}
		total += st.Blocks * 512
		return nil
	})
	return total, err
}
