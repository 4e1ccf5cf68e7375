package interrupt

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// work is long work. start begins it and returns at once; finish goes on with it, after all faults, until it is done, and proves that.
type work struct {
	name   string
	start  func(r *rig, round int) (running chan mounttest.Result)
	way    func(r *rig, round int) float64 // how far it is, 0 to 1; nil: there is no telling
	finish func(r *rig, round int)
}

// command runs one in the background.
func (r *rig) command(args ...string) chan mounttest.Result {
	done := make(chan mounttest.Result, 1)
	go func() { done <- r.Command(args...) }()
	return done
}

var works = []work{
	{"rewrap", func(r *rig, _ int) chan mounttest.Result {
		r.Must("key", "rotate", "alias/vault")
		return r.command("rewrap", r.Volume)
	}, nil, func(r *rig, _ int) {
		r.Eventually("keys are wrapped anew", func() error {
			if res := r.Run("rewrap", r.Volume); res.Code != 0 {
				return fmt.Errorf("%s", res)
			}
			return nil
		})
		if c := r.census(); c.OldVersions != 0 || c.Keyless != 0 {
			r.t.Fatalf("census after the rewrap: %+v", c)
		}
	}},
	deepRewrap(),
	{"reencrypt", func(r *rig, _ int) chan mounttest.Result {
		return r.command("reencrypt", "--rate", "3M", r.Volume)
	}, func(r *rig, _ int) float64 {
		var all []job
		if res := r.Command("jobs", "--json", r.Volume); json.Unmarshal([]byte(res.Out), &all) != nil || len(all) == 0 || all[len(all)-1].State == "done" {
			return 0
		}
		j := all[len(all)-1]
		return float64(j.Files) / float64(max(j.Total, 1))
	}, func(r *rig, _ int) {
		j := r.lastJob()
		r.Eventually("the job ends", func() error {
			if j = r.lastJob(); j.State != "done" {
				return fmt.Errorf("%+v", j)
			}
			return nil
		})
		if j.Failed > 0 {
			r.t.Fatalf("%+v", j)
		}
		if c := r.census("--before", j.Submitted); c.Keyless != 0 || c.OldWraps != 0 {
			r.t.Fatalf("census after the job: %+v", c)
		}
	}},
	{"import", func(r *rig, round int) chan mounttest.Result {
		return r.command("import", r.plain, r.imported(round))
	}, func(r *rig, round int) float64 {
		got, _ := filepath.Glob(r.imported(round) + "/d*/f*")
		return float64(len(got)) / plainFiles
	}, func(r *rig, round int) {
		r.Eventually("the import ends", func() error {
			if res := r.Run("import", r.plain, r.imported(round)); res.Code != 0 {
				return fmt.Errorf("%s", res)
			}
			return nil
		})
		r.sameAsPlain(r.imported(round))
		r.must(os.RemoveAll(r.imported(round)))
	}},
	{"shred", func(r *rig, round int) chan mounttest.Result {
		r.Must("import", r.plain, r.imported(round))
		return r.command("shred", "--yes", r.imported(round))
	}, func(r *rig, round int) float64 {
		left, _ := filepath.Glob(r.imported(round) + "/d*/f*")
		return 1 - float64(len(left))/plainFiles
	}, finishShred},
}

// jobs are the volume's jobs, the latest last.
func (r *rig) jobs() (all []job) {
	r.must(json.Unmarshal([]byte(r.Must("jobs", "--json", r.Volume)), &all))
	return all
}

// ended are the jobs when the latest, if there is one, has ended.
func (r *rig) ended() (all []job) {
	r.Eventually("the job ends", func() error {
		all = r.jobs()
		if n := len(all); n > 0 && all[n-1].State != "done" {
			return fmt.Errorf("%+v", all[n-1])
		}
		return nil
	})
	return all
}

// finishShred has the job go on by itself, if it was submitted; otherwise it is asked for again.
func finishShred(r *rig, round int) {
	all := r.ended()
	if _, err := os.Lstat(r.imported(round)); err == nil {
		r.Must("shred", "--yes", r.imported(round))
		all = r.jobs()
	}
	j := all[len(all)-1]
	if _, err := os.Lstat(r.imported(round)); !os.IsNotExist(err) || j.What != "shred" || j.Failed > 0 || j.Shred.Event == "" || j.Total != plainFiles {
		r.t.Fatalf("%+v, %v", j, err)
	}
}

// deepRewrap goes on by itself, if it was submitted; otherwise it is asked for again.
func deepRewrap() work {
	var began time.Time
	return work{"deep rewrap", func(r *rig, _ int) chan mounttest.Result {
		began = time.Now()
		return r.command("rewrap", "--deep", "--wait", r.Volume)
	}, nil, func(r *rig, _ int) {
		all := r.ended()
		if n := len(all); n == 0 || all[n-1].submitted(r).Before(began) {
			r.Must("rewrap", "--deep", "--wait", r.Volume)
		} else if all[n-1].Failed > 0 {
			r.t.Fatalf("%+v", all[n-1])
		}
		if c := r.census("--wrapped-before", began.UTC().Format(time.RFC3339Nano)); c.OldZoneKeys != 0 || c.Keyless != 0 {
			r.t.Fatalf("census after the deep rewrap: %+v", c)
		}
	}}
}

// job is what the test wants to know of one.
type job struct {
	ID, Files, Failed         int
	Total                     int `json:"total_files"`
	State, Submitted, Problem string
	What                      string
	Shred                     struct{ Event string }
}

func (j job) submitted(r *rig) time.Time {
	at, err := time.Parse(time.RFC3339Nano, j.Submitted)
	r.must(err)
	return at
}

func (r *rig) lastJob() job {
	r.t.Helper()
	all := r.jobs()
	if len(all) == 0 {
		r.Must("reencrypt", "--rate", "3M", r.Volume) // the submission did not get through
		return r.lastJob()
	}
	return all[len(all)-1]
}

func (r *rig) imported(round int) string { return filepath.Join(r.Mnt, fmt.Sprint("imported", round)) }

func (r *rig) sameAsPlain(dir string) {
	r.t.Helper()
	n := 0
	r.must(filepath.WalkDir(r.plain, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		n++
		rel, _ := filepath.Rel(r.plain, path)
		want, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if got, err := os.ReadFile(filepath.Join(dir, rel)); err != nil || string(got) != string(want) {
			r.t.Errorf("%s differs: %v", rel, err)
		}
		return nil
	}))
	if n != plainFiles {
		r.t.Errorf("%d files", n)
	}
}

// TestInterrupted stops every kind of long work in every way, at random moments: 50 in the long form. It goes on, ends and proves, nothing is lost, and the volume is without a fault.
func TestInterrupted(t *testing.T) {
	r := newRig(t)
	rounds := [][2]string{{"reencrypt", "token away"}, {"import", "power cut"}, {"rewrap", "kill"}, {"import", "disk full"}, {"deep rewrap", "power cut"}, {"shred", "kill"}}
	if mounttest.Long() {
		rounds = nil
		for range 50 {
			rounds = append(rounds, [2]string{works[r.rng.IntN(len(works))].name, faults[r.rng.IntN(len(faults))].name})
		}
	}
	for round, pair := range rounds {
		w, f := works[0], faultNamed(pair[1])
		for _, w = range works {
			if w.name == pair[0] {
				break
			}
		}
		what := fmt.Sprintf("round %d, %s and %s", round, w.name, f.name)
		began, running := time.Now(), w.start(r, round)
		how := r.await(w, round, running)
		t.Logf("%s, %s", what, how)
		f.do(r)
		r.Within("the command ends, "+what, func() { <-running })
		w.finish(r, round)
		r.same("after " + what)
		r.fsck("after " + what)
		t.Logf("%s took %v", what, time.Since(began))
	}
	r.Umount()
	r.Must(append([]string{"fsck", r.Volume}, r.Secret...)...)
	r.mount()
	r.same("in the end")
}

// await waits for a random moment in the work, and says which that was.
func (r *rig) await(w work, round int, running chan mounttest.Result) string {
	r.t.Helper()
	if w.way == nil {
		delay := time.Duration(r.rng.IntN(150)) * time.Millisecond
		time.Sleep(delay)
		return fmt.Sprint("after ", delay)
	}
	wanted := r.rng.Float64() * 0.9
	over, stop := mounttest.Patiently(mounttest.Patience)
	defer stop()
	for ; !over(); time.Sleep(time.Millisecond) {
		if now := w.way(r, round); now > wanted {
			return fmt.Sprintf("%.0f%% done", 100*now)
		}
		select {
		case res := <-running:
			if running <- res; res.Code != 0 {
				r.t.Fatalf("nobody has stopped it: %s", res)
			}
		default:
		}
	}
	r.t.Fatalf("%s does not get to %.0f%%", w.name, 100*wanted)
	return ""
}
