package access

import (
	"context"
	"fmt"

	"github.com/kmsfs/kmsfs/fs/dirpolicy"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta"
)

// Administer decides whether the caller may administer a zone: a statement of its policy says so, or the key manager does, of the zone's key. An explicit deny of
// either is the end of it. A zone that is locked or whose key is disabled can be administered. It is recorded. Errors: *Denied, meta.ErrNotFound.
func (g *Guard) Administer(ctx context.Context, by Requester, id meta.ZoneID) error {
	z := g.table.Load().zones[id]
	if z == nil {
		return fmt.Errorf("zone %d: %w", id, meta.ErrNotFound)
	}
	start := g.cfg.Now()
	who := g.subject(ctx, z, by)
	at := Target{Zone: id, Ino: z.dir}
	d, err := g.decideAdmin(ctx, z, z.policy, who)
	if err == nil {
		err = g.record(ctx, z, who, Admin, at, &d, start)
	}
	if err != nil {
		return err
	}
	if d.Denied != nil {
		g.denials.note(who, Admin, &d, start)
		return d.Denied
	}
	return nil
}

// WouldAdminister is Administer under another policy for the zone (nil: none), without a record: whether it would lock the caller out.
func (g *Guard) WouldAdminister(ctx context.Context, by Requester, id meta.ZoneID, next *dirpolicy.Policy) error {
	z := g.table.Load().zones[id]
	if z == nil {
		return fmt.Errorf("zone %d: %w", id, meta.ErrNotFound)
	}
	d, err := g.decideAdmin(ctx, z, next, g.subject(ctx, z, by))
	if err != nil {
		return err
	}
	if d.Denied != nil {
		return d.Denied
	}
	return nil
}

func (g *Guard) decideAdmin(ctx context.Context, z *zone, p *dirpolicy.Policy, who Subject) (Decision, error) {
	d := Decision{Zone: z.id}
	if p != nil && p.Statements != nil {
		r := policy.Request{Principal: who.Principal, Action: "kmsfs:" + Admin.String(), Time: g.cfg.Now()}
		programTo(&r.Context, who.Program)
		r.Context.Text("kmsfs:Path", "/")
		d.Policy, d.Statement = true, p.Statements.Evaluate(r)
		switch d.Statement.Effect {
		case policy.ExplicitDeny:
			d.Denied = denied(CauseExplicitDeny, statement(d.Statement))
			return d, nil
		case policy.Allow:
			return d, nil
		}
	}
	encryptionContext, err := g.context(ctx, z)
	if err != nil {
		return d, err
	}
	by := g.caller(who, "")
	for _, key := range z.keys {
		a, err := g.cfg.Keys.Authorize(ctx, by, keymgr.AuthorizeInput{Action: keymgr.ActionAdmin, KeyID: key, Context: encryptionContext})
		if err != nil {
			d.Denied = keyFault(err)
			continue
		}
		d.Rights = append(d.Rights, Right{keymgr.ActionAdmin, a.KeyID, a.Allowed, a.Reason})
		if a.Allowed {
			d.Denied = nil
			return d, nil
		}
		d.Denied = keyFault(a.Err())
	}
	return d, nil
}
