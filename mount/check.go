package mount

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/kmsfs/kmsfs/fs/content"
	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv"
	"github.com/kmsfs/kmsfs/mount/control"
)

// CheckConfig says what to check.
type CheckConfig struct {
	Target   string // volume directory or mount point
	KeyStore string
	Secret   SecretSource
	Repair   bool

	// Progress is called now and then with how many inodes have been looked at. nil: nobody asks.
	Progress func(Progress)
}

func (c *CheckConfig) progress(p Progress) {
	if c.Progress != nil {
		c.Progress(p)
	}
}

// checkEvent is what a daemon says while it checks.
type checkEvent struct {
	Fault    *Fault    `json:"fault,omitempty"`
	Progress *Progress `json:"progress,omitempty"`
}

// Check checks a volume: by its daemon if it is mounted, otherwise by opening it here. report is called for each fault, in no particular order; an
// error of it ends the check. ErrFaults if any fault was found that was not repaired.
func Check(ctx context.Context, cfg CheckConfig, report func(Fault) error) (CheckSummary, error) {
	sum, online, err := checkOnline(ctx, cfg, report)
	if !online {
		sum, err = checkOffline(ctx, cfg, report)
	}
	if err == nil && sum.Faults > sum.Repairs {
		err = fmt.Errorf("%w: %d", ErrFaults, sum.Faults-sum.Repairs)
	}
	return sum, err
}

// checkOnline asks the daemon that has the target, if there is one.
func checkOnline(ctx context.Context, cfg CheckConfig, report func(Fault) error) (sum CheckSummary, online bool, err error) {
	r, err := openRuntime()
	if err != nil {
		return sum, true, err
	}
	rec, ok := r.serving(cfg.Target)
	if !ok {
		return sum, false, nil
	}
	err = control.Do(ctx, r.socket(rec.ID), opCheck, checkArgs{Repair: cfg.Repair}, func(event json.RawMessage) error {
		var e checkEvent
		if err := json.Unmarshal(event, &e); err != nil {
			return fmt.Errorf("%w: %v", control.ErrProtocol, err)
		}
		if e.Progress != nil {
			cfg.progress(*e.Progress)
		}
		if e.Fault == nil {
			return nil
		}
		return report(*e.Fault)
	}, &sum)
	if errors.Is(err, control.ErrNobody) && sum == (CheckSummary{}) {
		if _, merr := mountedAt(cfg.Target); merr != nil { // the daemon has gone and the volume is free
			return sum, false, nil
		}
	}
	return sum, true, err
}

// serving returns the record of the daemon that has a volume directory or serves a mount point.
func (r runDir) serving(target string) (record, bool) {
	if m, err := mountedAt(target); err == nil {
		return r.find(m)
	}
	real, err := resolve(target)
	all, rerr := r.records()
	if err != nil || rerr != nil {
		return record{}, false
	}
	for _, rec := range all {
		if rec.Volume == real && aliveAt(rec.PID) {
			return rec, true
		}
	}
	return record{}, false
}

// checker carries one check through its parts.
type checker struct {
	v      *Volume
	repair bool
	report func(Fault) error
	tell   func(Progress)
	told   throttle
	aside  *quarantiner // nil: nothing is quarantined
	part   bool         // not all could be checked
	mute   bool         // the audit log takes no events
	seen   uint64       // inodes whose contents were read
	sum    CheckSummary
	err    error // of report: the check ends
}

func (c *checker) fault(f Fault) {
	c.sum.Faults++
	if f.Fixed {
		c.sum.Repairs++
	} else if c.sum.Faults <= checkEvents && !c.mute {
		c.record(f)
	}
	if c.aside != nil && !f.Fixed && f.Where != "anchor" && f.What != notAll && !f.keyless {
		if f.Kept = c.aside.take(context.Background(), f); f.Kept {
			c.sum.Kept++
		}
	}
	if c.err == nil {
		c.err = c.report(f)
	}
}

// notAll is said where a step of the check ended early.
const notAll = "not all could be checked"

// checkEvents bounds how many faults of one check are recorded one by one.
const checkEvents = 1000

// record takes a fault down in the audit log.
func (c *checker) record(f Fault) {
	e := audit.Event{ErrorCode: "Fault", ErrorMessage: f.Where + ": " + f.What, Object: audit.Object{Inode: f.Inode}}
	if len(f.Paths) > 0 {
		e.Path = f.Paths[0]
	}
	c.mute = !c.v.violation(context.Background(), "check", e) // a log that does not take one in time is not asked for each
}

// checkMode says what a check does with what it finds.
type checkMode struct {
	repair bool // puts right what can be
	aside  bool // quarantines the rest, and forgets what was quarantined and is not found any more
}

// check checks rows, blocks and objects of an open volume, which may be in use.
func (v *Volume) check(ctx context.Context, mode checkMode, report func(Fault) error, tell func(Progress)) (CheckSummary, error) {
	c := &checker{v: v, repair: mode.repair, report: report, tell: tell, sum: CheckSummary{Volume: v.ID.String()}}
	if mode.aside {
		var err error
		if c.aside, err = newQuarantiner(ctx, v); err != nil {
			return c.sum, fmt.Errorf("check volume %s: %w", v.ID, err)
		}
	}
	steps := []func(context.Context) error{c.anchor, c.freshness, c.rows, c.export, c.contents, c.objects}
	for _, step := range steps {
		err := step(ctx)
		if errors.Is(err, kv.ErrTampered) { // reported by the first step; what can be read is checked
			c.part = true
			c.fault(Fault{Where: "rows", What: notAll})
			err = nil
		}
		if err := errors.Join(err, c.err); err != nil {
			return c.sum, fmt.Errorf("check volume %s: %w", v.ID, err)
		}
	}
	if c.aside != nil && !c.part {
		if err := c.aside.end(ctx); err != nil {
			return c.sum, fmt.Errorf("check volume %s: %w", v.ID, err)
		}
	}
	return c.sum, nil
}

// freshness holds every row to the last checkpoint.
func (c *checker) freshness(ctx context.Context) error {
	return c.v.kv.VerifyAll(ctx, func(err error) { c.fault(Fault{Where: "rows", What: err.Error()}) })
}

func (c *checker) rows(ctx context.Context) error {
	rep, err := c.v.meta.Check(ctx, meta.CheckOptions{Keys: true}, func(f meta.Fault) {
		where := fmt.Sprintf("row %x", f.Row)
		if f.Ino != 0 {
			where = fmt.Sprintf("inode %d, %s", f.Ino, where)
		}
		what := string(f.Class)
		if f.Detail != "" {
			what += ": " + f.Detail
		}
		c.fault(Fault{Where: where, What: what, Inode: uint64(f.Ino), row: bytes.Clone(f.Row)})
	})
	c.sum.Inodes = rep.Inodes
	return err
}

// contents reads every block of every file.
func (c *checker) contents(ctx context.Context) error {
	for after := meta.Ino(0); ; {
		batch, err := c.v.meta.InodesAfter(ctx, after, 1000)
		if err != nil || len(batch) == 0 {
			return err
		}
		for _, ino := range batch {
			if c.seen++; c.told.due() {
				c.tell(Progress{Step: "inodes checked", Done: c.seen, Total: max(c.seen, c.sum.Inodes)})
			}
			if err := c.file(ctx, ino); err != nil {
				return err
			}
		}
		after = batch[len(batch)-1]
	}
}

func (c *checker) file(ctx context.Context, ino meta.Ino) error {
	a, err := c.v.meta.Getattr(ctx, ino)
	switch {
	case errors.Is(err, meta.ErrNotFound), errors.Is(err, meta.ErrAuth), errors.Is(err, meta.ErrCorrupt): // removed meanwhile, or reported with the rows
		return nil
	case err != nil:
		return err
	case !a.IsRegular() || a.Size == 0:
		return nil
	}
	c.sum.Files++
	if err := c.v.content.CheckFile(ctx, ino, c.content); err != nil && !errors.Is(err, meta.ErrNotFound) {
		return err
	}
	return c.err
}

// objects looks for what belongs to no file. With repair the sweep that a crash has made due is done with that.
func (c *checker) objects(ctx context.Context) error {
	err := c.v.content.CheckObjects(ctx, c.repair, func(f content.Fault) { c.contentFault(f, c.repair && f.Kind.Leftover()) })
	if err == nil && c.repair {
		c.v.kv.Unswept(false)
	}
	return err
}

// anchor compares the journal with what the key store knows of it. That an anchor is not later than a volume that was opened with it is not a matter
// of course: somebody may have put back the key store.
func (c *checker) anchor(ctx context.Context) error {
	anchored := c.v.anchor.anchored() // it may be advanced meanwhile
	known, err := c.v.keys.Anchor(ctx, c.v.ID)
	if err != nil {
		c.fault(Fault{Where: "anchor", What: "cannot be compared: " + err.Error()})
		return nil
	}
	if head := c.v.kv.Head(); known.Sequence > head.Sequence || known.Sequence < anchored {
		c.fault(Fault{Where: "anchor", What: fmt.Sprintf("the key store knows record %d, the volume has anchored %d and ends at %d", known.Sequence, anchored, head.Sequence)})
	}
	return nil
}

// export reads the second copy of the rows. With repair one that is damaged or behind is written anew.
func (c *checker) export(ctx context.Context) error {
	wrong := c.v.kv.VerifyExport(ctx)
	if wrong == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	fixed := false
	if c.repair {
		fixed = c.v.kv.Checkpoint(ctx) == nil && c.v.kv.VerifyExport(ctx) == nil
	}
	c.fault(Fault{Where: "export", What: wrong.Error(), Fixed: fixed})
	return ctx.Err()
}

func (c *checker) content(f content.Fault) { c.contentFault(f, false) }

func (c *checker) contentFault(f content.Fault, fixed bool) {
	if c.aside != nil && f.Kind == content.FaultKey { // of what is there only the checksums were compared
		c.aside.unsure[uint64(f.Ino)] = true
	}
	where := ""
	switch {
	case f.Object != "" && f.Ino == 0:
		where = "object " + f.Object
	case f.Kind == content.FaultBlock || f.Kind == content.FaultSize:
		where = fmt.Sprintf("inode %d block %d", f.Ino, f.Block)
	default:
		where = fmt.Sprintf("inode %d", f.Ino)
	}
	if f.Object != "" && f.Ino != 0 {
		where += ", object " + f.Object
	}
	what := string(f.Kind)
	if f.Err != nil {
		what += ": " + f.Err.Error()
	}
	fault := Fault{Where: where, What: what, Fixed: fixed, keyless: f.Kind == content.FaultKey}
	if f.Ino != 0 && f.Kind != content.FaultOrphan {
		c.affected(&fault, f)
	}
	c.fault(fault)
}

// affectedPaths bounds how many names of a file are given.
const affectedPaths = 16

// affected adds which paths a fault is about, as far as their keys can be had, and which of their bytes.
func (c *checker) affected(fault *Fault, f content.Fault) {
	ctx := context.Background()
	fault.Inode = uint64(f.Ino)
	if paths, _, err := c.v.meta.Paths(ctx, f.Ino, affectedPaths); err == nil {
		fault.Paths = paths
	}
	a, err := c.v.meta.Getattr(ctx, f.Ino)
	if err != nil {
		return
	}
	switch {
	case f.Kind == content.FaultInline:
		fault.Length = a.Size
	case f.Kind == content.FaultBlock && a.BlockSize > 0 && f.Block < a.Size/uint64(a.BlockSize)+1:
		fault.Offset = f.Block * uint64(a.BlockSize)
		fault.Length = min(uint64(a.BlockSize), a.Size-min(a.Size, fault.Offset))
	}
}
