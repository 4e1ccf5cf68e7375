package mount

import (
	"strings"
	"testing"
)

const sampleMounts = `22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
60 22 0:45 / /mnt/a\040b rw,nosuid,nodev shared:5 - fuse.kmsfs /srv/v\134x rw,user_id=0
61 60 0:46 / /mnt/a\040b/in rw - tmpfs none rw
62 22 0:47 / /mnt/a\040b rw - fuse.kmsfs top rw
short line
63 22 0:48 / /mnt/odd\8 rw - tmpfs none rw
`

func TestMountinfo(t *testing.T) {
	table, err := parseMountinfo(strings.NewReader(sampleMounts))
	if err != nil || len(table) != 5 {
		t.Fatalf("%d entries, %v", len(table), err)
	}
	if table[1].Source != `/srv/v\x` || table[1].Type != fsType || table[4].Point != `/mnt/odd\8` {
		t.Fatalf("%+v", table)
	}
	for path, want := range map[string]string{
		"/mnt/a b":        "0:47", // the later one is on top
		"/mnt/a b/x/y":    "0:47",
		"/mnt/a b/in/z":   "0:46",
		"/mnt/a bc":       "8:1",
		"/":               "8:1",
		"/mnt/a b/inside": "0:47",
	} {
		if m, ok := mountHolding(table, path); !ok || m.Device != want {
			t.Errorf("%s lies in %+v, want %s", path, m, want)
		}
	}
}

func TestWithin(t *testing.T) {
	for _, c := range []struct {
		path, dir string
		want      bool
	}{{"/a/b", "/a", true}, {"/a", "/a", true}, {"/ab", "/a", false}, {"/a", "/a/b", false}, {"/a", "/", true}} {
		if within(c.path, c.dir) != c.want {
			t.Errorf("within(%s, %s) is not %v", c.path, c.dir, c.want)
		}
	}
}
