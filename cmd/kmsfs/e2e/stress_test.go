package e2e

import (
	"strconv"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// TestStress has eight processes do random operations on the same few names of a mount, and then `kmsfs fsck` look at the volume: mounted, and closed.
func TestStress(t *testing.T) {
	const processes, seed = 8, 1
	howLong := 3 * time.Second
	if mounttest.Long() {
		howLong = 5 * time.Minute
	}
	r := newRig(t)
	r.Init()
	r.Mount()
	pid := r.Daemon()
	var all []*client
	for i := range processes {
		all = append(all, startClient(t, "stress", r.Mnt, strconv.Itoa(seed+i), howLong.String()))
	}
	for _, c := range all {
		c.end()
	}
	t.Logf("the daemon holds %d MiB", memory(t, pid)>>20)
	r.Fsck()
	r.Umount()
	r.Fsck()
	r.Mount()
	sh(t, r.Mnt, `find . -ls >/dev/null; rm -rf ./*; test -z "$(ls -A)"`)
	r.Fsck()
}
