package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// databaseLoads run the sqlite3 shell with its defaults: a rollback journal
// that is deleted at each commit, and full synchronisation.
func databaseLoads() []Load {
	return []Load{
		{Name: "SQLite, small transactions", Unit: "op/s", Tool: "sqlite3", Run: transactions},
		{Name: "SQLite, bulk insert", Unit: "op/s", Tool: "sqlite3", Run: bulkInsert},
	}
}

const schema = "CREATE TABLE t(id INTEGER PRIMARY KEY, a INTEGER, b TEXT);\nCREATE INDEX i ON t(a);\n"

// transactions inserts one row per transaction, 500 times.
func transactions(ctx context.Context, e *Env) (Result, error) {
	n := e.count(500)
	var script strings.Builder
	for i := range n {
		fmt.Fprintf(&script, "BEGIN; INSERT INTO t(a,b) VALUES(%d,'%0100d'); COMMIT;\n", i*7919%n, i)
	}
	return sqlite(ctx, e, script.String(), n)
}

// bulkInsert inserts 200,000 rows in one transaction.
func bulkInsert(ctx context.Context, e *Env) (Result, error) {
	n := e.count(200000)
	return sqlite(ctx, e, fmt.Sprintf("INSERT INTO t(a,b) WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x<%d) "+
		"SELECT x*7919%%%d, printf('%%0100d',x) FROM c;\n", n, n), n)
}

// sqlite times a script on a new database and then counts the rows, untimed.
func sqlite(ctx context.Context, e *Env, script string, rows int) (Result, error) {
	db := e.path("db")
	for _, suffix := range []string{"", "-journal"} {
		if err := os.Remove(db + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return Result{}, err
		}
	}
	if _, err := query(ctx, db, schema); err != nil {
		return Result{}, err
	}
	elapsed, err := timed(func() error {
		_, err := query(ctx, db, script)
		return err
	}, nil)
	if err != nil {
		return Result{}, err
	}
	got, err := query(ctx, db, "SELECT count(*) FROM t; PRAGMA quick_check;")
	if want := fmt.Sprintf("%d\nok\n", rows); err == nil && got != want {
		err = fmt.Errorf("database holds %q instead of %q", got, want)
	}
	return rate(float64(rows), elapsed), err
}

func query(ctx context.Context, db, script string) (string, error) {
	cmd := exec.CommandContext(ctx, "sqlite3", "-batch", "-bail", db)
	cmd.Stdin = strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("sqlite3: %w: %.300s", err, out)
	}
	return string(out), nil
}
