package access

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/meta"
)

// The rights at the keys of two zones that carrying a file from one to the other needs besides what their policies say.
const (
	rightFrom = "kms:ReEncryptFrom"
	rightTo   = "kms:ReEncryptTo"
)

// carriage is a move from one zone into another being decided.
type carriage struct {
	g        *Guard
	by       Requester
	from, to Target
	here     *zone // of from
	there    *zone // of to
	start    time.Time

	who      Subject
	left     Decision // of here; of both once something is denied
	arrived  Decision // of there
	action   Action   // that was decided last
	byRights bool     // the denial is of a right to move the key: a copy needs none
}

// Carry decides whether the name from may become the name to, in another zone: by Rename and Delete there, Create here, and in zones with a policy the rights to take
// the file's key from one zone's key (kms:ReEncryptFrom) and put it under the other's (kms:ReEncryptTo). It is one event, which names both zones and keys.
//
// Errors: *Denied; meta.ErrCrossZone where only the right to move the key is missing; what reading names and recording gives.
func (g *Guard) Carry(ctx context.Context, by Requester, from, to Target) error {
	zones := g.table.Load().zones
	c := &carriage{g: g, by: by, from: from, to: to, here: zones[from.Zone], there: zones[to.Zone], start: g.cfg.Now()}
	if c.here == nil || c.there == nil {
		return fmt.Errorf("zones %d and %d: %w", from.Zone, to.Zone, meta.ErrNotFound)
	}
	if !c.here.guarded() && !c.there.guarded() && !g.recording() {
		return nil
	}
	denied, err := c.decide(ctx)
	if err == nil {
		err = c.record(ctx, denied)
	}
	switch {
	case err != nil || denied == nil:
		return err
	case c.byRights && denied.Cause != CauseKeyAway:
		return fmt.Errorf("%w: %s", meta.ErrCrossZone, denied) // not a denial to callers: a copy may be allowed
	}
	return denied
}

func (c *carriage) decide(ctx context.Context) (denied *Denied, err error) {
	c.who = c.g.subject(ctx, c.here, c.by)
	for _, c.action = range []Action{Rename, Delete} {
		if c.left, err = c.g.decide(ctx, c.here, c.who, c.action, c.from); err != nil || c.left.Denied != nil {
			return c.left.Denied, err
		}
	}
	if denied := c.right(ctx, c.here, rightFrom, &c.left); denied != nil {
		return denied, nil
	}
	c.who = c.g.subject(ctx, c.there, c.by)
	c.action = Create
	if c.arrived, err = c.g.decide(ctx, c.there, c.who, c.action, c.to); err != nil || c.arrived.Denied != nil {
		return c.arrived.Denied, err
	}
	return c.right(ctx, c.there, rightTo, &c.arrived), nil
}

// right asks for the right to move the key. Where there is no policy, permissions decide.
func (c *carriage) right(ctx context.Context, z *zone, right string, d *Decision) *Denied {
	if z.policy == nil {
		return nil
	}
	ans, cached := c.g.askKeys(ctx, z, c.g.caller(c.who, d.Path), right)
	d.Cached = d.Cached && cached
	d.Rights = append(d.Rights, Right{right, ans.key, ans.denied == nil, ans.reason})
	d.Denied, c.byRights = ans.denied, true
	return ans.denied
}

// record takes the decision down: one event for both zones, at the level of the one that wants more.
func (c *carriage) record(ctx context.Context, denied *Denied) error {
	g := c.g
	old, err := g.recordPath(ctx, Rename, c.from)
	if err != nil {
		return err
	}
	if denied != nil {
		d := c.left
		if d.Denied == nil {
			d = c.arrived
		}
		d.Path = old
		g.denials.note(c.who, c.action, &d, c.start)
	}
	if g.cfg.Recorder == nil {
		return nil
	}
	e := audit.Event{Class: audit.Access, Source: audit.Files, Name: audit.Rename, Decision: audit.Allow, Latency: g.cfg.Now().Sub(c.start),
		Cached: c.left.Cached && c.arrived.Cached, Statement: c.left.reason() + "; there: " + c.arrived.reason()}
	e.Identity = audit.Identity{Principal: c.who.Principal.ARN, UID: int(c.by.UID), GID: int(c.by.GID), PID: int(c.by.PID), Program: c.who.Program.Claim,
		ProgramSHA256: hex.EncodeToString(c.who.Program.Digest)}
	e.Object = audit.Object{Volume: g.cfg.Meta.Volume().String(), Zone: uint64(c.here.id), Inode: uint64(c.from.Ino), Path: old, Key: c.here.key(), DestinationKey: c.there.key()}
	e.Parameters = map[string]any{destinationZone: uint64(c.there.id)}
	if denied != nil {
		e.Class, e.Decision, e.ErrorCode, e.ErrorMessage, e.Statement = audit.Denial, audit.Deny, "AccessDenied", denied.Error(), denied.Reason
	}
	if !g.level(c.here).Wants(&e) && !g.level(c.there).Wants(&e) {
		return nil
	}
	if e.NewPath, err = g.recordPath(ctx, Create, c.to); err != nil {
		return err
	}
	if err := g.cfg.Recorder.Record(ctx, &e); err != nil {
		return fmt.Errorf("record %s: %w", e.Name, err)
	}
	return nil
}

// key is the name of the zone's first key.
func (z *zone) key() string {
	if len(z.keys) == 0 {
		return ""
	}
	return z.keys[0]
}
