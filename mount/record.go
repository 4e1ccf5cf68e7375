package mount

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/hsm/awake"
	"github.com/kmsfs/kmsfs/mount/control"
)

// record is what the runtime directory holds about a mount, for those who look for its daemon: ID.json beside ID.sock and ID.log. The daemon makes
// it when the mount answers and removes it when it has closed; after a crash it stays.
type record struct {
	Volume     string `json:"volume"`
	ID         string `json:"volume_id"`
	MountPoint string `json:"mount_point"`
	Device     string `json:"device"` // major:minor, as in the mount table
	PID        int    `json:"pid"`
}

// runDir is the runtime directory.
type runDir struct{ dir string }

func openRuntime() (runDir, error) {
	dir, err := RuntimeDir()
	return runDir{dir}, err
}

func (r runDir) socket(id string) string { return filepath.Join(r.dir, id+".sock") }
func (r runDir) record(id string) string { return filepath.Join(r.dir, id+".json") }
func (r runDir) log(id string) string    { return filepath.Join(r.dir, id+".log") }

func (r runDir) write(rec record) error {
	raw, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("write mount record: %w", err)
	}
	tmp := r.record(rec.ID) + ".new"
	if err := os.WriteFile(tmp, append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("write mount record: %w", err)
	}
	if err := os.Rename(tmp, r.record(rec.ID)); err != nil {
		return fmt.Errorf("write mount record: %w", err)
	}
	return nil
}

// forget removes what a daemon leaves: its record and its socket. The log stays.
func (r runDir) forget(id string) error {
	var errs []error
	for _, path := range []string{r.record(id), r.socket(id)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove mount record: %w", err))
		}
	}
	return errors.Join(errs...)
}

// records returns all that are there, in no particular order.
func (r runDir) records() ([]record, error) {
	names, err := filepath.Glob(filepath.Join(r.dir, "*.json"))
	if err != nil {
		return nil, fmt.Errorf("list mount records: %w", err)
	}
	var all []record
	for _, name := range names {
		var rec record
		raw, err := os.ReadFile(name)
		if err != nil || json.Unmarshal(raw, &rec) != nil {
			continue // being replaced, or not ours
		}
		if _, err := blockcrypt.ParseVolumeID(rec.ID); err == nil && rec.ID+".json" == filepath.Base(name) {
			all = append(all, rec)
		}
	}
	return all, nil
}

// find returns the record of the mount m.
func (r runDir) find(m mountEntry) (record, bool) {
	all, err := r.records()
	if err != nil {
		return record{}, false
	}
	for _, rec := range all {
		if rec.Device == m.Device {
			return rec, true
		}
	}
	for _, rec := range all { // of a dead daemon the device may be in use again
		if rec.MountPoint == m.Point {
			return rec, true
		}
	}
	return record{}, false
}

// mounted returns the kmsfs mount exactly at path. It does not touch the mount itself, which may hang or be dead.
func mountedAt(path string) (mountEntry, error) {
	real, err := realPath(path)
	if err != nil {
		return mountEntry{}, err
	}
	table, err := mountTable()
	if err != nil {
		return mountEntry{}, err
	}
	m, ok := mountAt(table, real)
	if !ok || m.Type != fsType {
		return mountEntry{}, fmt.Errorf("%w: %s", ErrNotMounted, path)
	}
	return m, nil
}

// realPath resolves the symbolic links of the directory that path lies in, and of path itself if it is one.
func realPath(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("path %s: %w", path, err)
	}
	if target, err := os.Readlink(abs); err == nil {
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(abs), target)
		}
		abs = target
	}
	dir, err := resolve(filepath.Dir(abs))
	if err != nil {
		return "", fmt.Errorf("path %s: %w", path, err)
	}
	return strings.TrimSuffix(filepath.Join(dir, filepath.Base(abs)), "/."), nil
}

// resolve returns the absolute path free of symbolic links of something that is there.
func resolve(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

// deviceOf returns the device number of a mount as the mount table writes it.
func deviceOf(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", fmt.Errorf("stat mount %s: %w", path, err)
	}
	return fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)), nil
}

// aliveAt says whether a process with this id runs; one that has ended and waits for its parent does not.
func aliveAt(pid int) bool {
	if err := unix.Kill(pid, 0); pid <= 0 || err != nil && !errors.Is(err, unix.EPERM) {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return !errors.Is(err, os.ErrNotExist)
	}
	state := strings.TrimSpace(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // the name before may hold anything
	return !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X")
}

// whyBusy asks the daemon that holds a volume whether waiting for it is in vain: it is, unless it is closing.
func (r runDir) whyBusy(ctx context.Context, id string) error {
	ctx, cancel := awake.WithTimeout(ctx, statusTimeout)
	defer cancel()
	var st MountStatus
	if err := control.Do(ctx, r.socket(id), opState, nil, nil, &st); err != nil {
		return nil // starting, gone, or not ours to ask: wait for the lock
	}
	if st.State == StateClosing {
		return nil
	}
	return fmt.Errorf("process %d has it mounted at %s", st.PID, st.MountPoint)
}
