package content

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/meta"
)

// heldJournal is a store whose checkpoints wait, as if there were a lot to bring in.
type heldJournal struct {
	store
	begun chan struct{} // receives when one waits
	goOn  chan struct{} // they end when it is closed
}

func (h *heldJournal) Checkpoint(ctx context.Context) error {
	select {
	case h.begun <- struct{}{}:
	default:
	}
	select {
	case <-h.goOn:
		return h.store.Checkpoint(ctx)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestRunSyncsDuringCheckpoint: what is written while a checkpoint runs becomes durable in the background all the same, and Run ends in the middle of one.
func TestRunSyncsDuringCheckpoint(t *testing.T) {
	r := newRig(t, rigOptions{disk: true, untidy: true})
	h := &heldJournal{store: r.kv, begun: make(chan struct{}, 1), goOn: make(chan struct{})}
	r.eng.cfg.KV, r.eng.cfg.SyncEvery, r.eng.cfg.CheckpointEvery = h, time.Millisecond, time.Millisecond
	running, stop := context.WithCancel(ctx)
	done := make(chan error)
	go func() { done <- r.eng.Run(running) }()
	<-h.begun
	f := r.file()
	for i := range 3 {
		mustWrite(t, f, pattern(100000, uint64(i)), 0)
		for deadline := time.Now().Add(time.Minute); r.eng.dirty() != nil; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatal("nothing is synced while a checkpoint runs")
			}
		}
	}
	must(t, f.Close())
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("Run: %v", err)
	}
	close(h.goOn)
}

// TestRunWakesUp: Run, which sleeps when there is nothing to do, finds what is written then and what is in memory of keys whose time is over, again and again.
func TestRunWakesUp(t *testing.T) {
	r := newRig(t, rigOptions{disk: true})
	r.eng.cfg.SyncEvery, r.eng.cfg.CheckpointEvery = time.Millisecond, time.Millisecond
	running, stop := context.WithCancel(ctx)
	done := make(chan error)
	go func() { done <- r.eng.Run(running) }()
	eventually := func(what string, is func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !is(); runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
		}
	}
	f := r.file()
	for i := range 50 {
		mustWrite(t, f, pattern(100000, uint64(i)), 0)
		eventually("what was written is not durable", func() bool { return r.eng.durable.reached(r.eng.meta.LastRev()) && r.eng.dirty() == nil })
		r.eng.ForgetKeys(func(meta.Ino) bool { return true }) // without keys it sleeps
		if i%2 == 0 {
			must(t, f.Close())
			f = r.openFile(f.ino)
		}
	}
	must(t, f.Close())
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("Run: %v", err)
	}
}
