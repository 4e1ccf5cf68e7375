package diskfull

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// job is what the test wants to know of one.
type job struct {
	ID        int
	State     string
	Submitted string
	Bytes     int64
	Failed    int
	Problem   string
}

func (r *rig) job() (j job) {
	r.T.Helper()
	var all []job
	if err := json.Unmarshal([]byte(r.Must("jobs", "--json", r.Mnt)), &all); err != nil || len(all) != 1 {
		r.T.Fatalf("%v, %+v", err, all)
	}
	return all[0]
}

// Files are sealed anew while somebody fills the disk, files are deleted, and the daemon is killed. Nothing is lost, the disk does not fail for it, and when
// there is room it all ends, and proves.
func TestReencryptOnAFullDisk(t *testing.T) {
	if !mounttest.Long() {
		t.Skip("long form, runs with KMSFS_LONG=1")
	}
	r, led := newRig(t, "ext4"), newLedger()
	w := &worker{dir: r.Mnt, led: led, rng: rand.New(rand.NewPCG(mounttest.Seed(t), 11))}
	for i := range 40 {
		path, b := filepath.Join(r.Mnt, fmt.Sprintf("kept%02d", i)), w.random(1<<20)
		if err := writeSynced(path, b); err != nil {
			t.Fatal(err)
		}
		led.note(path, contentOf(b))
	}
	r.Must("reencrypt", "--rate", "8M", r.Mnt)
	release := r.disk.Fill()
	r.Eventually("the job ends, or waits", func() error {
		if j := r.job(); j.State != "done" && (j.State != "waiting" || j.Problem == "") {
			return fmt.Errorf("%+v", j)
		}
		return nil
	})
	t.Logf("on the full disk: %+v", r.job())
	r.Alive()
	if err := led.verify(); err != nil {
		t.Fatal(err)
	}
	r.deletionFrees(led)
	r.Kill(r.PID)
	r.Mount()
	release()
	r.Eventually("the job ends", func() error {
		if j := r.job(); j.State != "done" {
			return fmt.Errorf("%+v", j)
		}
		return nil
	})
	j := r.job()
	if j.Failed > 0 {
		t.Errorf("%+v", j)
	}
	r.Must("census", "--before", j.Submitted, r.Mnt)
	if err := led.verify(); err != nil {
		t.Fatal(err)
	}
	r.goOn(led, 0)
	r.finish(led)
}
