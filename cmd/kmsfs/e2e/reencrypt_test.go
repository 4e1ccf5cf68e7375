package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

type jobStatus struct {
	ID         uint64
	State      string
	Root       string
	Submitted  string
	TotalFiles int `json:"total_files"`
	Files      int
	Bytes      int
	Failed     int
	Problem    string
	Ended      string
	Proof      string
	Skipped    []struct {
		Inode     uint64
		Path, Why string
	}
}

type census struct {
	Files, Inline, Blocks, Wraps, Keyless int
	OldWraps                              int `json:"old_wraps"`
	OldBlocks                             int `json:"old_blocks"`
	OldVersions                           int `json:"old_versions"`
	OldParams                             int `json:"old_parameters"`
	Moving                                int
	Before                                struct{ Wraps, Files, Blocks int }
	Versions                              []struct {
		Version, Wraps, Files, Blocks int
		Newest                        bool
		DataKeys                      int `json:"data_keys"`
	}
	AuditKey struct {
		Algorithm string
		Sealed    int
	} `json:"audit_key"`
}

func decode(t testing.TB, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
}

// reencrypt submits a job.
func (r *rig) reencrypt(args ...string) (j jobStatus) {
	r.T.Helper()
	decode(r.T, r.Must(append([]string{"reencrypt", "--json"}, args...)...), &j)
	return j
}

// job returns one.
func (r *rig) job(id uint64) jobStatus {
	r.T.Helper()
	var all []jobStatus
	decode(r.T, r.Must("jobs", "--json", r.Mnt), &all)
	for _, j := range all {
		if j.ID == id {
			return j
		}
	}
	r.T.Fatalf("no job %d among %+v", id, all)
	return jobStatus{}
}

func (r *rig) wait(id uint64) jobStatus {
	r.T.Helper()
	var j jobStatus
	decode(r.T, r.Must("jobs", "wait", "--json", r.Mnt, fmt.Sprint(id)), &j)
	return j
}

// proof fails the test unless nothing below path is sealed under a key older than the job.
func (r *rig) proof(path string, j jobStatus) (c census) {
	r.T.Helper()
	decode(r.T, r.Must("census", "--json", "--before", j.Submitted, path), &c)
	if c.OldWraps+c.OldBlocks+c.Keyless+c.Before.Wraps > 0 {
		r.T.Errorf("census of %s after job %d: %+v", path, j.ID, c)
	}
	return c
}

// tree makes some files of all sizes, and returns what they hold.
func tree(t testing.TB, dir string, rng *rand.Rand) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for i, size := range []int{0, 1, 100, 4096, 4097, 70_000, 1 << 20, 3<<20 + 17, 500, 9000} {
		path := filepath.Join(dir, fmt.Sprint("d", i%3), fmt.Sprint("file", i))
		b := make([]byte, size)
		for j := range b {
			b[j] = byte(rng.Uint32())
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, path, b)
		files[path] = b
	}
	return files
}

func same(t testing.TB, when string, files map[string][]byte) {
	t.Helper()
	for path, want := range files {
		if !bytes.Equal(read(t, path), want) {
			t.Errorf("%s: %s differs", when, path)
		}
	}
}

// TestReencrypt: files are sealed anew while programs use them, the census proves it, and finds what was not.
func TestReencrypt(t *testing.T) {
	r := newRig(t)
	r.Init()
	r.Mount()
	rng := rand.New(rand.NewPCG(1, 7))
	files := tree(t, r.Mnt+"/tree", rng)
	outside := tree(t, r.Mnt+"/other", rng)
	if err := os.Link(r.Mnt+"/tree/d0/file6", r.Mnt+"/other/linked"); err != nil {
		t.Fatal(err)
	}
	write(t, r.Mnt+"/stale", bytes.Repeat([]byte("x"), 4097)) // two blocks

	var over atomic.Bool
	busy := make(chan error, 1)
	go func() { busy <- churn(r.Mnt+"/tree/churn", &over) }()
	j := r.reencrypt("--cpu", "50%", r.Mnt+"/tree")
	done := r.wait(j.ID)
	over.Store(true)
	if err := <-busy; err != nil {
		t.Error(err)
	}
	if done.State != "done" || done.Failed != 0 || done.Files < len(files) || done.Root != "/tree" {
		t.Errorf("%+v", done)
	}
	same(t, "after the job", files)
	if c := r.proof(r.Mnt+"/tree", j); c.Files < len(files) || c.Blocks < 1000 {
		t.Errorf("%+v", c)
	}
	r.Refused(exitFaults, []string{"older"}, "census", "--before", j.Submitted, r.Mnt+"/other")

	if err := os.Rename(r.Mnt+"/stale", r.Mnt+"/tree/d1/stale"); err != nil { // the census must find what a job has not seen
		t.Fatal(err)
	}
	res := r.Refused(exitFaults, []string{"1 data key of 1 file", "2 blocks"}, "census", "--json", "--before", j.Submitted, r.Mnt+"/tree")
	var c census
	decode(t, res.Out, &c)
	if c.Before.Files != 1 || c.Before.Blocks != 2 {
		t.Errorf("%+v", c)
	}
	j = r.reencrypt("--wait", r.Mnt+"/tree/d1/stale")
	if j.State != "done" || j.Files != 1 || j.Bytes != 4097 {
		t.Errorf("%+v", j)
	}
	r.proof(r.Mnt+"/tree/d1/stale", j)

	all := r.reencrypt("--wait", "--all", r.Mnt+"/other")
	r.proof(r.Volume, all)
	r.Remount()
	same(t, "after a remount", files)
	same(t, "after a remount", outside)
	r.Fsck()

	r.Must("key", "rotate", "alias/vault")
	decode(t, r.Must("census", "--json", r.Volume), &c)
	if c.OldVersions != 2 || len(c.Versions) != 1 || c.Versions[0].Version != 1 || c.Versions[0].Newest {
		t.Errorf("after a rotation: %+v", c)
	}
	r.Refused(exitFaults, []string{"not the newest"}, "census", "--newest", r.Volume)
	r.Must("rewrap", r.Volume)
	c = census{}
	decode(t, r.Must("census", "--json", "--newest", r.Volume), &c)
	if len(c.Versions) != 1 || c.AuditKey.Algorithm == "" || c.AuditKey.Sealed == 0 {
		t.Fatalf("after a rewrap: %+v", c)
	}
	if v := c.Versions[0]; c.OldVersions != 0 || v.Version != 2 || !v.Newest || v.Wraps != 2 || v.Files != c.Files || v.DataKeys != c.Wraps || v.Blocks != c.Blocks+c.Inline {
		t.Errorf("after a rewrap: %+v", c)
	}
	r.Refused(exitUsage, nil, "reencrypt", "--cpu", "0", r.Mnt)
	r.Refused(exitUsage, nil, "reencrypt", "--rate", "fast", r.Mnt)
	r.Refused(exitUsage, nil, "census", "--before", "yesterday", r.Mnt)
	r.Refused(exitNotFound, nil, "jobs", "pause", r.Mnt, "77")
	r.Refused(exitUsage, []string{"over"}, "jobs", "cancel", r.Mnt, fmt.Sprint(j.ID))
}

// churn makes, renames, rewrites, cuts and removes files until it is told to stop, and fails where one does not hold what was written.
func churn(dir string, over *atomic.Bool) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(5, 5))
	held := map[string][]byte{}
	for i := 0; !over.Load(); i++ {
		path := filepath.Join(dir, fmt.Sprint(rng.IntN(20)))
		switch b, there := held[path], held[path] != nil; {
		case there && rng.IntN(3) == 0:
			got, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(got, b) {
				return fmt.Errorf("%s differs, %v", path, err)
			}
			if err := os.Remove(path); err != nil {
				return err
			}
			delete(held, path)
		case there:
			to := path + "+"
			if err := errors.Join(os.Rename(path, to), os.Truncate(to, int64(len(b)/2)), os.Rename(to, path)); err != nil {
				return err
			}
			held[path] = b[:len(b)/2]
		default:
			b = bytes.Repeat([]byte{byte(i) | 1}, 1+rng.IntN(300_000))
			if err := os.WriteFile(path, b, 0o644); err != nil {
				return err
			}
			held[path] = b
		}
	}
	for path, b := range held {
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, b) {
			return fmt.Errorf("%s differs in the end, %v", path, err)
		}
	}
	return nil
}

// TestReencryptInterrupted: a job survives the death of its daemon, a pause and a remount, goes on where it was, and is cancelled; another one does what it left. At its rate it would
// take 80 s, so that it is at work whenever it is looked at.
func TestReencryptInterrupted(t *testing.T) {
	r := newRig(t)
	r.Init()
	r.Mount()
	big := bytes.Repeat([]byte("0123456789abcde\n"), 1<<20) // 16 MiB
	write(t, r.Mnt+"/big", big)                             // the first that is worked on
	files := tree(t, r.Mnt+"/tree", rand.New(rand.NewPCG(2, 7)))
	files[r.Mnt+"/big"] = big
	j := r.reencrypt("--rate", "256K", r.Volume)
	beyond := func(bytes int) {
		t.Helper()
		r.Eventually("the big file is being worked on", func() error {
			if j = r.job(j.ID); j.Bytes <= bytes {
				return fmt.Errorf("%+v", j)
			}
			return nil
		})
	}
	beyond(256 << 10)
	r.Kill(r.PID)
	r.Mount()
	again := r.job(j.ID)
	if again.State != "running" && again.State != "waiting" {
		t.Errorf("after a kill: %+v", again)
	}
	r.Must("jobs", "pause", r.Mnt, fmt.Sprint(j.ID))
	paused := r.job(j.ID)
	if paused.State != "paused" {
		t.Errorf("paused: %+v", paused)
	}
	same(t, "paused", files)
	r.Fsck()
	r.Remount()
	if now := r.job(j.ID); now.State != "paused" || now.Bytes != paused.Bytes {
		t.Errorf("after a remount: %+v, was %+v", now, paused)
	}
	r.Must("jobs", "resume", r.Mnt, fmt.Sprint(j.ID))
	beyond(paused.Bytes)
	r.Must("jobs", "cancel", r.Mnt, fmt.Sprint(j.ID))
	if now := r.job(j.ID); now.State != "cancelled" || now.Files != 0 {
		t.Errorf("cancelled: %+v", now)
	}
	same(t, "cancelled", files)

	done := r.reencrypt("--wait", r.Volume)
	if done.State != "done" || done.Failed != 0 || done.Files != len(files) {
		t.Errorf("%+v", done)
	}
	same(t, "done", files)
	r.proof(r.Volume, done)
	var all []jobStatus
	decode(t, r.Must("jobs", "--json"), &all)
	var states []string
	for _, j := range all {
		states = append(states, j.State)
	}
	if !slices.Equal(states, []string{"cancelled", "done"}) || !strings.Contains(r.Must("jobs"), "cancelled") {
		t.Errorf("jobs: %q", states)
	}
	r.Umount()
	r.Fsck()
}

// TestReencryptDenied: a job goes on only while who submitted it may use the keys.
func TestReencryptDenied(t *testing.T) {
	r := newRig(t)
	r.Init()
	r.Mount("--key-ttl", "1s")
	write(t, r.Mnt+"/f", bytes.Repeat([]byte("x"), 8<<20))
	j := r.reencrypt("--rate", "100K", r.Mnt) // for 80 s, so that it is not over in between
	r.Must("jobs", "pause", r.Mnt, fmt.Sprint(j.ID))
	r.Must("key", "disable", "alias/vault")
	r.Refused(exitKeyRefused, nil, "jobs", "resume", r.Mnt, fmt.Sprint(j.ID))
	r.Refused(exitKeyRefused, nil, "reencrypt", r.Mnt)
	r.Must("key", "enable", "alias/vault")
	r.Must("jobs", "resume", r.Mnt, fmt.Sprint(j.ID))
	r.Must("key", "disable", "alias/vault")
	r.Eventually("the job stops", func() error {
		if now := r.job(j.ID); now.State != "paused" || !strings.Contains(now.Problem, "denied") {
			return fmt.Errorf("%+v", now)
		}
		return nil
	})
	r.Must("key", "enable", "alias/vault")
	r.Must("jobs", "resume", r.Mnt, fmt.Sprint(j.ID))
	r.Must("jobs", "cancel", r.Mnt, fmt.Sprint(j.ID))
}

// jobEvent is what the audit log says of something done to a job.
type jobEvent struct {
	Name       string         `json:"eventName"`
	Type       string         `json:"eventType"`
	Code       string         `json:"errorCode"`
	Parameters map[string]any `json:"requestParameters"`
	Response   map[string]any `json:"responseElements"`
}

// jobEvents returns all of them in order.
func (r *rig) jobEvents() (all []jobEvent) {
	r.T.Helper()
	for line := range strings.Lines(r.Must("audit", "query", "--json", "--internal", "--path", "/*")) {
		var e jobEvent
		decode(r.T, line, &e)
		if strings.HasSuffix(e.Name, "Job") {
			all = append(all, e)
		}
	}
	return all
}

// TestJobReport: what was asked of jobs, and what became of them, is in the audit log, with counts; a job that is over names what it passed over and the proof to run.
func TestJobReport(t *testing.T) {
	r := newRig(t)
	r.Init()
	r.Mount()
	files := tree(t, r.Mnt+"/tree", rand.New(rand.NewPCG(3, 9)))
	var st []struct {
		Keys struct{ Key string }
	}
	decode(t, r.Must("status", "--json", r.Mnt), &st)
	j := r.reencrypt("--rate", "200K", "--cpu", "30%", r.Mnt+"/tree")
	id := fmt.Sprint(j.ID)
	r.Must("jobs", "pause", r.Mnt, id)
	r.Must("jobs", "resume", r.Mnt, id)
	r.Must("jobs", "cancel", r.Mnt, id)
	done := r.reencrypt("--wait", r.Mnt+"/tree")
	if done.Ended < done.Submitted || len(done.Skipped) != 0 || !strings.HasPrefix(done.Proof, "kmsfs census --before ") {
		t.Errorf("%+v", done)
	}
	proof := strings.Fields(done.Proof)
	r.Must(proof[1:]...)
	if out := r.Must("jobs", "wait", r.Mnt, fmt.Sprint(done.ID)); !strings.Contains(out, done.Proof) || !strings.Contains(out, fmt.Sprintf("%d of %d", len(files), len(files))) {
		t.Errorf("the report:\n%s", out)
	}
	r.Must("key", "disable", st[0].Keys.Key)
	r.Refused(exitKeyRefused, nil, "reencrypt", r.Mnt)
	r.Must("key", "enable", st[0].Keys.Key)
	events := r.jobEvents()
	var names []string
	for _, e := range events {
		names = append(names, e.Name+e.Code)
	}
	if want := []string{"SubmitJob", "PauseJob", "ResumeJob", "CancelJob", "SubmitJob", "EndJob", "SubmitJobkey-refused"}; !slices.Equal(names, want) {
		t.Fatalf("events %q, want %q", names, want)
	}
	if p := events[0].Parameters; p["jobId"] != 1.0 || p["jobKind"] != "reencrypt" || p["rate"] != 200.0*1024 || p["cpu"] != 30.0 {
		t.Errorf("submitted: %v", p)
	}
	if e := events[5]; e.Response["files"] != float64(done.Files) || e.Response["bytes"] != float64(done.Bytes) || e.Response["state"] != "done" || e.Response["failed"] != 0.0 || e.Type != "AwsServiceEvent" {
		t.Errorf("ended: %+v, job %+v", e, done)
	}
	r.Must("audit", "verify")
	r.Umount()
	r.Mount("-o", "ro")
	r.Refused(exitUsage, []string{"mounted read-only", "-o ro"}, "reencrypt", r.Mnt)
}
