package content

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// Run does the upkeep until ctx is done, and returns its error: first a checkpoint, so that what a crash left behind is dealt with; then a sync at
// least every SyncEvery while anything is dirty, also while a checkpoint runs, a checkpoint when the journal asks for one or every CheckpointEvery,
// and garbage after each. What fails is logged and tried again. When there is nothing to do it sleeps until something is committed or a file key is used.
func (e *Engine) Run(ctx context.Context) error {
	if e.cfg.ReadOnly {
		<-ctx.Done()
		return ctx.Err()
	}
	tick := time.NewTimer(e.cfg.SyncEvery)
	defer tick.Stop()
	var changed, held <-chan struct{} // nil while tick runs
	wake := func() { changed, held = nil, nil; tick.Reset(e.cfg.SyncEvery) }
	u := upkeep{e: e, ended: make(chan error, 1), failed: map[string]bool{}}
	u.checkpoint(ctx)
	for {
		select {
		case <-ctx.Done():
			if u.running {
				<-u.ended
			}
			return ctx.Err()
		case <-e.cfg.KV.CheckpointDue():
			u.due = true
			u.checkpoint(ctx)
		case <-tick.C:
			if u.tick(ctx); u.idle() {
				changed, held = e.meta.Changed(), e.keyHeld
			} else {
				wake()
			}
		case <-changed:
			wake()
		case <-held:
			wake()
		case err := <-u.ended:
			u.checkpointed(ctx, err)
		}
	}
}

// upkeep is the state of Run.
type upkeep struct {
	e       *Engine
	last    time.Time       // of the last checkpoint's beginning
	rev     kv.Rev          // that it covers at least
	due     bool            // the journal has asked for one
	running bool            // one is made beside
	next    kv.Rev          // that it will cover
	ended   chan error      // how it ended
	failed  map[string]bool // by step: the last time it failed, and this was logged
}

func (u *upkeep) tick(ctx context.Context) {
	e := u.e
	e.dropInvalidKeys()
	u.report(ctx, "sync", e.SyncAll(ctx))
	if u.due || !e.tidy.Load() || e.meta.LastRev() > u.rev && time.Since(u.last) >= e.cfg.CheckpointEvery {
		u.checkpoint(ctx)
	}
}

// idle tells that no tick is needed before something changes: all is in a checkpoint, and no key is held whose time will be over.
func (u *upkeep) idle() bool {
	e := u.e
	return !u.running && !u.due && !u.failed["sync"] && e.tidy.Load() && e.meta.LastRev() <= u.rev && e.ciphers.len() == 0
}

// checkpoint begins a checkpoint, unless one runs.
func (u *upkeep) checkpoint(ctx context.Context) {
	if u.running || !u.e.checkpointing.TryLock() { // held, or somebody else's runs: syncing goes on, and the next tick looks again
		return
	}
	u.last, u.due, u.running, u.next = time.Now(), false, true, u.e.meta.LastRev()
	go func() {
		err := u.e.checkpointLocked(ctx)
		u.e.checkpointing.Unlock()
		u.ended <- err
	}()
}

// checkpointed takes note of how the checkpoint ended, and begins another if that was asked for meanwhile.
func (u *upkeep) checkpointed(ctx context.Context, err error) {
	u.running = false
	if err == nil {
		u.rev = u.next
	}
	u.report(ctx, "checkpoint", err)
	if u.due && err == nil {
		u.checkpoint(ctx)
	}
}

// report logs the first failure of a row of them.
func (u *upkeep) report(ctx context.Context, what string, err error) {
	switch {
	case err == nil:
		u.failed[what] = false
	case ctx.Err() != nil:
	case !u.failed[what]:
		u.failed[what] = true
		u.e.log.Error("upkeep of contents", "step", what, "cause", err)
	}
}

// Hold keeps this engine from making checkpoints and from destroying anything until release is called: what the last checkpoint refers to stays. It
// waits for a checkpoint that runs.
func (e *Engine) Hold() (release func()) {
	e.checkpointing.Lock()
	return e.checkpointing.Unlock
}

// Checkpoint makes a checkpoint and then carries out the destruction that it covers.
func (e *Engine) Checkpoint(ctx context.Context) error {
	if e.cfg.ReadOnly {
		return meta.ErrReadOnly
	}
	return e.checkpoint(ctx)
}

func (e *Engine) checkpoint(ctx context.Context) error {
	e.checkpointing.Lock()
	defer e.checkpointing.Unlock()
	return e.checkpointLocked(ctx)
}

// checkpointLocked is checkpoint for who holds checkpointing.
func (e *Engine) checkpointLocked(ctx context.Context) error {
	rev := e.meta.LastRev()
	e.moved.Store(0)
	covered := e.beginCheckpoint()
	garbage, unlisted := e.listGarbage(ctx)
	if unlisted != nil {
		garbage = nil // it stays where it is; the journal must not fill up for that
	}
	if err := e.cfg.KV.Checkpoint(ctx); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	e.endCheckpoint(covered)
	e.durable.reach(rev)
	e.tidy.Store(true)
	if unlisted != nil {
		return fmt.Errorf("checkpoint: %w", unlisted)
	}
	return e.collect(ctx, garbage)
}

// beginCheckpoint ages all residues; it comes before the garbage is listed, so that every slot it ages has its record in the list.
func (e *Engine) beginCheckpoint() map[*residue]uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	covered := make(map[*residue]uint64, len(e.residues))
	for _, r := range e.residues {
		covered[r] = r.beginCheckpoint()
	}
	return covered
}

func (e *Engine) endCheckpoint(covered map[*residue]uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for r, written := range covered {
		r.endCheckpoint(written)
		if e.residues[r.ino] == r && e.files[r.ino] == nil && r.empty() {
			delete(e.residues, r.ino)
		}
	}
}

// isGone tells that an inode does not exist any more.
func isGone(err error) bool { return errors.Is(err, meta.ErrNotFound) }
