package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// setting returns a number from the environment: what a test is scaled by.
func setting(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n <= 0 {
		t.Fatalf("%s=%s is no number", name, text)
	}
	return n
}

// TestReencryptUnderLoad rotates the volume's key, wraps and re-encrypts everything (KMSFS_REENCRYPT_MIB in KMSFS_REENCRYPT_FILES files) under a mixed load: fio with verification, git, SQLite,
// PostgreSQL if it is installed, files that come, go and are renamed. No program may see an error or a wrong byte; what the job costs the foreground at a quarter of the time is printed; then the
// proof, the check, and nothing of the old version is left.
func TestReencryptUnderLoad(t *testing.T) {
	if !mounttest.Long() {
		t.Skip("long form, runs with KMSFS_LONG=1; KMSFS_REENCRYPT_MIB=10240 and KMSFS_REENCRYPT_FILES=100000 for the largest")
	}
	mounttest.NeedProgram(t, "fio", "git", "sqlite3")
	r := newRig(t)
	r.Init()
	r.Mount()
	files := manyFiles(t, filepath.Join(r.Mnt, "many"), setting(t, "KMSFS_REENCRYPT_FILES", 20_000), setting(t, "KMSFS_REENCRYPT_MIB", 2048)<<20)
	t.Logf("%d files of %d MiB are made", files.count, files.bytes>>20)

	for _, dir := range []string{"load", "git", "fio"} {
		if err := os.Mkdir(filepath.Join(r.Mnt, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	db := startPgbench(t, r)
	l := startLoad(t, filepath.Join(r.Mnt, "load"))
	l.busy.Go(func() { l.git(filepath.Join(r.Mnt, "git")) })
	idle := foreground(t, filepath.Join(r.Mnt, "fio"))

	r.Must("key", "rotate", "alias/vault")
	r.Must("rewrap", r.Volume)
	began := time.Now()
	j := r.reencrypt("--cpu", "25%", "--all", r.Mnt)
	var busy []float64
	for len(busy) < 3 && r.job(j.ID).State != "done" {
		busy = append(busy, foreground(t, filepath.Join(r.Mnt, "fio")))
	}
	done := r.wait(j.ID)
	took := time.Since(began)
	l.stop()
	db.stop()
	t.Logf("foreground: %.0f KiB/s without the job, %.0f with it; the job: %d files, %d MiB in %v", idle, busy, done.Files, done.Bytes>>20, took.Round(time.Second))
	if done.State != "done" || done.Failed != 0 || done.Files < files.count {
		t.Errorf("%+v", done)
	}
	if c := r.proof(r.Volume, done); c.OldVersions+c.OldParams+c.Moving > 0 {
		t.Errorf("%+v", c)
	}
	files.same(t)
	r.Remount()
	files.same(t)
	r.Fsck()
}

// many are files whose content is known by their number.
type many struct {
	dir   string
	sizes []int
	count int
	bytes int
}

// manyFiles makes count files of so many bytes together, most of them small.
func manyFiles(t *testing.T, dir string, count, bytes int) *many {
	t.Helper()
	m := &many{dir: dir, count: count}
	rng := rand.New(rand.NewPCG(7, 1))
	for i := range count {
		size := rng.IntN(2 * bytes / count / 4)
		if i%100 == 0 { // these hold most
			size = bytes / count * 75
		}
		if i%100 == 0 {
			if err := os.MkdirAll(m.dirOf(i), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		m.sizes = append(m.sizes, size)
		m.bytes += size
		write(t, m.path(i), content(uint64(i), size))
	}
	return m
}

func (m *many) dirOf(i int) string { return filepath.Join(m.dir, fmt.Sprint("d", i/100)) }
func (m *many) path(i int) string  { return filepath.Join(m.dirOf(i), fmt.Sprint("f", i)) }

func (m *many) same(t *testing.T) {
	t.Helper()
	for i, size := range m.sizes {
		if got := read(t, m.path(i)); string(got) != string(content(uint64(i), size)) {
			t.Fatalf("%s: %d bytes, and not those of %d that were written", m.path(i), len(got), size)
		}
	}
}

// git commits, packs and checks a repository until the load ends.
func (l *load) git(dir string) {
	const env = `export HOME=$PWD GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b; `
	sh(l.t, dir, env+`git init -q repo`)
	for i := 0; !l.over.Load(); i++ {
		script := fmt.Sprintf(`cd repo; for f in 1 2 3 4 5; do seq $((%d * $f)) 5000 >file$f; git add -A; git commit -qm "%d $f"; done`, i, i)
		if i%5 == 4 {
			script += `; git gc -q`
		}
		sh(l.t, dir, env+script+`; git fsck --full --strict >/dev/null 2>&1`)
	}
}

// foreground returns how fast random writes with verification are, in KiB/s.
func foreground(t *testing.T, dir string) float64 {
	t.Helper()
	out := sh(t, dir, `fio --name=fg --filename=fg --size=128M --rw=randrw --bs=16k --fsync=64 --time_based --runtime=15 --verify=crc32c --verify_fatal=1 --verify_backlog=256 --output-format=json --output=fio.json && cat fio.json`)
	var res struct {
		Jobs []struct{ Read, Write struct{ BW float64 } }
	}
	if err := json.Unmarshal([]byte(out), &res); err != nil || len(res.Jobs) != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	return res.Jobs[0].Read.BW + res.Jobs[0].Write.BW
}

// bench is pgbench on a cluster in the mount, where PostgreSQL is installed.
type bench struct {
	p    *pg
	over chan struct{}
}

func startPgbench(t *testing.T, r *rig) *bench {
	t.Helper()
	if _, err := os.Stat(postgresBin + "/postgres"); err != nil {
		t.Log("without PostgreSQL, which is not installed")
		return &bench{}
	}
	p := &pg{t: t, data: filepath.Join(r.Mnt, "pg", "data"), sockets: filepath.Join(r.Dir, "s")}
	sh(t, r.Dir, `mkdir s mnt/pg && chmod 700 s mnt/pg && if [ "$(id -u)" = 0 ]; then chown postgres:postgres s mnt/pg; fi`)
	p.sh(`initdb -k --auth=trust -U bench -E UTF8 >/dev/null`)
	p.start()
	p.sh(`pgbench -q -i -s 5 -U bench 2>/dev/null`)
	b := &bench{p, make(chan struct{})}
	t.Cleanup(b.stop)
	stop := filepath.Join(r.Dir, "s", "stop")
	go func() {
		defer close(b.over)
		p.sh(`while [ ! -e "` + stop + `" ]; do pgbench -n -c 4 -j 2 -T 5 -U bench >/dev/null 2>&1; done`)
	}()
	return b
}

// stop ends it, and compares the balances and the checksums of the pages.
func (b *bench) stop() {
	if b.p == nil {
		return
	}
	p := b.p
	b.p = nil
	sh(p.t, p.sockets, "touch stop")
	<-b.over
	out := p.sh(`psql -U bench -Atc "select (select sum(abalance) from pgbench_accounts) = (select sum(bbalance) from pgbench_branches), (select sum(bbalance) from pgbench_branches) = (select sum(tbalance) from pgbench_tellers)"`)
	if out != "t|t\n" {
		p.t.Errorf("balances disagree: %s", out)
	}
	p.stop()
	p.sh(`pg_checksums --check >/dev/null`)
}
