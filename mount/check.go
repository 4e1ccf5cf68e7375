package mount

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/kmsfs/kmsfs/fs/content"
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
		var f Fault
		if err := json.Unmarshal(event, &f); err != nil {
			return fmt.Errorf("%w: %v", control.ErrProtocol, err)
		}
		return report(f)
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
	report func(Fault) error
	sum    CheckSummary
	err    error // of report: the check ends
}

func (c *checker) fault(f Fault) {
	c.sum.Faults++
	if f.Fixed {
		c.sum.Repairs++
	}
	if c.err == nil {
		c.err = c.report(f)
	}
}

// check checks rows, blocks and objects of an open volume, which may be in use.
func (v *Volume) check(ctx context.Context, repair bool, report func(Fault) error) (CheckSummary, error) {
	c := &checker{v: v, report: report, sum: CheckSummary{Volume: v.ID.String()}}
	steps := []func(context.Context) error{
		c.freshness,
		c.rows,
		c.contents,
		func(ctx context.Context) error { return c.objects(ctx, repair) },
	}
	for _, step := range steps {
		err := step(ctx)
		if errors.Is(err, kv.ErrTampered) { // reported by the first step; what can be read is checked
			c.fault(Fault{Where: "rows", What: "not all could be checked"})
			err = nil
		}
		if err := errors.Join(err, c.err); err != nil {
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
		c.fault(Fault{Where: where, What: what})
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

func (c *checker) objects(ctx context.Context, repair bool) error {
	return c.v.content.CheckObjects(ctx, repair, func(f content.Fault) { c.contentFault(f, repair && f.Kind.Leftover()) })
}

func (c *checker) content(f content.Fault) { c.contentFault(f, false) }

func (c *checker) contentFault(f content.Fault, fixed bool) {
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
	c.fault(Fault{Where: where, What: what, Fixed: fixed})
}
