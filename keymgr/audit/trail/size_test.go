package trail

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/keymgr/audit"
)

// TestTenMillion writes 10 million events (KMSFS_AUDIT_EVENTS: another number), verifies them and searches them by a path. It prints what it took and fails only far beyond what is
// promised of a quiet machine (a minute, a second). Long form only.
func TestTenMillion(t *testing.T) {
	if os.Getenv("KMSFS_LONG") != "1" {
		t.Skip("10 million events: only with KMSFS_LONG=1")
	}
	total := 10_000_000
	if s := os.Getenv("KMSFS_AUDIT_EVENTS"); s != "" {
		total = must(strconv.Atoi(s))
	}
	dir, n := filepath.Join(t.TempDir(), "audit"), newNotary(t)
	o := options(dir)
	o.SealEvery = 0
	l := open(t, o, n)
	start := time.Now()
	fill(t, l, total)
	wrote := time.Since(start)
	start = time.Now()
	if err := l.packAll(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	packed := time.Since(start)
	start, cpu := time.Now(), processor()
	r := whole(t, dir, n.trust())
	verified, verifiedCPU := time.Since(start), processor()-cpu
	start, cpu = time.Now(), processor()
	found := 0
	path := fmt.Sprintf("/srv/project %d/sub %d", total/2/1000, total/2/100%10)
	err := Search(context.Background(), dir, Query{Path: path}, func(Found) error { found++; return nil })
	searched, searchedCPU := time.Since(start), processor()-cpu
	if err != nil || found != 100 {
		t.Errorf("%d events below %s, %v", found, path, err)
	}
	t.Logf("%d events: written in %v (%.0f a second), the rest compressed in %v, verified in %v (processor %v), path searched in %v (processor %v)",
		r.Records, wrote, float64(total)/wrote.Seconds(), packed, verified, verifiedCPU, searched, searchedCPU)
	if verified > 10*time.Minute || searched > 10*time.Second {
		t.Error("far too slow")
	}
}

// processor is how long this process has computed.
func processor() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// fill records events of 100 a directory from 64 goroutines.
func fill(t *testing.T, l *Log, total int) {
	const writers = 64
	var wg sync.WaitGroup
	for g := range writers {
		wg.Go(func() {
			for i := g; i < total; i += writers {
				e := event(i)
				e.Class, e.Decision, e.ErrorCode = audit.Access, audit.Allow, ""
				e.Path = fmt.Sprintf("/srv/project %d/sub %d/file %d", i/1000, i/100%10, i)
				if err := l.Record(context.Background(), e); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
