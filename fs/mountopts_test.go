package fs

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

func TestMountFlags(t *testing.T) {
	for _, c := range []struct {
		o    MountOptions
		want uintptr
	}{
		{MountOptions{}, unix.MS_NOSUID | unix.MS_NODEV},
		{MountOptions{Suid: true}, unix.MS_NODEV},
		{MountOptions{Dev: true}, unix.MS_NOSUID},
		{MountOptions{Suid: true, Dev: true, NoExec: true, ReadOnly: true, NoAtime: true}, unix.MS_NOEXEC | unix.MS_RDONLY | unix.MS_NOATIME},
	} {
		if got := c.o.flags(); got != c.want {
			t.Errorf("%+v: %#x, want %#x", c.o, got, c.want)
		}
	}
}

func TestHelperNeverGetsSuidOrDev(t *testing.T) {
	words := strings.Join(MountOptions{Suid: true, Dev: true}.helperOptions(), ",")
	for _, want := range []string{"nosuid", "nodev", "default_permissions"} {
		if !strings.Contains(words, want) {
			t.Errorf("%q lacks %s", words, want)
		}
	}
}

func TestPermissionsAreTheKernels(t *testing.T) {
	if data := (MountOptions{}).data(7); !strings.Contains(data, "default_permissions") || !strings.Contains(data, "fd=7,") {
		t.Errorf("%q", data)
	}
}

func TestServerOptions(t *testing.T) {
	o := MountOptions{}.serverOptions(slog.New(slog.DiscardHandler), nil)
	if o.Debug || o.EnableLocks || o.MaxWrite != requestSize() {
		t.Errorf("%+v", o)
	}
	if o.ExtraCapabilities&fuse.CAP_OVER_IO_URING != 0 {
		t.Error("io_uring would block all requests: nobody registers rings")
	}
	if o.ExtraCapabilities&fuse.CAP_WRITEBACK_CACHE == 0 || (MountOptions{Writethrough: true}).serverOptions(slog.New(slog.DiscardHandler), nil).ExtraCapabilities&fuse.CAP_WRITEBACK_CACHE != 0 {
		t.Error("write-back cache is not as asked")
	}
}

func TestPanicIsFatal(t *testing.T) {
	var reason any
	o := MountOptions{}.serverOptions(slog.New(slog.DiscardHandler), func(r any, stack []byte) { reason = r })
	if o.PanicHandler("boom") != fuse.EIO || reason != "boom" {
		t.Errorf("got %v", reason)
	}
}
