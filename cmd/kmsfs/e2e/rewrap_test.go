package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kmsfs/kmsfs/hsm/hsmtest"
)

type wrapStatus struct {
	Key     string
	Version int
	State   string
}

// wraps returns the wraps of the volume key and of the zone of path, as status and info tell them.
func (r *rig) wraps(path string) (volume, zone []wrapStatus) {
	r.t.Helper()
	var all []struct {
		MountPoint string `json:"mount_point"`
		Keys       struct{ Wraps []wrapStatus }
	}
	var info struct{ Wraps []wrapStatus }
	if err := json.Unmarshal([]byte(r.must("status", "--json")), &all); err != nil {
		r.t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(r.must("info", "--json", path)), &info); err != nil {
		r.t.Fatal(err)
	}
	for _, m := range all {
		if m.MountPoint == r.mnt {
			volume = m.Keys.Wraps
		}
	}
	return volume, info.Wraps
}

// wrapped fails the test unless volume key and root zone have the wraps, as "version state" each, in this order.
func (r *rig) wrapped(what string, want ...string) {
	r.t.Helper()
	volume, zone := r.wraps(r.mnt)
	for name, have := range map[string][]wrapStatus{"volume": volume, "zone": zone} {
		var got []string
		for _, w := range have {
			got = append(got, fmt.Sprint(w.Version, " ", w.State))
		}
		if strings.Join(got, "; ") != strings.Join(want, "; ") {
			r.t.Errorf("%s: wraps of the %s key: %q, want %q", what, name, got, want)
		}
	}
}

// TestRewrap: keys are wrapped anew while the volume is in use: under the newest version of their key, under a second key, without the first.
func TestRewrap(t *testing.T) {
	r := newRig(t)
	r.init()
	r.mount()
	write(t, r.mnt+"/f", []byte("before"))
	r.wrapped("at first", "1 Enabled")
	r.must("key", "rotate", "alias/vault")
	r.must("rewrap", r.volume)
	r.wrapped("after rotation", "2 Enabled")

	r.must("key", "create", "--alias", "alias/second")
	r.must("rewrap", r.mnt, "--all", "--add", "alias/second")
	r.wrapped("added", "2 Enabled", "1 Enabled")
	r.must("rewrap", r.volume, "--add", "alias/second") // again: it replaces its own
	r.wrapped("added again", "2 Enabled", "1 Enabled")
	r.must("key", "disable", "alias/vault")
	r.remount()
	if got := string(read(t, r.mnt+"/f")); got != "before" {
		t.Errorf("with the first key disabled: %q", got)
	}
	r.refused(exitKeyRefused, []string{"disabled", "kmsfs rewrap --add"}, "rewrap", r.volume, "--remove", "alias/second") // what is left would not open
	r.wrapped("refused", "2 Disabled", "1 Enabled")
	r.must("rewrap", r.volume, "--remove", "alias/vault")
	r.wrapped("removed", "1 Enabled")
	r.refused(1, []string{"what is left would not open it"}, "rewrap", r.volume, "--remove", "alias/second")

	var arns []string
	for i := range 5 {
		var key struct{ ARN string }
		if err := json.Unmarshal([]byte(r.must("key", "create", "--json", "--alias", fmt.Sprint("alias/k", i))), &key); err != nil {
			t.Fatal(err)
		}
		arns = append(arns, key.ARN)
	}
	for _, arn := range arns[:4] {
		r.must("rewrap", r.mnt, "--all", "--add", arn)
	}
	r.refused(exitUsage, []string{"5 wraps already"}, "rewrap", r.volume, "--add", arns[4])
	r.must("rewrap", r.volume, "--to", arns[4])
	r.wrapped("moved", "1 Enabled")
	r.refused(exitUsage, []string{"one of"}, "rewrap", r.volume, "--to", arns[0], "--add", arns[1])
	r.refused(exitNotFound, nil, "rewrap", r.volume, "--to", "alias/nobody")
	r.remount()
	if got := string(read(t, r.mnt+"/f")); got != "before" {
		t.Errorf("in the end: %q", got)
	}
	for _, gone := range append(arns[:4], "alias/vault", "alias/second") { // they wrap nothing any more
		r.run("key", "disable", gone)
	}
	r.remount()
	r.fsck()
	r.umount()
	r.refused(exitNotMounted, []string{"while the volume is mounted"}, "rewrap", r.volume)
	// An older kmsfs.json, whose wraps open, is refused: the wraps that were removed do not come back.
	sb := filepath.Join(r.volume, "kmsfs.json")
	newest := read(t, sb)
	r.mount()
	r.must("rewrap", r.volume)
	r.umount()
	write(t, sb, newest)
	r.refused(exitDamaged, []string{"not the latest"}, append([]string{"mount", r.volume, r.mnt}, r.secret...)...)
}

// TestRewrapKilled: a daemon killed at any time in a rewrap leaves a volume that opens; the rewrap is done when it is asked for again.
func TestRewrapKilled(t *testing.T) {
	r := newRig(t)
	r.init()
	r.must("key", "create", "--alias", "alias/second")
	for round := range 4 {
		r.mount()
		write(t, fmt.Sprint(r.mnt, "/f", round), []byte("kept"))
		daemon := r.daemon()
		done := make(chan result, 1)
		op := []string{"--add", "--remove"}[round%2]
		go func() { done <- r.run("rewrap", r.volume, op, "alias/second") }()
		for i := 0; i < round*3; i++ { // spreads the kills; where they fall does not matter
			_ = r.run("version")
		}
		r.kill(daemon)
		<-done
		_ = syscall.Unmount(r.mnt, syscall.MNT_DETACH)
		r.mount()
		r.must("rewrap", r.volume, op, "alias/second")
		want := 2 - round%2
		if volume, zone := r.wraps(r.mnt); len(volume) != want || len(zone) != want {
			t.Errorf("round %d: %v, %v", round, volume, zone)
		}
		for i := range round + 1 {
			if got := string(read(t, fmt.Sprint(r.mnt, "/f", i))); got != "kept" && got != "" {
				t.Errorf("file %d: %q", i, got)
			}
		}
		r.remount()
		r.umount()
	}
	r.fsck()
}

// TestFirstTokenGone: a volume with wraps under keys of two tokens, each with its key store, mounts with the second one when the first is gone.
func TestFirstTokenGone(t *testing.T) {
	r, _ := newHSMRig(t)
	r.init()
	r.mount()
	write(t, r.mnt+"/f", []byte("kept"))

	other := hsmtest.NewSoftHSM(t)
	s := *r
	s.store = filepath.Join(r.dir, "keys2")
	s.env = append(append([]string{}, r.env...), "KMSFS_KEYSTORE="+s.store, "SOFTHSM2_CONF="+other.Conf)
	t.Cleanup(func() {
		if pid := s.keydPID(); pid != 0 {
			_ = syscall.Kill(pid, syscall.SIGTERM)
			awaitGone(t, pid)
		}
	})
	s.must(append(append([]string{"keystore", "init"}, s.secret...), s.token...)...)
	s.must(append([]string{"key", "create", "--alias", "alias/x"}, s.secret...)...)
	r.refused(exitUsage, []string{"does not know the volume yet"}, append([]string{"rewrap", r.mnt, "--add", "alias/x", "--keystore", s.store}, s.secret...)...)
	r.must(append([]string{"rewrap", r.volume, "--add", "alias/x", "--keystore", s.store}, s.secret...)...)
	r.wrapped("two tokens", "1 Enabled", "0 its key is in another key store")
	write(t, r.mnt+"/g", []byte("later"))
	r.must("rewrap", r.volume) // kmsfs.json goes on; the second key store has not seen this revision
	r.umount()

	r.must("keystore", "lock")
	if err := os.Rename(r.store, r.store+".gone"); err != nil { // the key store, and its token with it
		t.Fatal(err)
	}
	s.mount()
	if got := string(read(t, r.mnt+"/f")) + string(read(t, r.mnt+"/g")); got != "keptlater" {
		t.Errorf("content %q", got)
	}
	var gone string
	volume, _ := s.wraps(r.mnt)
	for _, w := range volume {
		if w.State != "Enabled" {
			gone = w.Key
		}
	}
	s.remount()
	if gone != "" {
		s.must("rewrap", r.volume, "--remove", gone)
	}
	s.must("rewrap", r.mnt, "--all")
	s.remount()
	s.fsck()
	s.umount()
}
