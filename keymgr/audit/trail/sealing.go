package trail

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/audit/seal"
)

// Sealer signs heads and keeps the newest of each stream where nobody else can change it. Both methods end with their context.
type Sealer interface {
	// AuditHead is the newest head of a stream; its Size is 0 if there is none.
	AuditHead(ctx context.Context, stream string) (seal.Anchor, error)
	// SealAudit checks that the claimed head contains the anchored one, signs it, anchors it durably and returns the seal. seal.ErrFork if it does not contain it. The same claim
	// again, after an answer that was lost, gives a seal again.
	SealAudit(ctx context.Context, c seal.Claim) ([]byte, error)
}

const (
	startName = "StartAuditLog"
	stopName  = "StopAuditLog"
)

const (
	sealLimit  = 5 * time.Second  // of one attempt to seal
	startLimit = 30 * time.Second // of the record of the beginning
)

// Attach gives the log its sealer, after a check that the stream contains the anchored head, and records the beginning: how many records a crash left without a seal, and how
// much was cut off. ErrDamaged if it does not contain it; then nothing is recorded or sealed.
func (l *Log) Attach(ctx context.Context, s Sealer) error {
	a, err := s.AuditHead(ctx, l.opts.Stream)
	if err != nil {
		return fmt.Errorf("sealed head of audit stream %s: %w", l.opts.Stream, err)
	}
	var unsealed, cut int64
	err = l.ask(ctx, func() error {
		if err := l.rebase(a); err != nil {
			return err
		}
		if err := l.writeFound(a.Clean); err != nil {
			return err
		}
		unsealed, cut = l.w.growth.Now().Size()-a.Size, l.w.cut
		l.w.cut, l.w.news, l.w.next = 0, int(unsealed), nil
		return nil
	})
	if err == nil && a.Clean && l.opts.Stream != KeyStream {
		err = l.reopen(ctx, s)
	}
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.mu.sealer, l.mu.sealed, l.mu.status.Unsealed = s, a.Size, unsealed
	l.mu.Unlock()
	l.nudge(l.packs)
	detail := "after a clean end"
	switch {
	case a.Clean && unsealed > 0:
		detail = fmt.Sprintf("after a clean end; %d records were written since by a key daemon that was not unlocked", unsealed)
	case a.Size == 0 && len(a.Accepted) > 0:
		detail = "after its sealed head was given up"
	case a.Size == 0:
		detail = "the first time"
	case !a.Clean:
		detail = fmt.Sprintf("not after a clean end: %d records had no seal, %d bytes behind them were cut off", unsealed, cut)
	}
	return l.start(ctx, detail, unsealed)
}

// start records the beginning. Nobody waits for an operation yet, and to fail would be to fail a mount because the machine is busy.
func (l *Log) start(ctx context.Context, detail string, unsealed int64) error {
	n, err := l.entry(l.internal(startName, detail, uint64(unsealed)))
	if err == nil {
		err = l.submit(ctx, n, max(startLimit, l.opts.Limit))
	}
	if err != nil {
		return fmt.Errorf("record %s: %w", startName, err)
	}
	return nil
}

// reopen has the anchor say that the stream goes on, before anything is written: should the process die before it seals, records behind a clean end would be a forgery.
func (l *Log) reopen(ctx context.Context, s Sealer) error {
	var claim seal.Claim
	err := l.ask(ctx, func() (err error) {
		if claim, err = l.w.growth.Claim(l.opts.Stream); err == nil {
			l.w.next = seal.NewGrowth(*l.w.growth.Now()) // the packer may have written already
		}
		return err
	})
	if err == nil {
		_, err = s.SealAudit(ctx, claim)
	}
	if err == nil {
		err = l.ask(ctx, func() error {
			l.w.growth, l.w.next = l.w.next, nil
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("begin audit stream %s: %w", l.opts.Stream, err)
	}
	return nil
}

func (l *Log) internal(name, detail string, count uint64) *audit.Event {
	e := &audit.Event{Class: audit.Repair, Source: audit.Keys, Name: name, Internal: true, Decision: audit.Allow, Detail: detail, Count: count}
	if l.opts.Stream != KeyStream {
		e.Source = audit.Files
	}
	return e
}

// sealing is the goroutine that seals, SealEvery after something was recorded. While nothing is nothing wakes it.
func (l *Log) sealing() {
	due := time.NewTimer(l.opts.SealEvery)
	defer due.Stop()
	for failing := false; ; {
		select {
		case <-l.news:
		case <-l.ends:
			return
		}
		due.Reset(l.opts.SealEvery)
		select {
		case <-due.C:
		case <-l.ends:
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), sealLimit)
		err := l.Seal(ctx)
		if err != nil {
			l.nudge(l.news)
		}
		if err != nil && !failing {
			l.opts.Log.Warn("the audit log cannot be sealed; tried again", "stream", l.opts.Stream, "error", err)
		} else if err == nil && failing {
			l.opts.Log.Info("the audit log is sealed again", "stream", l.opts.Stream)
		}
		failing = err != nil
		cancel()
	}
}

// Seal seals what is recorded so far, if there is anything new, and records the seal. Without a sealer it does nothing.
func (l *Log) Seal(ctx context.Context) error {
	note, err := l.sealHead(ctx, false)
	if err != nil || note == nil {
		return err
	}
	n, err := l.entry(l.internal(sealName, string(note), 0))
	if err != nil {
		return err
	}
	n.seal = true
	return l.submit(ctx, n, l.opts.Limit)
}

// sealHead has the present head sealed and anchored; nil if there is nothing new.
func (l *Log) sealHead(ctx context.Context, clean bool) ([]byte, error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	l.mu.Lock()
	sealer := l.mu.sealer
	l.mu.Unlock()
	if sealer == nil {
		return nil, nil
	}
	if l.pinned == nil {
		if err := l.pin(ctx, clean); err != nil || l.pinned == nil {
			return nil, err
		}
	}
	claim := *l.pinned
	note, err := sealer.SealAudit(ctx, claim)
	if err != nil {
		return nil, err
	}
	err = l.ask(ctx, func() error {
		l.w.growth, l.w.next, l.pinned = l.w.next, nil, nil
		return nil
	})
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.mu.sealed = claim.Size
	l.mu.Unlock()
	if clean && !claim.Clean { // that was one from before
		return nil, errNotClean
	}
	return note, nil
}

var errNotClean = errors.New("the stream did not end cleanly")

// pin flushes the log and chooses its present state as the head to be sealed. It stays the one until it is: an attempt whose answer was lost may have anchored it.
func (l *Log) pin(ctx context.Context, clean bool) error {
	return l.ask(ctx, func() error {
		if l.w.news == 0 && !clean || l.pinned != nil {
			return nil
		}
		if err := l.flushAlone(); err != nil {
			return err
		}
		claim, err := l.w.growth.Claim(l.opts.Stream)
		if err != nil {
			return err
		}
		claim.Clean = clean
		l.w.next, l.w.news = seal.NewGrowth(*l.w.growth.Now()), 0
		l.pinned = &claim
		return nil
	})
}

// endStream records the end, seals it, and anchors the stream with that seal in it.
func (l *Log) endStream(ctx context.Context) error {
	if err := l.Record(ctx, l.internal(stopName, "", 0)); err != nil {
		return err
	}
	for range 2 { // the first may be one that was offered before
		if err := l.Seal(ctx); err != nil {
			return err
		}
	}
	if err := l.shut(ctx); err != nil {
		return err
	}
	_, err := l.sealHead(ctx, true)
	return err
}

// shut refuses all records from now on, and has those written that came before: what is behind a clean end would be a forgery. The packer may have one of its own on the way.
func (l *Log) shut(ctx context.Context) error {
	l.mu.Lock()
	l.mu.closed = true
	l.mu.Unlock()
	return l.ask(ctx, func() error {
		l.writeBatch(l.take())
		return l.Err()
	})
}
