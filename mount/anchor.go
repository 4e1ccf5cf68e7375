package mount

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/hsm/awake"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/client"
	"github.com/kmsfs/kmsfs/meta/kv/local"
)

// anchorTimeout bounds an attempt to advance the anchor: a checkpoint must not wait for a key manager that is away.
const anchorTimeout = 5 * time.Second

// anchorer keeps the key store's knowledge of a volume's newest durable state up to date, so that a volume that was put back to an older one is
// refused. Between two advances the older state is as good as the newer: that is the window of docs/THREATMODEL.md.
type anchorer struct {
	keys    *client.Client
	volume  blockcrypt.VolumeID
	log     *slog.Logger
	known   keymgr.Anchor
	restore string // why an older volume is accepted; "": it is not

	mu struct {
		sync.Mutex
		anchored uint64 // sequence number that the key store has
	}
}

// openAnchor asks the key store for the volume's anchor. With restore the volume may be older; the anchor is then put back to what it is found to be.
func openAnchor(ctx context.Context, keys *client.Client, volume blockcrypt.VolumeID, restore bool, log *slog.Logger) (*anchorer, error) {
	a := &anchorer{keys: keys, volume: volume, log: log}
	if restore {
		a.restore = "mounted with --accept-restore"
	}
	known, err := keys.Anchor(ctx, volume)
	if err != nil && !errors.Is(err, keymgr.ErrNotFound) {
		return nil, fmt.Errorf("anchor of volume %s: %w", volume, err)
	}
	a.known = known
	a.mu.anchored = known.Sequence
	return a, nil
}

// expected is what the journal must contain.
func (a *anchorer) expected() local.Head {
	if a.restore != "" {
		return local.Head{}
	}
	return local.Head{Generation: a.known.Generation, Sequence: a.known.Sequence, Tag: a.known.Head, Closed: a.known.Clean}
}

// opened anchors the state that was found, before anything is changed.
func (a *anchorer) opened(ctx context.Context, kv *local.Store) error {
	head := anchorOf(kv.Head(), false)
	if a.restore == "" {
		return a.advance(ctx, head)
	}
	if err := a.keys.RestoreAnchor(ctx, keymgr.Caller{}, a.volume, head, a.restore); err != nil {
		return fmt.Errorf("put back the anchor of volume %s: %w", a.volume, err)
	}
	a.log.Warn("anchor put back", "volume", a.volume, "from", a.known.Sequence, "to", head.Sequence)
	a.note(head.Sequence)
	return nil
}

// closed anchors the final state: from now on only this one is accepted.
func (a *anchorer) closed(ctx context.Context, kv *local.Store) error {
	return a.advance(ctx, anchorOf(kv.Head(), true))
}

func (a *anchorer) advance(ctx context.Context, to keymgr.Anchor) error {
	ctx, cancel := awake.WithTimeout(ctx, anchorTimeout)
	defer cancel()
	if err := a.keys.AdvanceAnchor(ctx, a.volume, to); err != nil {
		return fmt.Errorf("advance the anchor of volume %s: %w", a.volume, err)
	}
	a.note(to.Sequence)
	return nil
}

func (a *anchorer) note(sequence uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.anchored = sequence
}

// anchored returns the sequence number that the key store has.
func (a *anchorer) anchored() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mu.anchored
}

func anchorOf(h local.Head, clean bool) keymgr.Anchor {
	return keymgr.Anchor{Generation: h.Generation, Sequence: h.Sequence, Head: h.Tag, Clean: clean}
}

// anchoredJournal is the KV store whose checkpoints advance the anchor. One that cannot be advanced now is no failure of the checkpoint: the next
// one tries again, and the window is longer until then.
type anchoredJournal struct {
	*local.Store
	anchor *anchorer
}

func (j *anchoredJournal) Checkpoint(ctx context.Context) error {
	if err := j.Store.Checkpoint(ctx); err != nil {
		return err
	}
	if err := j.anchor.advance(ctx, anchorOf(j.Head(), false)); err != nil {
		j.anchor.log.Warn("anchor not advanced; the next checkpoint tries again", "error", err)
	}
	return nil
}
