package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// zoneCensus is what the census says of the keys of zones.
type zoneCensus struct {
	OldZoneKeys int                        `json:"old_zone_keys"`
	OldVersions int                        `json:"old_versions"`
	Wrapped     struct{ Zones, Wraps int } `json:"wrapped_before"`
	Zones       []struct {
		Version int  `json:"key_version"`
		Former  bool `json:"former_key"`
		Below   int  `json:"below_key_version"`
	}
}

// deep has all zones given other keys; the job's status is the last line.
func (r *rig) deep(args ...string) (j jobStatus) {
	r.T.Helper()
	lines := strings.Split(strings.TrimSpace(r.Must(append([]string{"rewrap", "--deep", "--json"}, args...)...)), "\n")
	decode(r.T, lines[len(lines)-1], &j)
	return j
}

// deepProof fails the test unless no data key is wrapped under a zone key older than the job, and all zones have the version.
func (r *rig) deepProof(j jobStatus, version int) {
	r.T.Helper()
	var c zoneCensus
	decode(r.T, r.Must("census", "--json", "--wrapped-before", j.Submitted, r.Volume), &c)
	bad := c.OldZoneKeys+c.OldVersions+c.Wrapped.Wraps+c.Wrapped.Zones > 0 || len(c.Zones) == 0
	for _, z := range c.Zones {
		bad = bad || z.Version != version || z.Former || z.Below != 0
	}
	if bad {
		r.T.Errorf("census after job %d: %+v", j.ID, c)
	}
}

// TestDeepRewrap: zones get other keys while programs make, rename and remove files and a zone's directory moves, whatever interrupts it; the census proves it.
func TestDeepRewrap(t *testing.T) {
	z := newZones(t)
	files := tree(t, z.a+"/tree", rand.New(rand.NewPCG(4, 4)))
	for path, b := range tree(t, z.Mnt+"/tree", rand.New(rand.NewPCG(4, 5))) {
		files[path] = b
	}
	for i := range 600 {
		write(t, filepath.Join(z.b, fmt.Sprint("s", i)), fmt.Append(nil, i))
	}
	z.Must("key", "rotate", "alias/b")
	before := time.Now().UTC().Format(time.RFC3339Nano)
	z.Refused(exitFaults, []string{"older zone keys"}, "census", "--wrapped-before", before, z.Volume)

	var over atomic.Bool
	busy := make(chan error, 1)
	go func() { busy <- churn(z.a+"/churn", &over) }()
	j := z.deep(z.Volume)
	z.rename(z.b, z.Mnt+"/c") // whose keys, both of them perhaps, are bound to its place
	z.b = z.Mnt + "/c"
	done := z.wait(j.ID)
	over.Store(true)
	if err := <-busy; err != nil {
		t.Error(err)
	}
	if done.State != "done" || done.Failed != 0 || done.Files < 600 || done.TotalFiles < 600 {
		t.Errorf("%+v", done)
	}
	z.deepProof(j, 2)
	same(t, "after the job", files)

	// Once more, killed and with the key away.
	j = z.deep("--cpu", "1%", z.Volume)
	time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
	z.Kill(z.Daemon())
	z.Mount("--key-ttl", "1s")
	z.Must("key", "disable", "alias/a")
	if now := z.job(j.ID); now.State == "cancelled" {
		t.Errorf("%+v", now)
	}
	z.Must("key", "enable", "alias/a")
	z.Eventually("the job goes on", func() error {
		switch now := z.job(j.ID); now.State {
		case "done":
			return nil
		case "paused": // by the refusal
			z.Must("jobs", "resume", z.Mnt, fmt.Sprint(j.ID))
			fallthrough
		default:
			return fmt.Errorf("%+v", now)
		}
	})
	z.deepProof(j, 3)
	same(t, "after a kill", files)

	one := z.deep("--wait", z.a)
	if one.State != "done" || one.Root != "/a" {
		t.Errorf("%+v", one)
	}
	z.Refused(exitFaults, []string{"older zone keys"}, "census", "--wrapped-before", one.Submitted, z.Volume)
	z.Must("census", "--wrapped-before", one.Submitted, z.a)
	z.Umount()
	z.Fsck()
	z.Mount()
	same(t, "after a remount", files)
}

// TestDeepRewrapKilled kills the daemon at random moments of deep rewraps.
func TestDeepRewrapKilled(t *testing.T) {
	if !mounttest.Long() {
		t.Skip("long form only: KMSFS_LONG=1")
	}
	z := newZones(t)
	files := map[string][]byte{}
	for i := range 3000 {
		path := filepath.Join([]string{z.a, z.b, z.Mnt}[i%3], fmt.Sprint("s", i))
		files[path] = fmt.Append(nil, i)
		write(t, path, files[path])
	}
	seed := mounttest.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 1))
	for version := 2; version < 12; version++ {
		j := z.deep("--cpu", "30%", z.Volume)
		for range 5 {
			time.Sleep(time.Duration(rng.IntN(100)) * time.Millisecond)
			z.Kill(z.Daemon())
			z.Mount()
			path := filepath.Join(z.a, "new")
			if err := errors.Join(os.WriteFile(path, []byte("x"), 0o600), os.Remove(path)); err != nil {
				t.Error(err)
			}
		}
		if done := z.wait(j.ID); done.State != "done" || done.Failed != 0 {
			t.Fatalf("%+v", done)
		}
		z.deepProof(j, version)
		same(t, "after kills", files)
		z.Fsck()
	}
}
