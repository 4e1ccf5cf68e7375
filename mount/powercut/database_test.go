package powercut

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// client is a program that works on a database and writes the number of each transaction that was acknowledged to a file on another disk.
type client struct {
	cmd   *exec.Cmd
	acked string
	out   bytes.Buffer
}

func startClient(t testing.TB, acked string, cmd *exec.Cmd) *client {
	t.Helper()
	c := &client{cmd: cmd, acked: acked}
	cmd.Stdout, cmd.Stderr = &c.out, &c.out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

// end kills the client, which may have ended by itself.
func (c *client) end() {
	_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
	_ = c.cmd.Wait()
}

// last returns the number of the last acknowledged transaction; a line that is cut short does not count.
func last(t testing.TB, acked string) int {
	t.Helper()
	text, err := os.ReadFile(acked)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 2 {
		return 0
	}
	n, err := strconv.Atoi(lines[len(lines)-2])
	if err != nil {
		t.Fatalf("acknowledged %q", lines[len(lines)-2])
	}
	return n
}

// awaitProgress waits until the client has had a number of transactions acknowledged since before, and a random while more.
func awaitProgress(t testing.TB, c *client, before, n int, rng *rand.Rand) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); last(t, c.acked) < before+n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.end()
			t.Fatalf("%d transactions in a minute, want %d\n%s", last(t, c.acked)-before, n, c.out.String())
		}
	}
	time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond)
}

// sqliteClient counts on in a table, three rows of a transaction each, with payloads that follow from their number. With synchronous=full SQLite does not sync
// the directory after the rollback journal was removed, which is the commit, and a power cut may take the last one back on any filesystem.
const sqliteClient = `
import os, sqlite3, sys
path, acked, mode = sys.argv[1:4]
log = os.open(acked, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
db = sqlite3.connect(path, isolation_level=None, timeout=30)
assert db.execute("pragma journal_mode=" + mode).fetchone()[0] == mode
db.execute("pragma synchronous=extra")
db.execute("create table if not exists t(n integer, part integer, body blob, primary key(n, part))")
n = db.execute("select coalesce(max(n), 0) from t").fetchone()[0]
while True:
    n += 1
    db.execute("begin immediate")
    for part in range(3):
        db.execute("insert into t values(?, ?, ?)", (n, part, (b"%d-%d " % (n, part)) * (n % 300 + 1)))
    if n > 400:
        db.execute("update t set body = body where n = ?", (n - 400,))
    db.execute("commit")
    os.write(log, b"%d\n" % n)
`

// sqliteCheck prints the result of the integrity check, and the last number if every row up to it is right.
const sqliteCheck = `
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
print(db.execute("pragma integrity_check").fetchone()[0])
want = 1
rows = db.execute("select n, part, body from t order by n, part").fetchall()
for i, (n, part, body) in enumerate(rows):
    assert (n, part) == (i // 3 + 1, i % 3), (n, part, i)
    assert body == (b"%d-%d " % (n, part)) * (n % 300 + 1), (n, part)
assert len(rows) % 3 == 0
print(len(rows) // 3)
`

// TestSQLite commits to a SQLite database on a mount while the power is cut, with a rollback journal and with a write-ahead log.
func TestSQLite(t *testing.T) {
	n := mounttest.Seed(t)
	for which, mode := range []string{"delete", "wal"} {
		t.Run(mode, func(t *testing.T) {
			mounttest.NeedProgram(t, "python3")
			lower := lowers[which]
			r := newRig(t, rigOptions{lower: lower})
			rng := rand.New(rand.NewPCG(n, uint64(which)))
			db, acked := filepath.Join(r.Mnt, "test.db"), filepath.Join(r.Dir, "acked")
			for i := range mounttest.Times(5, 100) {
				before := last(t, acked)
				c := startClient(t, acked, exec.Command("python3", "-c", sqliteClient, db, acked, mode))
				awaitProgress(t, c, before, 5, rng)
				flags := cutFlags(rng)
				if err := r.disk.Cut(flags); err != nil {
					c.end()
					t.Fatal(err)
				}
				c.end()
				r.crash(rng)
				want := last(t, acked)
				out, err := exec.Command("python3", "-c", sqliteCheck, db).CombinedOutput()
				if err != nil {
					t.Fatalf("cut %d, flags %d: %v\n%s", i, flags, err, out)
				}
				words := strings.Fields(string(out))
				if len(words) != 2 || words[0] != "ok" {
					t.Fatalf("cut %d, flags %d: %s", i, flags, out)
				}
				// One more may be there: committed, and cut before it was noted.
				if got, err := strconv.Atoi(words[1]); err != nil || got < want || got > want+1 {
					t.Fatalf("cut %d, flags %d: %s transactions, %d were acknowledged", i, flags, words[1], want)
				}
				if err := r.fsck(); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("%s on %s: %d transactions acknowledged", mode, lower, last(t, acked))
		})
	}
}

const postgresBin = "/usr/lib/postgresql/15/bin"

// cluster is a PostgreSQL cluster on a mount, owned by the user postgres.
type cluster struct {
	t       testing.TB
	data    string
	sockets string // outside of the mount
}

// command returns a shell script with PostgreSQL's programs and surroundings.
func (c *cluster) command(script string) *exec.Cmd {
	cmd := exec.Command("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--", "sh", "-euc", "cd / && export PATH=\"$BIN:$PATH\" && "+script)
	cmd.Env = append(os.Environ(), "BIN="+postgresBin, "PGDATA="+c.data, "PGHOST="+c.sockets, "PGDATABASE=postgres", "PGUSER=bench", "HOME="+c.sockets, "LC_ALL=C.UTF-8")
	return cmd
}

func (c *cluster) sh(script string) string {
	c.t.Helper()
	out, err := c.command(script).CombinedOutput()
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(c.sockets, "log"))
		c.t.Fatalf("%s\n%v\n%s\n%s", script, err, out, log[max(0, len(log)-4000):])
	}
	return string(out)
}

func (c *cluster) start() {
	c.t.Helper()
	c.sh(`pg_ctl -s -w -t 120 -l "$PGHOST/log" -o "-c listen_addresses= -c shared_buffers=16MB -c dynamic_shared_memory_type=mmap -k $PGHOST" start`)
}

// die kills all of the cluster's processes.
func (c *cluster) die() {
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range paths {
		exe, err := os.Readlink(filepath.Join(filepath.Dir(p), "exe"))
		if pid, perr := strconv.Atoi(filepath.Base(filepath.Dir(p))); err == nil && perr == nil && exe == postgresBin+"/postgres" {
			_ = syscall.Kill(pid, syscall.SIGKILL) // of this process namespace
		}
	}
}

// postgresClient counts on, one transaction each, and notes what was acknowledged. psql is started once: one statement is sent after the other was answered.
const postgresClient = `
import os, subprocess, sys
acked, = sys.argv[1:2]
log = os.open(acked, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
p = subprocess.Popen(["psql", "-qAtX", "-v", "ON_ERROR_STOP=1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
def ask(s):
    p.stdin.write(s.encode() + b"\n")
    p.stdin.flush()
    line = p.stdout.readline()
    if not line:
        sys.exit("psql ended")
    return line.strip()
n = int(ask("select coalesce(max(n), 0) from t;"))
while True:
    n += 1
    ask("begin; insert into t select %d, part, repeat(%d || '-' || part || ' ', %d) from generate_series(0, 2) part; commit; select 'done';" % (n, n, n % 300 + 1))
    os.write(log, b"%d\n" % n)
`

const postgresCheck = `select count(*) / 3, max(n), count(*) filter (where body <> repeat(n || '-' || part || ' ', (n % 300 + 1)::int)), count(*) % 3 from t`

// TestPostgres commits to PostgreSQL on a mount while the power is cut. After it has recovered every acknowledged transaction is there, and its page
// checksums are right.
func TestPostgres(t *testing.T) {
	n := mounttest.Seed(t)
	mounttest.NeedApart(t)
	_, err := os.Stat(postgresBin + "/postgres")
	mounttest.Need(t, err == nil, "PostgreSQL 15 is not installed")
	mounttest.NeedProgram(t, "setpriv", "python3")
	r := newRig(t, rigOptions{lower: "ext4"})
	rng := rand.New(rand.NewPCG(n, 0))
	c := &cluster{t: t, data: filepath.Join(r.Mnt, "pg", "data"), sockets: filepath.Join(r.Dir, "s")}
	for _, dir := range []string{filepath.Join(r.Mnt, "pg"), c.sockets} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("chown", "postgres:postgres", dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	t.Cleanup(c.die)
	c.sh(`initdb -k --auth=trust -U bench -E UTF8 >/dev/null`)
	c.start()
	c.sh(`psql -qXc "create table t(n bigint, part int, body text, primary key(n, part))"`)
	acked := filepath.Join(c.sockets, "acked")
	for i := range mounttest.Times(5, 100) {
		before := last(t, acked)
		client := startClient(t, acked, c.command(fmt.Sprintf("exec python3 -c '%s' \"$PGHOST/acked\"", strings.ReplaceAll(postgresClient, "'", `'\''`))))
		awaitProgress(t, client, before, 5, rng)
		flags := cutFlags(rng)
		err := r.disk.Cut(flags)
		client.end()
		c.die()
		if err != nil {
			t.Fatal(err)
		}
		r.crash(rng)
		c.start()
		want := last(t, acked)
		var got, highest, wrong, odd int
		out := c.sh(fmt.Sprintf("psql -qAtXF ' ' -c %q", postgresCheck))
		if _, err := fmt.Sscan(out, &got, &highest, &wrong, &odd); err != nil || got != highest || wrong+odd != 0 || got < want || got > want+1 {
			t.Fatalf("cut %d, flags %d: %s, %d were acknowledged (%v)", i, flags, out, want, err)
		}
		c.sh(`pg_ctl -s -w -t 120 -m fast stop && pg_checksums --check >/dev/null`)
		if err := r.fsck(); err != nil {
			t.Fatal(err)
		}
		c.start()
	}
	c.sh(`pg_ctl -s -w -t 120 -m fast stop`)
	t.Logf("%d transactions acknowledged", last(t, acked))
}
