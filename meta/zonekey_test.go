package meta_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta"
)

// rotate gives a zone another key, as a daemon does, and has the keyring hand out both. key is the present one.
func (v *tree) rotate(id meta.ZoneID, key *blockcrypt.Key) *blockcrypt.Key {
	t := v.t
	t.Helper()
	z, err := v.Zone(bg, id)
	want(t, "zone", err, nil)
	keys, err := v.Keyring.Zone(bg, id)
	want(t, "keys", err, nil)
	next, err := blockcrypt.NewKey()
	want(t, "key", err, nil)
	row, err := z.Next(v.ID, keys, next, 5)
	want(t, "next", err, nil)
	row.Wraps = []meta.ZoneWrap{{KeyID: "test", Blob: []byte("next")}}
	want(t, "rotate", v.RotateZone(bg, z, row), nil)
	want(t, "rotate what has changed", v.RotateZone(bg, z, row), meta.ErrStale)
	now, err := v.Zone(bg, id)
	want(t, "zone", err, nil)
	both, err := now.Keys(v.ID, next)
	want(t, "keys", err, nil)
	if both.Former, err = now.FormerSealer(v.ID, key); err != nil {
		t.Fatal(err)
	}
	_, err = now.FormerSealer(v.ID, next)
	want(t, "another key as the former one", err, meta.ErrAuth)
	v.Keyring.Add(id, both)
	return next
}

// TestRewrapKeys: files are readable at every step between two zone keys, whatever happens to them meanwhile, and afterwards nothing needs the former one.
func TestRewrapKeys(t *testing.T) {
	v := newTree(t)
	d := v.dir(meta.RootIno, "d")
	for i := range 600 {
		v.file(d.Ino, fmt.Sprint("f", i))
	}
	next := v.rotate(meta.RootZone, v.ZoneKey)
	z, err := v.Zone(bg, meta.RootZone)
	want(t, "zone", err, nil)
	keys, err := v.Keyring.Zone(bg, meta.RootZone)
	want(t, "keys", err, nil)
	_, err = z.Next(v.ID, keys, next, 6)
	want(t, "a third key", err, meta.ErrInvalid)

	young := v.file(d.Ino, "young")
	if young.Wraps[0].KeyVersion != 2 {
		t.Fatalf("%+v", young.Wraps)
	}
	old, err := v.Lookup(bg, d.Ino, []byte("f599"))
	want(t, "lookup", err, nil)
	openKey(t, v.ID, v.Store, old)
	want(t, "quiesce", v.Quiesce(bg), nil)
	done, after := 0, meta.Ino(0)
	for more := true; more; {
		step, err := v.RewrapKeys(bg, meta.RootZone, after)
		want(t, "step", err, nil)
		done, after, more = done+step.Done, step.Next, step.More
		if len(step.Bad) > 0 || step.Cause != nil {
			t.Fatalf("%+v", step)
		}
		if done == 0 { // between the steps: a move is wrapped anew
			_, err := v.Rename(bg, d.Ino, []byte("f500"), d.Ino, []byte("moved"), 0, nil)
			want(t, "rename", err, nil)
		}
		v.clean()
	}
	if done != 600 {
		t.Errorf("%d files wrapped anew", done)
	}
	want(t, "drop", v.DropFormer(bg, meta.RootZone), nil)
	z, err = v.Zone(bg, meta.RootZone)
	want(t, "zone", err, nil)
	alone, err := z.Keys(v.ID, next)
	want(t, "keys", err, nil)
	v.Keyring.Add(meta.RootZone, alone)
	openKey(t, v.ID, v.Store, old) // as it was read before
	for i := range 500 {
		a, err := v.Lookup(bg, d.Ino, fmt.Appendf(nil, "f%d", i))
		want(t, "lookup", err, nil)
		openKey(t, v.ID, v.Store, a)
	}
	v.clean()
	_, err = z.Keys(v.ID, v.ZoneKey)
	want(t, "the first key", err, meta.ErrAuth)
}

// TestCheckFindsZoneKeys: a wrap under a zone key that there is none of is a fault.
func TestCheckFindsZoneKeys(t *testing.T) {
	v := newTree(t)
	v.file(meta.RootIno, "f")
	v.rotate(meta.RootZone, v.ZoneKey)
	v.clean()
	want(t, "drop", v.DropFormer(bg, meta.RootZone), nil) // too early
	var faults []meta.Fault
	_, err := v.Check(bg, meta.CheckOptions{}, func(f meta.Fault) { faults = append(faults, f) })
	if err != nil || len(faults) != 1 || faults[0].Class != meta.FaultZone {
		t.Errorf("%+v %v", faults, err)
	}
}

// TestQuiesce: it waits for what is under way, and not for what begins.
func TestQuiesce(t *testing.T) {
	v := newTree(t)
	inside, leave, over := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		first := true
		_, err := v.Update(bg, func(*meta.Tx) error {
			if first {
				first = false
				close(inside)
				<-leave
			}
			return nil
		})
		over <- err
	}()
	<-inside
	short, cancel := context.WithTimeout(bg, 20*time.Millisecond)
	defer cancel()
	if err := v.Quiesce(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a transaction is under way: %v", err)
	}
	v.file(meta.RootIno, "f") // others go on
	quiet := make(chan error, 1)
	go func() { quiet <- v.Quiesce(bg) }()
	v.file(meta.RootIno, "g")
	select {
	case err := <-quiet:
		t.Fatalf("a transaction is under way: %v", err)
	default:
	}
	close(leave)
	want(t, "update", <-over, nil)
	want(t, "quiesce", <-quiet, nil)
	want(t, "quiesce", v.Quiesce(bg), nil)
}

// TestRewrapSpeed prints how fast keys are wrapped anew, beside a bare scan of the same rows in the same run.
func TestRewrapSpeed(t *testing.T) {
	if os.Getenv("KMSFS_LONG") == "" {
		t.Skip("long form only: KMSFS_LONG=1")
	}
	v := newLocalTree(t)
	const files = 100_000
	d := v.dir(meta.RootIno, "d")
	for i := range files {
		v.file(d.Ino, fmt.Sprint("f", i))
	}
	v.rotate(meta.RootZone, v.ZoneKey)
	start, cpu := time.Now(), processor()
	n, err := v.CountFiles(bg, 0)
	scan, scanCPU := time.Since(start), processor()-cpu
	if n != files || err != nil {
		t.Fatalf("%d files, %v", n, err)
	}
	start, cpu = time.Now(), processor()
	done := 0
	for after, more := meta.Ino(0), true; more; {
		step, err := v.RewrapKeys(bg, 0, after)
		want(t, "step", err, nil)
		done, after, more = done+step.Done, step.Next, step.More
	}
	took, tookCPU := time.Since(start), processor()-cpu
	if done != files {
		t.Errorf("%d files", done)
	}
	t.Logf("%d files: bare scan %v, wrapped anew in %v: %.0f files/s, %.1f of the scan", files, scan, took, files/took.Seconds(), took.Seconds()/scan.Seconds())
	t.Logf("of the processor, all of the process: bare scan %v, wrapped anew %v: %.0f files for each second", scanCPU, tookCPU, files/tookCPU.Seconds())
}

// processor is the time that all of the process has had processors: what it takes on a machine where others work too.
func processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
