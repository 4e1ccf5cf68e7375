package powercut

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// conversion is a directory whose files go from one set of parameters to another and back, while it is stopped again and again.
type conversion struct {
	*rig
	rng   *rand.Rand
	dir   string
	files map[string][]byte // as last synced
	turn  int               // of the policies
	job   job
}

// job is what the test looks at of one.
type job struct {
	ID        uint64
	State     string
	Submitted string
	Bytes     int64
	Failed    int
	Problem   string
}

// The policies that the directory has by turns. Keys are asked for again every second, so that it shows when they are away.
var policies = [...]string{
	"version: 1\nkey_ttl: 1s\nkeys: [alias/one]\nblock_size: 128KiB\ncompression: zstd\ninline: 16KiB\n",
	"version: 1\nkey_ttl: 1s\nkeys: [alias/two]\nblock_size: 4KiB\ncompression: none\ninline: 2KiB\n",
}

func newConversion(t *testing.T) *conversion {
	r := newRig(t, rigOptions{lower: "ext4"})
	c := &conversion{rig: r, rng: rand.New(rand.NewPCG(mounttest.Seed(t), 35)), dir: filepath.Join(r.Mnt, "zone"), files: map[string][]byte{}}
	r.Must("key", "create", "--alias", "alias/one")
	r.Must("key", "create", "--alias", "alias/two")
	if err := os.Mkdir(c.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c.set("--json")
	for i, size := range []int{0, 500, 10_000, 10_000, 70_000, 300_000, 1 << 20, 5<<20 + 3, 9 << 20} {
		path := filepath.Join(c.dir, fmt.Sprint("file", i))
		c.files[path] = c.content(size)
		if err := writeSynced(path, c.files[path], 0); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// content is half text, half noise.
func (c *conversion) content(n int) []byte {
	b := bytes.Repeat([]byte("neither too much nor too little "), n/32+1)[:n]
	for i := n / 2; i < n; i++ {
		b[i] = byte(c.rng.Uint32())
	}
	return b
}

func writeSynced(path string, b []byte, off int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, off)
	return errors.Join(err, f.Sync(), f.Close())
}

// set puts the other policy on the directory.
func (c *conversion) set(options ...string) {
	c.T.Helper()
	file := filepath.Join(c.Dir, "policy.yaml")
	if err := os.WriteFile(file, []byte(policies[c.turn%2]), 0o600); err != nil {
		c.T.Fatal(err)
	}
	c.turn++
	var set struct{ Job *job }
	out := c.Must(append([]string{"policy", "set", c.dir, file}, options...)...)
	if err := json.Unmarshal([]byte(out), &set); err != nil {
		c.T.Fatalf("%v: %s", err, out)
	}
	if set.Job != nil {
		c.job = *set.Job
	}
}

func (c *conversion) now() (job, error) {
	var all []job
	res := c.Command("jobs", "--json", c.Mnt)
	if err := json.Unmarshal([]byte(res.Out), &all); err != nil {
		return job{}, fmt.Errorf("%w: %s", err, res)
	}
	for _, j := range all {
		if j.ID == c.job.ID {
			return j, nil
		}
	}
	return job{}, fmt.Errorf("no job %d among %+v", c.job.ID, all)
}

// reach waits until the job has done so many bytes, or all, or says why it does not get on.
func (c *conversion) reach(bytes int64) (j job) {
	c.T.Helper()
	c.Eventually("the job gets on", func() (err error) {
		if j, err = c.now(); err == nil && j.State != "done" && j.Bytes < bytes && j.Problem == "" {
			err = fmt.Errorf("%+v", j)
		}
		return err
	})
	return j
}

// done waits for the job's end, and proves it.
func (c *conversion) done() {
	c.T.Helper()
	c.Eventually("the job ends", func() error {
		j, err := c.now()
		if err == nil && j.State != "done" {
			err = fmt.Errorf("%+v", j)
		}
		c.job = j
		return err
	})
	var census struct {
		OldParams int `json:"old_parameters"`
		Moving    int
	}
	out := c.Must("census", "--json", "--before", c.job.Submitted, c.dir)
	if err := json.Unmarshal([]byte(out), &census); err != nil || census.OldParams+census.Moving+c.job.Failed > 0 {
		c.T.Errorf("after %+v: %v, %s", c.job, err, out)
	}
	c.same()
	if err := c.fsck(); err != nil {
		c.T.Error(err)
	}
}

func (c *conversion) same() {
	c.T.Helper()
	for path, want := range c.files {
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, want) {
			c.T.Fatalf("%s: %d bytes instead of %d, %v", path, len(got), len(want), err)
		}
	}
}

// change writes to some of the files, durably.
func (c *conversion) change() {
	c.T.Helper()
	for path, b := range c.files {
		if c.rng.IntN(3) > 0 {
			continue
		}
		off, p := c.rng.IntN(len(b)+1), c.content(1+c.rng.IntN(200_000))
		if err := writeSynced(path, p, int64(off)); err != nil {
			c.T.Fatal(err)
		}
		b = append(b[:len(b):len(b)], make([]byte, max(off+len(p)-len(b), 0))...)
		copy(b[off:], p)
		c.files[path] = b
	}
}

// The ways to stop a job.
var stops = []struct {
	name string
	do   func(c *conversion)
}{
	{"kill", func(c *conversion) {
		c.Kill(c.PID)
		c.Mount()
	}},
	{"power cut", func(c *conversion) {
		if err := c.disk.Cut(cutFlags(c.rng)); err != nil {
			c.T.Fatal(err)
		}
		c.crash(c.rng)
	}},
	{"disk full", func(c *conversion) {
		if st, err := os.Stat(filepath.Join(c.Volume, "ballast")); err != nil || st.Size() == 0 {
			return // a disk that somebody else fills before there is a ballast again is a limit that docs/adr/0009 names
		}
		release := c.disk.Fill()
		c.reach(c.job.Bytes + 20<<20)
		c.same()
		release()
		c.reopen()
	}},
	{"keys away", func(c *conversion) { // the key daemon is started again by the file daemon
		c.Kill(c.KeydPID())
		c.reach(c.job.Bytes + 20<<20)
		c.Eventually("keys can be had again", func() error { // a refusal is remembered for a moment
			_, err := os.ReadFile(filepath.Join(c.dir, "file1"))
			return err
		})
	}},
}

// reopen unmounts the volume, after its disk was full, and mounts it again: a merge of tables that has met the full disk is halted until then (docs/adr/0012), and the unmounting says so (20: no space).
func (c *conversion) reopen() {
	c.T.Helper()
	if res := c.Command("umount", c.Mnt); res.Code != 0 && (res.Code != 20 || !strings.Contains(res.Err, "nothing was lost")) {
		c.T.Fatal(res)
	}
	c.PID = 0
	c.Mount()
}

// TestPolicyChangeStopped stops the change of a directory's keys, block size and compression at random points: the daemon is killed, the power is cut, the disk is
// full, the key manager is away. Each time all that was synced is there, and it goes on, ends, and proves.
func TestPolicyChangeStopped(t *testing.T) {
	c := newConversion(t)
	rounds, met := mounttest.Times(len(stops), 50), map[string]int{}
	for i := 0; i < rounds; {
		c.set("--json", "--rate", "6M")
		for ; i < rounds; i++ {
			stop := stops[i%len(stops)]
			began := time.Now()
			j := c.reach(c.job.Bytes + c.rng.Int64N(6<<20))
			if j.State == "done" {
				break
			}
			c.job = j
			stop.do(c)
			met[stop.name]++
			c.same()
			c.change()
			t.Logf("%d: %s at %d bytes, %v", i, stop.name, j.Bytes, time.Since(began).Round(time.Millisecond))
		}
		c.done()
	}
	if len(met) < len(stops) {
		t.Errorf("not every stop was met: %v", met)
	}
	if err := c.fsckClosed(); err != nil {
		t.Error(err)
	}
	c.same()
}
