package mount

import (
	"errors"
	"strings"
	"testing"
)

func TestParseOptions(t *testing.T) {
	for _, c := range []struct {
		list string
		want Options
	}{
		{"", Options{}},
		{"ro,allow_other,suid,dev,noexec,noatime,fsname=my vault,transport=io_uring,idle=poll", Options{true, true, true, true, true, true, "my vault", "io_uring", "poll"}},
		{"ro,rw,suid,nosuid,dev,nodev,noexec,exec,noatime,relatime,default_permissions", Options{}},
		{"transport=device,transport=auto", Options{}},
		{"idle=halt,idle=auto", Options{}},
		{"fsname=a=b", Options{FSName: "a=b"}},
	} {
		var got Options
		if err := got.ParseOptions(c.list); err != nil || got != c.want {
			t.Errorf("%q: %+v, %v; want %+v", c.list, got, err, c.want)
		}
	}
	for _, bad := range []string{"nonsense", "ro=1", "fsname", "fsname=", "RO", "fsname=" + strings.Repeat("x", 256), "fsname=a\nb", "transport", "transport=pigeon", "idle", "idle=busy"} {
		var got Options
		if err := got.ParseOptions(bad); !errors.Is(err, ErrUsage) {
			t.Errorf("%q: %v, want ErrUsage", bad, err)
		}
	}
}
