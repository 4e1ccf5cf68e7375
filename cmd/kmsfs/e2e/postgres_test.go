package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

const postgresBin = "/usr/lib/postgresql/15/bin"

// pg runs scripts with PostgreSQL's programs as the user who owns the cluster: postgres for root, which PostgreSQL refuses, or whoever runs the test.
type pg struct {
	t       *testing.T
	data    string
	sockets string
}

func (p pg) sh(script string) string {
	p.t.Helper()
	args := []string{"sh", "-euc", "cd / && export PATH=\"$BIN:$PATH\" && " + script}
	if os.Geteuid() == 0 {
		args = append([]string{"setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "BIN="+postgresBin, "PGDATA="+p.data, "PGHOST="+p.sockets, "PGDATABASE=postgres", "HOME="+p.sockets, "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatalf("%s\n%v\n%s", script, err, mounttest.Tail(out, 4000))
	}
	return string(out)
}

func (p pg) start() {
	p.t.Helper()
	p.sh(`pg_ctl -s -w -t 120 -l "$PGHOST/log" -o "-c listen_addresses= -k $PGHOST" start`)
}

func (p pg) stop() {
	p.t.Helper()
	p.sh(`pg_ctl -s -w -t 120 -m fast stop`)
}

// TestPostgres makes a cluster with page checksums in the mount, loads it by pgbench, stops and checks it, remounts, and checks it again.
func TestPostgres(t *testing.T) {
	_, err := os.Stat(postgresBin + "/postgres")
	mounttest.Need(t, err == nil, "PostgreSQL 15 is not installed")
	r := newRig(t)
	r.Init()
	r.Mount()
	sockets := filepath.Join(r.Dir, "s")
	p := pg{t: t, data: filepath.Join(r.Mnt, "pg", "data"), sockets: sockets}
	sh(t, r.Dir, `mkdir s mnt/pg && chmod 700 s mnt/pg && if [ "$(id -u)" = 0 ]; then chown postgres:postgres s mnt/pg; fi`)
	p.sh(`initdb -k --auth=trust -U bench -E UTF8 >/dev/null`)
	p.start()
	stopped := false
	defer func() {
		if !stopped {
			p.stop()
		}
	}()
	seconds, scale := "5", "2"
	if mounttest.Long() {
		seconds, scale = "120", "20"
	}
	p.sh(`pgbench -q -i -s ` + scale + ` -U bench 2>/dev/null`)
	p.sh(`pgbench -c 4 -j 2 -T ` + seconds + ` -U bench >/dev/null 2>&1`)
	sums := `psql -U bench -Atc "select (select sum(abalance) from pgbench_accounts), (select sum(bbalance) from pgbench_branches), (select sum(tbalance) from pgbench_tellers), (select sum(delta) from pgbench_history), (select count(*) > 0 from pgbench_history)"`
	want := p.sh(sums)
	f := strings.Split(strings.TrimSpace(want), "|")
	if len(f) != 5 || f[0] != f[1] || f[1] != f[2] || f[2] != f[3] || f[4] != "t" {
		t.Fatalf("balances disagree: %s", want)
	}
	p.stop()
	p.sh(`pg_checksums --check >/dev/null`)
	r.Remount()
	p.sh(`pg_checksums --check >/dev/null`)
	p.start()
	if got := p.sh(sums); got != want {
		t.Fatalf("after remount %s, want %s", got, want)
	}
	p.sh(`psql -qU bench -c "vacuum full" -c "reindex database postgres"`)
	p.stop()
	stopped = true
	p.sh(`pg_checksums --check >/dev/null`)
	r.Fsck()
}
