package transfer

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Limits of the kernel, in bytes (include/uapi/linux/limits.h).
const (
	maxXattrList  = 64 << 10
	maxXattrValue = 64 << 10
)

// Flags of FS_IOC_GETFLAGS that people set to protect a file (include/uapi/linux/fs.h).
const (
	flagImmutable = 0x10
	flagAppend    = 0x20
)

// carry gives the copy (an open file, perhaps by O_PATH) the attributes of the original, and returns a line for each that it could not. What is equal is
// not touched. The order matters: only who may write to a file sets attributes of users, ACLs are part of the mode, and the times come last.
func carry(src int, from *unix.Stat_t, dst int) (failed []string) {
	var st unix.Stat_t
	if err := unix.Fstat(dst, &st); err != nil {
		return []string{fmt.Sprintf("attributes: %v", err)}
	}
	mode, isLink := from.Mode&0o7777, from.Mode&unix.S_IFMT == unix.S_IFLNK
	x, failed := diffXattrs(src, dst)
	failed = append(failed, x.set(dst, isUser)...)
	if st.Uid != from.Uid || st.Gid != from.Gid {
		failed = append(failed, carryOwner(from, dst, &mode)...)
	}
	if !isLink {
		failed = append(failed, carryMode(dst, mode)...)
		failed = append(failed, x.drop(dst)...)
	}
	if others := x.set(dst, func(name string) bool { return !isUser(name) }); len(x.differ) > 0 && !isLink {
		failed = append(append(failed, others...), carryMode(dst, mode)...)
	} else {
		failed = append(failed, others...)
	}
	failed = append(failed, flags(src, from.Mode&unix.S_IFMT)...)
	return append(failed, carryTimes(from, dst)...)
}

// carryOwner clears from mode what would give somebody else's rights to the new owner.
func carryOwner(from *unix.Stat_t, dst int, mode *uint32) []string {
	err := unix.Fchownat(dst, "", int(from.Uid), int(from.Gid), unix.AT_EMPTY_PATH)
	if err == nil {
		return nil
	}
	_ = unix.Fchownat(dst, "", -1, int(from.Gid), unix.AT_EMPTY_PATH)
	var st unix.Stat_t
	if unix.Fstat(dst, &st) != nil || st.Uid != from.Uid {
		*mode &^= unix.S_ISUID
	}
	if st.Gid != from.Gid {
		*mode &^= unix.S_ISGID
	}
	return []string{fmt.Sprintf("owner %d:%d: %v", from.Uid, from.Gid, err)}
}

func carryMode(dst int, mode uint32) []string {
	var st unix.Stat_t
	if err := unix.Fstat(dst, &st); err == nil && st.Mode&0o7777 == mode {
		return nil
	}
	if err := unix.Chmod(path(dst), mode); err != nil {
		return []string{fmt.Sprintf("mode %04o: %v", mode, err)}
	}
	if err := unix.Fstat(dst, &st); err == nil && st.Mode&0o7777 != mode { // set-group-id of a group that the caller is not in
		return []string{fmt.Sprintf("mode %04o: it became %04o", mode, st.Mode&0o7777)}
	}
	return nil
}

// carryTimes sets the modification time last, and the access time with it.
func carryTimes(from *unix.Stat_t, dst int) []string {
	var st unix.Stat_t
	if err := unix.Fstat(dst, &st); err == nil && st.Mtim == from.Mtim && st.Atim == from.Atim {
		return nil
	}
	if err := setTimes(dst, from.Atim, from.Mtim); err != nil {
		return []string{fmt.Sprintf("times: %v", err)}
	}
	if err := unix.Fstat(dst, &st); err == nil && st.Mtim != from.Mtim {
		return []string{"modification time: the filesystem keeps it less precisely"}
	}
	return nil
}

// setTimes is utimensat(2) of an open file, also by O_PATH.
func setTimes(fd int, atime, mtime unix.Timespec) error {
	times := [2]unix.Timespec{atime, mtime}
	empty := [1]byte{}
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), uintptr(unsafe.Pointer(&empty)), uintptr(unsafe.Pointer(&times)), unix.AT_EMPTY_PATH, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// xattrDiff is what has to be done about extended attributes, ACLs and capabilities among them.
type xattrDiff struct {
	differ    map[string][]byte // to be set
	inherited []string          // ACLs that the copy has by inheritance alone
}

func isUser(name string) bool { return strings.HasPrefix(name, "user.") }

func diffXattrs(src, dst int) (d xattrDiff, failed []string) {
	want, err := xattrs(src)
	if err != nil {
		return d, []string{fmt.Sprintf("list of extended attributes: %v", err)}
	}
	have, _ := xattrs(dst)
	d.differ = map[string][]byte{}
	for name, value := range want {
		if old, ok := have[name]; !ok || !bytes.Equal(old, value) {
			d.differ[name] = value
		}
	}
	for name := range have {
		if _, ok := want[name]; !ok && strings.HasPrefix(name, "system.posix_acl_") {
			d.inherited = append(d.inherited, name)
		}
	}
	return d, nil
}

func (d *xattrDiff) set(dst int, which func(name string) bool) (failed []string) {
	for name, value := range d.differ {
		if !which(name) {
			continue
		}
		if err := unix.Setxattr(path(dst), name, value, 0); err != nil {
			failed = append(failed, fmt.Sprintf("extended attribute %s: %v", name, err))
		}
	}
	slices.Sort(failed)
	return failed
}

func (d *xattrDiff) drop(dst int) (failed []string) {
	for _, name := range d.inherited {
		if err := unix.Removexattr(path(dst), name); err != nil {
			failed = append(failed, fmt.Sprintf("inherited %s: %v", name, err))
		}
	}
	return failed
}

// xattrs returns all extended attributes; those that only some filesystem makes up are left out.
func xattrs(fd int) (map[string][]byte, error) {
	list := make([]byte, maxXattrList)
	n, err := unix.Listxattr(path(fd), list)
	if err == unix.ENOTSUP || n == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all := map[string][]byte{}
	value := make([]byte, maxXattrValue)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		if name == progressName {
			continue
		}
		n, err := unix.Getxattr(path(fd), name, value)
		if err == unix.ENODATA {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all[name] = bytes.Clone(value[:n])
	}
	return all, nil
}

// flags says which protecting flags of the original the copy does not have: it has none of them.
func flags(src int, kind uint32) []string {
	if kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return nil
	}
	f, err := unix.IoctlGetInt(src, unix.FS_IOC_GETFLAGS)
	if err != nil || f&(flagImmutable|flagAppend) == 0 {
		return nil
	}
	return []string{"flags immutable or append-only (chattr)"}
}
