package transfer

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// progressName is the attribute of an incomplete copy that says of what it is, and how much of it is durable.
const progressName = "user.kmsfs.transfer"

// saveEvery is after how many bytes that is written down.
const saveEvery = 64 << 20

// ownName is what the package calls a file for a time.
func ownName(prefix, name string) string {
	sum := sha256.Sum256([]byte(name))
	return prefix + hex.EncodeToString(sum[:hashLen/2])
}

// version is what tells one state of an original from another.
type version struct {
	inode
	size                        int64
	mtime, mtimeNs, ctime, ctNs int64
}

func versionOf(st *unix.Stat_t) version {
	return version{identity(st), st.Size, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec}
}

func (v version) record(done int64) []byte {
	return fmt.Appendf(nil, "1 %d %d %d %d.%09d %d.%09d %d", v.dev, v.ino, v.size, v.mtime, v.mtimeNs, v.ctime, v.ctNs, done)
}

// doneBy returns how many bytes of a copy of v a record says are durable, 0 if it is of another state.
func (v version) doneBy(record []byte) int64 {
	var done int64
	var format int
	var r version
	n, err := fmt.Sscanf(string(record), "%d %d %d %d %d.%d %d.%d %d", &format, &r.dev, &r.ino, &r.size, &r.mtime, &r.mtimeNs, &r.ctime, &r.ctNs, &done)
	if err != nil || n != 9 || format != 1 || r != v || done < 0 || done > v.size {
		return 0
	}
	return done
}

// partial is a copy that has not got its name yet.
type partial struct {
	in     *dir
	name   string
	fd     int
	of     version
	done   int64 // bytes that are durable
	noNote bool  // the filesystem keeps no attributes: nothing is written down
}

// openPartial opens what an earlier run has left of a copy, if that is this user's alone, or begins anew.
func openPartial(in *dir, name string, of version) (*partial, error) {
	p := &partial{in: in, name: ownName(partialPrefix, name), of: of}
	fd, err := in.open(p.name, unix.O_RDWR|unix.O_NONBLOCK, 0)
	if err == nil {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err == nil && ours(&st) {
			p.fd = fd
			return p, p.resume(&st)
		}
		unix.Close(fd)
	}
	if err := unix.Unlinkat(in.fd, p.name, 0); err != nil && err != unix.ENOENT {
		return nil, fmt.Errorf("remove %s: %w", p.name, err)
	}
	if p.fd, err = in.open(p.name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600); err != nil {
		return nil, err
	}
	return p, nil
}

// ours tells whether nobody else has had a hand in a file, or sees what is written to it.
func ours(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFREG && st.Nlink == 1 && st.Mode&0o7077 == 0 && int(st.Uid) == os.Geteuid()
}

// resume finds out how much of the copy can be kept.
func (p *partial) resume(st *unix.Stat_t) error {
	record := make([]byte, 256)
	if n, err := unix.Fgetxattr(p.fd, progressName, record); err == nil {
		p.done = min(p.of.doneBy(record[:n]), st.Size)
	}
	if err := unix.Ftruncate(p.fd, p.done); err != nil {
		p.close()
		return fmt.Errorf("truncate %s: %w", p.name, err)
	}
	return nil
}

// note makes what was written up to an offset durable and writes that down.
func (p *partial) note(upTo int64) error {
	if p.noNote {
		return nil
	}
	if err := unix.Fdatasync(p.fd); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	err := unix.Fsetxattr(p.fd, progressName, p.of.record(upTo), 0)
	switch err {
	case nil:
		p.done = upTo
	case unix.ENOTSUP, unix.EPERM:
		p.noNote, err = true, nil
	}
	return err
}

// finish gives the copy its name. replace: another file may have it.
func (p *partial) finish(name string, replace bool) error {
	if p.done > 0 {
		if err := unix.Fremovexattr(p.fd, progressName); err != nil {
			return fmt.Errorf("remove attribute %s: %w", progressName, err)
		}
	}
	if replace {
		return unix.Renameat(p.in.fd, p.name, p.in.fd, name)
	}
	err := unix.Renameat2(p.in.fd, p.name, p.in.fd, name, unix.RENAME_NOREPLACE)
	if err == unix.EINVAL || err == unix.ENOSYS { // a filesystem without it
		err = unix.Renameat(p.in.fd, p.name, p.in.fd, name)
	}
	return err
}

// discard removes the copy.
func (p *partial) discard() { _ = unix.Unlinkat(p.in.fd, p.name, 0) }

func (p *partial) close() { unix.Close(p.fd) }

// sweep removes incomplete copies of what the source has no more.
func sweep(in *dir, names []string) error {
	there, err := in.names()
	if err != nil {
		return err
	}
	var wanted map[string]bool
	for _, name := range there {
		if !isPartial(name) {
			continue
		}
		if wanted == nil {
			wanted = map[string]bool{}
			for _, n := range names {
				wanted[ownName(partialPrefix, n)] = true
			}
		}
		if !wanted[name] {
			if err := unix.Unlinkat(in.fd, name, 0); err != nil && err != unix.ENOENT {
				return fmt.Errorf("remove %s: %w", name, err)
			}
		}
	}
	return nil
}
