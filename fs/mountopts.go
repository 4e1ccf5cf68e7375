package fs

import (
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/fs/transport"
)

// maxRequest is the largest read or write that we ask the kernel for, in bytes.
const maxRequest = 1 << 20

// maxBackground bounds the asynchronous requests (read-ahead, write-back) that the kernel has under way; its default of 12 is too few for storage with latency.
const maxBackground = 64

// subtype is what follows "fuse." in the type column of the mount table.
const subtype = "kmsfs"

// MountOptions is what one mount asks for. The zero value is the default: read-write, nosuid, nodev, relatime; visible to other users if mounted by root.
type MountOptions struct {
	FsName     string // source column of the mount table; empty: "kmsfs"
	ReadOnly   bool   // every change fails with EROFS
	AllowOther bool   // other users may use the mount; always so for root's mounts. A user needs user_allow_other in /etc/fuse.conf
	Suid       bool   // set-user-id bits and file capabilities work; ignored unless root mounts
	Dev        bool   // device nodes work; ignored unless root mounts
	NoExec     bool   // no program is executed from the mount
	NoAtime    bool   // access times are not kept; say so to New as well
	// Writethrough turns the kernel's write-back cache off: every write(2) reaches the daemon before it returns. For tests and measurements.
	Writethrough bool
	// MaxPoll is how long a reader of requests polls before it sleeps, at most; 0: the transport's default; negative: never.
	MaxPoll time.Duration
	// Idle is what idle processors of the machine do while requests follow each other quickly; the zero value: poll where that pays.
	Idle transport.Idle
	// Transport is how requests are to arrive; the zero value: io_uring where the kernel has it switched on, else the device.
	Transport transport.Kind
	// Meter is told of every request; nil: nothing is measured.
	Meter Meter
}

// flags returns the flags of mount(2).
func (o MountOptions) flags() uintptr {
	flags := uintptr(0)
	for _, f := range []struct {
		on   bool
		flag uintptr
	}{
		{!o.Suid, unix.MS_NOSUID}, {!o.Dev, unix.MS_NODEV}, {o.NoExec, unix.MS_NOEXEC}, {o.ReadOnly, unix.MS_RDONLY}, {o.NoAtime, unix.MS_NOATIME},
	} {
		if f.on {
			flags |= f.flag
		}
	}
	return flags
}

// requestSize returns the size of the largest read or write that the kernel allows us, in bytes.
func requestSize() int {
	limit, err := os.ReadFile("/proc/sys/fs/fuse/max_pages_limit")
	if err != nil {
		return maxRequest // an older kernel, with a fixed limit of this
	}
	pages, err := strconv.Atoi(strings.TrimSpace(string(limit)))
	if err != nil || pages <= 0 {
		return maxRequest
	}
	return min(maxRequest, pages*os.Getpagesize())
}

func (o MountOptions) source() string {
	if o.FsName == "" {
		return subtype
	}
	return o.FsName
}

// data returns the data of mount(2) for the open FUSE device fd. max_read must be what go-fuse makes of MaxWrite: it prepares buffers for that.
func (o MountOptions) data(fd int) string {
	options := []string{
		fmt.Sprintf("fd=%d", fd), fmt.Sprintf("rootmode=%o", unix.S_IFDIR), fmt.Sprintf("user_id=%d", os.Geteuid()), fmt.Sprintf("group_id=%d", os.Getegid()),
		"default_permissions", "allow_other", fmt.Sprintf("max_read=%d", requestSize()),
	}
	return strings.Join(options, ",")
}

// helperOptions returns what fusermount3 is told.
func (o MountOptions) helperOptions() []string {
	options := []string{"default_permissions", "nosuid", "nodev", "fsname=" + o.source(), "subtype=" + subtype, fmt.Sprintf("max_read=%d", requestSize())}
	for _, f := range []struct {
		on   bool
		word string
	}{{o.AllowOther, "allow_other"}, {o.NoExec, "noexec"}, {o.ReadOnly, "ro"}, {o.NoAtime, "noatime"}} {
		if f.on {
			options = append(options, f.word)
		}
	}
	return options
}

// serverOptions returns how go-fuse is to talk to the kernel. Each capability has its reason:
//
//   - HANDLE_KILLPRIV_V2: without it every write asks for security.capability first. We clear the bits on write, chown and truncate.
//   - WRITEBACK_CACHE: small writes are gathered in the page cache. Needs the former and long attribute timeouts to be of use.
//   - READDIRPLUS_AUTO: attributes with names only where the reader goes on to ask for them.
//   - DONT_MASK: the umask is ours to apply, because a default ACL replaces it.
//   - SETXATTR_EXT: setfacl by somebody outside the group clears set-group-id.
//   - ASYNC_DIO, IOCTL_DIR, ABORT_ERROR: parallel O_DIRECT, ioctl on directories is refused by us and not by chance, ECONNABORTED after an abort.
//   - NO_EXPORT_SUPPORT: file handles could be forged to reach files without a path.
//
// ATOMIC_O_TRUNC (an open with O_TRUNC in one request) is left out. With it the kernel sets its own size to 0 twice, the second time after it let go of the
// inode's lock (do_open, handle_truncate): what another process wrote or truncated in between it then takes for gone, and we have it.
//
// Locks (flock, POSIX, OFD) stay in the kernel: one mount per volume, so it knows all there is to know.
func (o MountOptions) serverOptions(log *slog.Logger, fatal func(reason any, stack []byte)) *fuse.MountOptions {
	extra := uint64(fuse.CAP_HANDLE_KILLPRIV_V2 | fuse.CAP_READDIRPLUS_AUTO | fuse.CAP_DONT_MASK |
		fuse.CAP_SETXATTR_EXT | fuse.CAP_ASYNC_DIO | fuse.CAP_IOCTL_DIR | fuse.CAP_ABORT_ERROR | fuse.CAP_NO_EXPORT_SUPPORT)
	if !o.Writethrough {
		extra |= fuse.CAP_WRITEBACK_CACHE
	}
	return &fuse.MountOptions{
		FsName:               o.source(),
		Name:                 subtype,
		MaxWrite:             requestSize(),
		MaxBackground:        maxBackground,
		EnableAcl:            true,
		EnableSymlinkCaching: true,
		ExtraCapabilities:    extra,
		DisabledCapabilities: fuse.CAP_PASSTHROUGH | fuse.CAP_NO_OPEN_SUPPORT,
		Logger:               slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		PanicHandler: func(reason any) fuse.Status {
			fatal(reason, debug.Stack())
			return fuse.EIO
		},
	}
}
