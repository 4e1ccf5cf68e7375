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
	"github.com/kmsfs/kmsfs/mount/mounttest"
)

type wrapStatus struct {
	Key     string
	Version int
	State   string
}

// wraps returns the wraps of the volume key and of the zone of path, as status and info tell them.
func (r *rig) wraps(path string) (volume, zone []wrapStatus) {
	r.T.Helper()
	var all []struct {
		MountPoint string `json:"mount_point"`
		Keys       struct{ Wraps []wrapStatus }
	}
	var info struct{ Wraps []wrapStatus }
	if err := json.Unmarshal([]byte(r.Must("status", "--json")), &all); err != nil {
		r.T.Fatal(err)
	}
	if err := json.Unmarshal([]byte(r.Must("info", "--json", path)), &info); err != nil {
		r.T.Fatal(err)
	}
	for _, m := range all {
		if m.MountPoint == r.Mnt {
			volume = m.Keys.Wraps
		}
	}
	return volume, info.Wraps
}

// wrapped fails the test unless volume key and root zone have the wraps, as "version state" each, in this order.
func (r *rig) wrapped(what string, want ...string) {
	r.T.Helper()
	volume, zone := r.wraps(r.Mnt)
	for name, have := range map[string][]wrapStatus{"volume": volume, "zone": zone} {
		var got []string
		for _, w := range have {
			got = append(got, fmt.Sprint(w.Version, " ", w.State))
		}
		if strings.Join(got, "; ") != strings.Join(want, "; ") {
			r.T.Errorf("%s: wraps of the %s key: %q, want %q", what, name, got, want)
		}
	}
}

// TestRewrap: keys are wrapped anew while the volume is in use: under the newest version of their key, under a second key, without the first.
func TestRewrap(t *testing.T) {
	r := newRig(t)
	r.Init()
	r.Mount()
	write(t, r.Mnt+"/f", []byte("before"))
	r.wrapped("at first", "1 Enabled")
	r.Must("key", "rotate", "alias/vault")
	r.Must("rewrap", r.Volume)
	r.wrapped("after rotation", "2 Enabled")

	r.Must("key", "create", "--alias", "alias/second")
	r.Must("rewrap", r.Mnt, "--all", "--add", "alias/second")
	r.wrapped("added", "2 Enabled", "1 Enabled")
	r.Must("rewrap", r.Volume, "--add", "alias/second") // again: it replaces its own
	r.wrapped("added again", "2 Enabled", "1 Enabled")
	r.Must("key", "disable", "alias/vault")
	r.Remount()
	if got := string(read(t, r.Mnt+"/f")); got != "before" {
		t.Errorf("with the first key disabled: %q", got)
	}
	r.Refused(exitKeyRefused, []string{"disabled", "kmsfs rewrap --add"}, "rewrap", r.Volume, "--remove", "alias/second") // what is left would not open
	r.wrapped("refused", "2 Disabled", "1 Enabled")
	r.Must("rewrap", r.Volume, "--remove", "alias/vault")
	r.wrapped("removed", "1 Enabled")
	r.Refused(1, []string{"what is left would not open it"}, "rewrap", r.Volume, "--remove", "alias/second")

	var arns []string
	for i := range 5 {
		var key struct{ ARN string }
		if err := json.Unmarshal([]byte(r.Must("key", "create", "--json", "--alias", fmt.Sprint("alias/k", i))), &key); err != nil {
			t.Fatal(err)
		}
		arns = append(arns, key.ARN)
	}
	for _, arn := range arns[:4] {
		r.Must("rewrap", r.Mnt, "--all", "--add", arn)
	}
	r.Refused(exitUsage, []string{"5 wraps already"}, "rewrap", r.Volume, "--add", arns[4])
	r.Must("rewrap", r.Volume, "--to", arns[4])
	r.wrapped("moved", "1 Enabled")
	r.Refused(exitUsage, []string{"one of"}, "rewrap", r.Volume, "--to", arns[0], "--add", arns[1])
	r.Refused(exitNotFound, nil, "rewrap", r.Volume, "--to", "alias/nobody")
	r.Remount()
	if got := string(read(t, r.Mnt+"/f")); got != "before" {
		t.Errorf("in the end: %q", got)
	}
	for _, gone := range append(arns[:4], "alias/vault", "alias/second") { // they wrap nothing any more
		r.Run("key", "disable", gone)
	}
	r.Remount()
	r.Fsck()
	r.Umount()
	r.Refused(exitNotMounted, []string{"while the volume is mounted"}, "rewrap", r.Volume)
	// An older kmsfs.json, whose wraps open, is refused: the wraps that were removed do not come back.
	sb := filepath.Join(r.Volume, "kmsfs.json")
	newest := read(t, sb)
	r.Mount()
	r.Must("rewrap", r.Volume)
	r.Umount()
	write(t, sb, newest)
	r.Refused(exitDamaged, []string{"not the latest"}, append([]string{"mount", r.Volume, r.Mnt}, r.Secret...)...)
}

// TestRewrapKilled: a daemon killed at any time in a rewrap leaves a volume that opens; the rewrap is done when it is asked for again.
func TestRewrapKilled(t *testing.T) {
	r := newRig(t)
	r.Init()
	r.Must("key", "create", "--alias", "alias/second")
	for round := range 4 {
		r.Mount()
		write(t, fmt.Sprint(r.Mnt, "/f", round), []byte("kept"))
		daemon := r.Daemon()
		done := make(chan mounttest.Result, 1)
		op := []string{"--add", "--remove"}[round%2]
		go func() { done <- r.Run("rewrap", r.Volume, op, "alias/second") }()
		for i := 0; i < round*3; i++ { // spreads the kills; where they fall does not matter
			_ = r.Run("version")
		}
		r.Kill(daemon)
		<-done
		_ = syscall.Unmount(r.Mnt, syscall.MNT_DETACH)
		r.Mount()
		r.Must("rewrap", r.Volume, op, "alias/second")
		want := 2 - round%2
		if volume, zone := r.wraps(r.Mnt); len(volume) != want || len(zone) != want {
			t.Errorf("round %d: %v, %v", round, volume, zone)
		}
		for i := range round + 1 {
			if got := string(read(t, fmt.Sprint(r.Mnt, "/f", i))); got != "kept" && got != "" {
				t.Errorf("file %d: %q", i, got)
			}
		}
		r.Remount()
		r.Umount()
	}
	r.Fsck()
}

// TestFirstTokenGone: a volume with wraps under keys of two tokens, each with its key store, mounts with the second one when the first is gone.
func TestFirstTokenGone(t *testing.T) {
	r, _ := newHSMRig(t)
	r.Init()
	r.Mount()
	write(t, r.Mnt+"/f", []byte("kept"))

	other := hsmtest.NewSoftHSM(t)
	second := *r.Rig
	s := &rig{&second}
	s.Store = filepath.Join(r.Dir, "keys2")
	s.Env = append(append([]string{}, r.Env...), "KMSFS_KEYSTORE="+s.Store, "SOFTHSM2_CONF="+other.Conf)
	t.Cleanup(func() {
		if pid := s.KeydPID(); pid != 0 {
			_ = syscall.Kill(pid, syscall.SIGTERM)
			r.Ends(pid)
		}
	})
	s.Must(append(append([]string{"keystore", "init"}, s.Secret...), s.Token...)...)
	s.Must(append([]string{"key", "create", "--alias", "alias/x"}, s.Secret...)...)
	r.Refused(exitUsage, []string{"does not know the volume yet"}, append([]string{"rewrap", r.Mnt, "--add", "alias/x", "--keystore", s.Store}, s.Secret...)...)
	r.Must(append([]string{"rewrap", r.Volume, "--add", "alias/x", "--keystore", s.Store}, s.Secret...)...)
	r.wrapped("two tokens", "1 Enabled", "0 its key is in another key store")
	write(t, r.Mnt+"/g", []byte("later"))
	r.Must("rewrap", r.Volume) // kmsfs.json goes on; the second key store has not seen this revision
	r.Umount()

	r.Must("keystore", "lock")
	if err := os.Rename(r.Store, r.Store+".gone"); err != nil { // the key store, and its token with it
		t.Fatal(err)
	}
	s.Mount()
	if got := string(read(t, r.Mnt+"/f")) + string(read(t, r.Mnt+"/g")); got != "keptlater" {
		t.Errorf("content %q", got)
	}
	var gone string
	volume, _ := s.wraps(r.Mnt)
	for _, w := range volume {
		if w.State != "Enabled" {
			gone = w.Key
		}
	}
	s.Remount()
	if gone != "" {
		s.Must("rewrap", r.Volume, "--remove", gone)
	}
	s.Must("rewrap", r.Mnt, "--all")
	s.Remount()
	s.Fsck()
	s.Umount()
}
