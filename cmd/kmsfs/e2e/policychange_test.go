package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// load is programs that use a directory and check what they find there, until they are told to stop.
type load struct {
	t    *testing.T
	over atomic.Bool
	busy sync.WaitGroup
	dir  string
	rows atomic.Int64 // that the database has taken
}

// startLoad begins: a file that is written, cut, punched and mapped against a model; files that come, go and are renamed; a database.
func startLoad(t *testing.T, dir string) *load {
	t.Helper()
	l := &load{t: t, dir: dir}
	f, err := os.Create(filepath.Join(dir, "modelled"))
	if err != nil {
		t.Fatal(err)
	}
	m := &mmapModel{t: t, f: f, rng: rand.New(rand.NewPCG(8, 8))}
	m.truncate(1 << 20)
	sh(t, dir, `sqlite3 load.db "pragma journal_mode=wal; create table t(id integer primary key, x blob)" >/dev/null`)
	l.busy.Go(func() { l.check(churn(filepath.Join(dir, "churn"), &l.over)) })
	l.busy.Go(func() {
		l.model(m)
		l.check(f.Close())
	})
	l.busy.Go(l.database)
	return l
}

func (l *load) check(err error) {
	if err != nil {
		l.t.Error(err)
	}
}

func (l *load) model(m *mmapModel) {
	for i := 0; !l.over.Load(); i++ {
		switch k := m.rng.IntN(10); {
		case k < 4:
			m.mapped()
		case k < 6:
			m.written()
		case k < 8:
			m.truncate(m.rng.IntN(2 << 20))
		default:
			m.punch()
		}
		if i%5 == 0 {
			m.compare()
		}
	}
	m.compare()
}

func (l *load) database() {
	const insert = `sqlite3 -cmd ".timeout 60000" load.db "insert into t(x) with recursive n(i) as (select 1 union all select i+1 from n where i < 50) select randomblob(500) from n; update t set x = randomblob(700) where id % 17 = abs(random()) % 17; pragma integrity_check"`
	for !l.over.Load() {
		if out := sh(l.t, l.dir, insert); out != "ok\n" {
			l.t.Errorf("the database: %s", out)
			return
		}
		l.rows.Add(50)
	}
}

// stop ends the load and fails the test if any of it found something wrong.
func (l *load) stop() {
	l.t.Helper()
	l.over.Store(true)
	l.busy.Wait()
	want := fmt.Sprintf("ok\n%d\n", l.rows.Load())
	if out := sh(l.t, l.dir, `sqlite3 load.db "pragma integrity_check; select count(*) from t"`); out != want {
		l.t.Errorf("the database in the end: %s, want %s", out, want)
	}
}

// taken returns the space that a file says it takes, in bytes.
func taken(t *testing.T, path string) int {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return int(st.Blocks) * 512
}

// TestPolicyChangeInUse: the policy of a directory with files changes key, block size and compression while programs use it. Afterwards nothing is under the key that it had, nor
// stored as it was, and programs have noticed nothing.
func TestPolicyChangeInUse(t *testing.T) {
	mounttest.NeedProgram(t, "sqlite3")
	for _, at := range []string{"zone", "root", "plain"} {
		t.Run(at, func(t *testing.T) { policyChangeInUse(t, at) })
	}
}

// policyChangeInUse is it for the directory of a zone, the root of the mount, or a directory that becomes a zone by it, and is none again in the end.
func policyChangeInUse(t *testing.T, at string) {
	r := newRig(t)
	r.Init("--block-size", "4K")
	r.Mount()
	r.Must("key", "create", "--alias", "alias/former")
	r.Must("key", "create", "--alias", "alias/next")
	dir, file := r.Mnt, filepath.Join(r.Dir, "policy.yaml")
	if at != "root" {
		dir = filepath.Join(r.Mnt, "zone")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const who = "\nstatements:\n  - {effect: allow, users: [root], actions: ['*']}\n"
	write(t, file, []byte("version: 1\nkeys: [alias/former]\nblock_size: 4KiB"+who))
	if at != "plain" {
		r.Must("policy", "set", dir, file)
	}

	files := tree(t, filepath.Join(dir, "tree"), rand.New(rand.NewPCG(6, 6)))
	text := filepath.Join(dir, "text")
	files[text] = bytes.Repeat([]byte("it can be compressed, and well\n"), 200_000)
	write(t, text, files[text])
	sparse := filepath.Join(dir, "sparse")
	files[sparse] = append(make([]byte, 3<<20), "the end"...)
	sh(t, dir, `truncate -s 3M sparse; printf 'the end' >>sparse`)

	l := startLoad(t, dir)
	write(t, file, []byte("version: 1\nkeys: [alias/next]\nblock_size: 128KiB\ncompression: zstd\ninline: 8KiB"+who))
	var set struct {
		Keys  []string
		Block int `json:"block_size"`
		Job   *jobStatus
	}
	decode(t, r.Must("policy", "set", "--json", "--cpu", "60%", dir, file), &set)
	if set.Job == nil || set.Block != 128<<10 || len(set.Keys) != 1 {
		t.Fatalf("the policy is set: %+v", set)
	}
	done := r.wait(set.Job.ID)
	l.stop()
	if done.State != "done" || done.Failed != 0 || done.Files < len(files) {
		t.Errorf("%+v", done)
	}
	same(t, "after the job", files)
	if c := r.proof(dir, done); c.OldParams+c.Moving != 0 || c.Files < len(files) {
		t.Errorf("%+v", c)
	}
	if n := taken(t, text); n*4 > len(files[text]) {
		t.Errorf("%d bytes are taken by %d that compress", n, len(files[text]))
	}
	if n := taken(t, sparse); n > 1<<20 {
		t.Errorf("%d bytes are taken by holes", n)
	}
	if at == "zone" { // the volume is under its own key, too
		r.Must("key", "delete", "--yes", "--days", "7", "alias/former")
	}
	r.Remount()
	same(t, "after a remount", files)
	r.Fsck()

	write(t, file, []byte("version: 1\nkeys: [alias/next]\nblock_size: 4KiB\ncompression: none"+who)) // and back
	decode(t, r.Must("policy", "set", "--wait", "--json", dir, file), &set)
	if set.Job == nil || set.Job.State != "done" {
		t.Fatalf("%+v", set.Job)
	}
	if c := r.proof(dir, *set.Job); c.OldParams+c.Moving != 0 {
		t.Errorf("%+v", c)
	}
	same(t, "and back", files)
	if at == "plain" {
		takeAway(r, dir, files)
		return
	}
	r.Must("key", "create", "--alias", "alias/closed")
	r.Must("key", "disable", "alias/closed")
	before := r.Must("policy", "list", "--json", dir)
	write(t, file, []byte("version: 1\nkeys: [alias/closed]\nblock_size: 64KiB"+who))
	r.Refused(exitKeyRefused, nil, "policy", "set", dir, file)
	if after := r.Must("policy", "list", "--json", dir); after != before {
		t.Errorf("a refusal has changed something: %s, was %s", after, before)
	}
	r.Umount()
	r.Fsck()
}

// takeAway removes the policy of a directory in use: what is in it goes under the keys of the directory around.
func takeAway(r *rig, dir string, files map[string][]byte) {
	t := r.T.(*testing.T)
	t.Helper()
	again := filepath.Join(dir, "again")
	if err := os.Mkdir(again, 0o755); err != nil {
		t.Fatal(err)
	}
	l := startLoad(t, again)
	var job jobStatus
	decode(t, r.Must("policy", "rm", "--wait", "--json", dir), &job)
	l.stop()
	if job.State != "done" || job.Failed != 0 || job.Files < len(files) {
		t.Errorf("%+v", job)
	}
	same(t, "without the policy", files)
	r.proof(dir, job)
	var zones []struct{ Zone int }
	if decode(t, r.Must("policy", "list", "--json", dir), &zones); len(zones) != 1 {
		t.Errorf("%+v", zones)
	}
	r.Must("key", "delete", "--yes", "--days", "7", "alias/next")
	r.Remount()
	same(t, "without the policy, after a remount", files)
	r.Umount()
	r.Fsck()
}
