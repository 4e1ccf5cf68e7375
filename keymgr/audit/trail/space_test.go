package trail

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/keymgr/audit"
)

func faulty(t *testing.T, dir string, change func(*Options)) (*Log, *faultDisk, *notary) {
	n := newNotary(t)
	o := options(dir)
	d := &faultDisk{osDisk: osDisk{dir: filepath.Join(dir, KeyStream)}}
	o.disk = d
	if change != nil {
		change(&o)
	}
	return open(t, o, n), d, n
}

func of(class audit.Class, i int) *audit.Event {
	e := event(i)
	if e.Class, e.Decision = class, audit.Allow; class == audit.Denial {
		e.Decision = audit.Deny
	}
	return e
}

// TestFull: on a full disk key use, access and denials are refused, administrative and repair events go on from the reserve; with space, everything goes on.
func TestFull(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l, d, n := faulty(t, dir, func(o *Options) { o.Reserve = 256 << 10 })
	d.set(func(d *faultDisk) { d.limit, d.space = true, 20<<10 })
	ctx := t.Context()
	i := 0
	for ; i < 1000; i++ {
		if err := l.Record(ctx, of(audit.KeyUse, i)); err != nil {
			if !errors.Is(err, audit.ErrFull) {
				t.Fatal(err)
			}
			break
		}
	}
	for _, c := range []audit.Class{audit.KeyUse, audit.Access, audit.Denial, audit.Integrity} {
		if err := l.Record(ctx, of(c, 2000+int(c))); !errors.Is(err, audit.ErrFull) {
			t.Errorf("%s while it is full: %v", c, err)
		}
	}
	for k := range 50 {
		for _, c := range []audit.Class{audit.Admin, audit.Repair} {
			if err := l.Record(ctx, of(c, 3000+k)); err != nil {
				t.Fatalf("%s %d while it is full: %v", c, k, err)
			}
		}
	}
	if err := l.Seal(ctx); err != nil {
		t.Errorf("seal while it is full: %v", err)
	}
	if s := l.Status(); !s.Full {
		t.Errorf("status %+v", s)
	}
	d.set(func(d *faultDisk) { d.space = 1 << 20 })
	deadline := time.Now().Add(30 * time.Second)
	for l.Record(ctx, of(audit.KeyUse, 5000)) != nil {
		if time.Now().After(deadline) {
			t.Fatal("it does not go on")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r := whole(t, dir, n.trust())
	if want := int64(i + 100); r.Records < want {
		t.Errorf("%d records, %d were acknowledged", r.Records, want)
	}
}

// TestAccessContinues: where that is wanted, successful access goes on without its record, nothing else does, and the log says how often.
func TestAccessContinues(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l, d, n := faulty(t, dir, func(o *Options) { o.AccessContinues = true })
	d.set(func(d *faultDisk) {
		d.fault = func(op string) error {
			if op == "write" {
				return unix.EIO
			}
			return nil
		}
	})
	for i := range 10 {
		if err := l.Record(t.Context(), of(audit.Access, i)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []audit.Class{audit.Denial, audit.KeyUse, audit.Admin} {
		if err := l.Record(t.Context(), of(c, 20)); !errors.Is(err, unix.EIO) {
			t.Errorf("%s: %v", c, err)
		}
	}
	if l.Err() == nil || l.Status().Missing != 10 {
		t.Errorf("status %+v, %v", l.Status(), l.Err())
	}
	d.set(func(d *faultDisk) { d.fault = nil })
	if err := l.Record(t.Context(), of(audit.Access, 11)); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if r := whole(t, dir, n.trust()); r.Missing != 10 {
		t.Errorf("the log says that %d are missing", r.Missing)
	}
}

// TestBlocked: a disk that hangs fails operations within the limit and never more; what was written when it goes on is in order.
func TestBlocked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l, d, n := faulty(t, dir, func(o *Options) { o.Limit = 300 * time.Millisecond })
	hold := make(chan struct{})
	d.set(func(d *faultDisk) { d.hold = hold })
	done := make(chan error, 20)
	for i := range 20 {
		go func() { done <- l.Record(context.Background(), of(audit.Class(1+i%3), i)) }()
	}
	for range 20 {
		select {
		case err := <-done:
			if !errors.Is(err, audit.ErrBlocked) {
				t.Errorf("on a disk that hangs: %v", err)
			}
		case <-time.After(time.Minute):
			t.Fatal("an operation hangs")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Record(ctx, of(audit.KeyUse, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	d.set(func(d *faultDisk) { d.hold = nil })
	close(hold)
	deadline := time.Now().Add(30 * time.Second)
	for l.Record(t.Context(), of(audit.KeyUse, 100)) != nil {
		if time.Now().After(deadline) {
			t.Fatal("it does not go on")
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	whole(t, dir, n.trust())
}

// TestSlowStart: a machine that is busy while the log begins delays that, and does not fail it.
func TestSlowStart(t *testing.T) {
	hold := make(chan struct{})
	o := options(filepath.Join(t.TempDir(), "audit"))
	d := &faultDisk{osDisk: osDisk{dir: filepath.Join(o.Dir, KeyStream)}}
	o.disk, o.Limit = d, time.Millisecond
	l := open(t, o, nil)
	d.set(func(d *faultDisk) { d.hold = hold })
	done := make(chan error, 1)
	go func() { done <- l.Attach(t.Context(), newNotary(t)) }()
	select {
	case err := <-done:
		close(hold)
		t.Fatalf("it did not wait for its first record: %v", err)
	case <-time.After(100 * o.Limit):
	}
	close(hold)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestFlushFails: an event that needs the disk is refused when the flush fails; the bytes are written again before the next flush counts.
func TestFlushFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l, d, n := faulty(t, dir, nil)
	var failures atomic.Int32
	d.set(func(d *faultDisk) {
		d.fault = func(op string) error {
			if op == "sync" && failures.Add(1) <= 3 {
				return unix.EIO
			}
			return nil
		}
	})
	refused := 0
	for i := range 20 {
		if err := l.Record(t.Context(), of(audit.KeyUse, i)); err != nil {
			if !errors.Is(err, unix.EIO) {
				t.Fatal(err)
			}
			refused++
		}
	}
	if refused == 0 || refused > 3 {
		t.Errorf("%d events were refused", refused)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	whole(t, dir, n.trust())
}

// TestGone: a log whose file is removed, or replaced, while it is written is put back, and loses nothing.
func TestGone(t *testing.T) {
	dir, n := filepath.Join(t.TempDir(), "audit"), newNotary(t)
	l := open(t, options(dir), n)
	record(t, l, 0, 50)
	path := segment{dir: filepath.Join(dir, KeyStream)}.plain()
	for round, harm := range []func() error{func() error { return os.Remove(path) },
		func() error { return errors.Join(os.Remove(path), os.WriteFile(path, []byte("x"), 0o600)) },
		func() error { return os.RemoveAll(filepath.Join(dir, KeyStream)) }} {
		if err := harm(); err != nil {
			t.Fatal(err)
		}
		record(t, l, 1000*(1+round), 1000*(1+round)+50)
		if err := l.Record(t.Context(), of(audit.KeyUse, 9000+round)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if r := whole(t, dir, n.trust()); r.Records < 203 {
		t.Errorf("%d records", r.Records)
	}
}
