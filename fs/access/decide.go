package access

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/kmsfs/kmsfs/fs/identity"
	"github.com/kmsfs/kmsfs/hsm/awake"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta"
)

// Subject is who asks, as far as it was found out.
type Subject struct {
	Requester
	Principal policy.Principal
	Program   identity.Program
}

// Decision is what was decided, and why.
type Decision struct {
	Denied    *Denied // nil: allowed
	Zone      meta.ZoneID
	Statement policy.Decision // of the zone's policy; only with Policy
	Policy    bool            // the zone's policy has statements
	Learned   bool            // allowed because the zone is learning
	Rights    []Right         // at the zone's keys
	Path      string          // in the volume; "" if it was not looked for
	Cached    bool            // nobody was asked

	statement string // names the statement; "" if it was not needed
	several   bool   // Path is one of several names, perhaps not the one that was asked for
}

// Right is a decision of the key manager.
type Right struct {
	Action  string `json:"action"`
	Key     string `json:"key"`
	Allowed bool   `json:"allowed"`
	Reason  string `json:"reason"`
}

// Decide decides a request, and records it. An allowed one in a zone with strict revocation returns a Pass for the file that is opened by it; otherwise the pass is nil.
// Errors: *Denied; what reading names and recording gives. It waits for the key manager only where its answer is not known.
func (g *Guard) Decide(ctx context.Context, by Requester, action Action, at Target) (*Pass, error) {
	z := g.zone(at.Zone, action)
	if z == nil {
		return nil, nil
	}
	start := g.cfg.Now()
	generation := g.generation.Load()
	who, all := g.acquaintance(ctx, z, by)
	d, err := g.decide(ctx, z, who, action, at)
	if err == nil && d.Denied != nil && !all { // an unknown program allows nothing and denies all that it may: what is allowed so is allowed
		who = g.subject(ctx, z, by)
		d, err = g.decide(ctx, z, who, action, at)
	}
	if err == nil {
		err = g.record(ctx, z, who, action, at, &d, start)
	}
	if err != nil {
		return nil, err
	}
	if d.Denied != nil {
		g.denials.note(who, action, &d, start)
		return nil, d.Denied
	}
	if !z.strict() {
		return nil, nil
	}
	p := &Pass{g: g, who: who, action: action, at: at}
	p.generation = generation
	return p, nil
}

// zone returns the zone if there is anything to decide or to record of the action in it.
func (g *Guard) zone(id meta.ZoneID, action Action) *zone {
	if z := g.table.Load().zones[id]; z != nil && (z.guarded() || g.records(action)) {
		return z
	}
	return nil
}

// records says whether actions of a kind are recorded where there is no policy: changes of attributes, which are many and give nobody anything, at the full level only.
func (g *Guard) records(action Action) bool {
	return g.recording() && (action != SetAttr || g.cfg.Level == audit.LevelFull)
}

func (g *Guard) recording() bool { return g.cfg.Recorder != nil && g.cfg.Level != audit.LevelDenied }

// subject finds out about the caller what the zone's policy asks for.
func (g *Guard) subject(ctx context.Context, z *zone, by Requester) Subject {
	p := z.policy
	var w identity.Wants
	if p != nil {
		w = identity.Wants{Groups: p.Statements != nil, Program: p.Programs || p.Digests, Digest: p.Digests}
	}
	return g.find(ctx, by, w)
}

// acquaintance is subject without the program, where that is not needed before it may turn out to decide.
func (g *Guard) acquaintance(ctx context.Context, z *zone, by Requester) (who Subject, all bool) {
	p := z.policy
	if p == nil || !p.Programs && !p.Digests || z.strict() || !p.Learn.IsZero() {
		return g.subject(ctx, z, by), true
	}
	return g.find(ctx, by, identity.Wants{Groups: true}), false
}

func (g *Guard) find(ctx context.Context, by Requester, w identity.Wants) Subject {
	who := Subject{Requester: by}
	who.Principal, who.Program = g.cfg.Identity.Caller(ctx, by.PID, by.UID, by.GID, w)
	return who
}

// decide decides without recording.
func (g *Guard) decide(ctx context.Context, z *zone, who Subject, action Action, at Target) (Decision, error) {
	d := Decision{Zone: z.id, Cached: true}
	if d.Denied = z.closed(); d.Denied != nil || z.policy == nil {
		return d, nil
	}
	if err := g.byPolicy(ctx, z, who, action, at, &d); err != nil || d.Denied != nil {
		return d, err
	}
	g.byKeys(ctx, z, who, action, &d)
	return d, nil
}

// byPolicy lets the zone's statements decide.
func (g *Guard) byPolicy(ctx context.Context, z *zone, who Subject, action Action, at Target, d *Decision) error {
	if z.policy.Statements == nil {
		return nil
	}
	if decision, ok := z.settled.allows(z.policy.Statements, &who.Principal, action); ok {
		d.byStatement(z, decision)
		return nil
	}
	now := g.cfg.Now()
	r := policy.Request{Principal: who.Principal, Action: action.qualified(), Time: now}
	if z.policy.Paths {
		if err := g.pathsTo(ctx, z, at, &r.Context, d); err != nil {
			return err
		}
	}
	if z.policy.Programs || z.policy.Digests { // what no statement asks about needs not be said
		programTo(&r.Context, who.Program)
	}
	if z.policy.Volumes {
		r.Context.Text("kmsfs:Volume", g.volume)
	}
	d.byStatement(z, z.policy.Statements.Evaluate(r))
	switch d.Statement.Effect {
	case policy.ExplicitDeny:
		d.Denied = denied(CauseExplicitDeny, statement(d.Statement))
		if d.Statement.Unresolved {
			d.Denied.Cause = CauseUnknownCaller
		}
	case policy.ImplicitDeny:
		if d.Learned = z.policy.Learning(now); d.Learned {
			z.lessons.note(who, action, now)
			return nil
		}
		d.Denied = denied(CauseImplicitDeny, "no statement of the directory's policy allows it")
	}
	return nil
}

// byStatement notes what the zone's statements say.
func (d *Decision) byStatement(z *zone, by policy.Decision) {
	d.Policy, d.Statement = true, by
	if by.Statement >= 0 && by.Statement < len(z.reasons) {
		d.statement = z.reasons[by.Statement]
	}
}

// statement names a statement of a policy.
func statement(d policy.Decision) string {
	if d.Statement < 0 {
		return "no statement"
	}
	s := fmt.Sprintf("statement %d", d.Statement+1)
	if d.Sid != "" {
		s += fmt.Sprintf(" (%s)", d.Sid)
	}
	return s + fmt.Sprintf(" in line %d of the directory's policy", d.Line)
}

// programTo tells a policy about the program. What is not known allows nothing.
func programTo(c *policy.Context, p identity.Program) {
	if p.Path == "" {
		c.Unknown("kmsfs:Program")
	} else {
		c.Text("kmsfs:Program", p.Path)
	}
	if p.Digest == nil {
		c.Unknown("kmsfs:ProgramSha256")
	} else {
		c.Digest("kmsfs:ProgramSha256", p.Digest)
	}
}

// maxPaths bounds the names of a file that are looked at; a file with more has names that are not known.
const maxPaths = 16

// pathsTo tells a policy the paths of the target, from the zone's directory on.
func (g *Guard) pathsTo(ctx context.Context, z *zone, at Target, c *policy.Context, d *Decision) error {
	paths, complete, err := g.paths(ctx, at)
	if err != nil {
		return err
	}
	root, err := g.directory(ctx, z.dir)
	if err != nil {
		return err
	}
	if len(paths) > 0 {
		d.Path, d.several = paths[0], len(paths) > 1
	}
	within := make([]string, 0, len(paths))
	for _, p := range paths {
		within = append(within, below(root, p))
	}
	c.Text("kmsfs:Path", within...)
	if !complete {
		c.Unknown("kmsfs:Path")
	}
	return nil
}

// below is a path as seen from a directory above it, or the path itself.
func below(dir, path string) string {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(dir, "/"))
	switch {
	case !ok || rest != "" && rest[0] != '/':
		return path
	case rest == "":
		return "/"
	}
	return rest
}

// paths are the names of the target. An inode without a name has none, and that is not all.
func (g *Guard) paths(ctx context.Context, at Target) (paths []string, complete bool, err error) {
	if at.Name == nil {
		paths, complete, err = g.inodePaths(ctx, at.Ino)
	} else {
		var dir string
		dir, err = g.directory(ctx, at.Dir)
		paths, complete = []string{strings.TrimSuffix(dir, "/") + "/" + string(at.Name)}, true
	}
	if errors.Is(err, meta.ErrNotFound) {
		return nil, false, nil
	}
	return paths, complete, err
}

// byKeys asks for the rights at the zone's key.
func (g *Guard) byKeys(ctx context.Context, z *zone, who Subject, action Action, d *Decision) {
	by := g.caller(who, d.Path)
	for _, right := range action.keyRights() {
		ans, cached := g.askKeys(ctx, z, by, right)
		d.Cached = d.Cached && cached
		d.Rights = append(d.Rights, Right{right, ans.key, ans.denied == nil, ans.reason})
		if ans.denied != nil {
			d.Denied = ans.denied
			return
		}
	}
}

// caller is who asks, for the key manager.
func (g *Guard) caller(who Subject, path string) keymgr.Caller {
	return keymgr.Caller{UID: int(who.UID), GID: int(who.GID), PID: int(who.PID), Via: keymgr.ViaFileDaemon, Program: who.Program.Claim, Path: path}
}

// Pass is the decision that an open file stands on.
type Pass struct {
	g      *Guard
	who    Subject
	action Action
	at     Target

	mu         sync.Mutex
	generation uint64 // guarded by mu; when it was last decided
	denied     error  // guarded by mu; nil: allowed
}

// Check is nil while the file may be used. It decides again when anything has changed since it did last: for who opened it, as it was known then.
func (p *Pass) Check(ctx context.Context) error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	generation := p.g.generation.Load()
	if p.generation == generation {
		return p.denied
	}
	p.denied = nil
	if z := p.g.zone(p.at.Zone, p.action); z != nil {
		start := p.g.cfg.Now()
		d, err := p.g.decide(ctx, z, p.who, p.action, p.at)
		if err != nil {
			return err // undecided: the next one tries again
		}
		if d.Denied != nil {
			p.g.denials.note(p.who, p.action, &d, start)
			if err := p.g.record(ctx, z, p.who, p.action, p.at, &d, start); err != nil {
				return err
			}
			if d.Denied.Cause == CauseKeyAway {
				return d.Denied
			}
			p.denied = d.Denied
		}
	}
	p.generation = generation
	return p.denied
}

// record takes a decision down. What could not be recorded is not to be done.
func (g *Guard) record(ctx context.Context, z *zone, who Subject, action Action, at Target, d *Decision, start time.Time) error {
	if g.cfg.Recorder == nil {
		return nil
	}
	e, ok := g.events.Get().(*audit.Event)
	if !ok {
		e = new(audit.Event)
	}
	defer g.events.Put(e)
	*e = audit.Event{Class: audit.Access, Source: audit.Files, Name: eventNames[action], ReadOnly: action == List || action == Read || action == Lookup, Decision: audit.Allow,
		Latency: g.cfg.Now().Sub(start), Cached: d.Cached, Statement: d.reason()}
	e.Identity = audit.Identity{Principal: who.Principal.ARN, UID: int(who.UID), GID: int(who.GID), PID: int(who.PID), Program: who.Program.Claim,
		ProgramSHA256: hex.EncodeToString(who.Program.Digest)}
	e.Time = start
	e.Object = audit.Object{Volume: g.volume, Zone: uint64(z.id), Inode: uint64(at.Ino), Path: d.Path}
	if len(d.Rights) > 0 {
		e.Key = d.Rights[0].Key
	} else if len(z.keys) > 0 {
		e.Key = z.keys[0]
	}
	if d.Denied != nil {
		e.Class, e.Decision, e.ErrorCode, e.ErrorMessage = audit.Denial, audit.Deny, "AccessDenied", d.Denied.Error()
	} else if action == Admin {
		e.Class = audit.Admin
	}
	level := g.level(z)
	if !level.Wants(e) {
		return nil
	}
	if e.Path == "" {
		e.Path, _ = g.recordPath(ctx, action, at) // what cannot be read is recorded by its number
	}
	if at.Move != nil {
		g.recordMove(ctx, at, e)
	}
	if err := g.cfg.Recorder.Record(ctx, e); err != nil {
		g.denials.note(who, action, &Decision{Zone: z.id, Path: d.Path, several: d.several, Denied: &Denied{Cause: CauseAudit, Reason: err.Error()}}, start)
		return fmt.Errorf("record %s: %w", e.Name, err)
	}
	return nil
}

// closeWait bounds the record of a close, for which nobody waits.
const closeWait = 5 * time.Second

// Closed records that an open file is closed, and how many bytes were exchanged, at the full level.
func (g *Guard) Closed(by Requester, id meta.ZoneID, ino meta.Ino, read, written uint64) error {
	z := g.table.Load().zones[id]
	if z == nil || g.cfg.Recorder == nil || g.level(z) != audit.LevelFull {
		return nil
	}
	ctx, cancel := awake.WithTimeout(context.Background(), closeWait)
	defer cancel()
	e := audit.Event{Class: audit.Access, Durable: true, Source: audit.Files, Name: audit.Close, ReadOnly: written == 0, Decision: audit.Allow, BytesRead: read, BytesWritten: written}
	e.Identity = audit.Identity{Principal: g.cfg.Identity.Named(by.UID).ARN, UID: int(by.UID), GID: int(by.GID), PID: int(by.PID)}
	e.Object = audit.Object{Volume: g.volume, Zone: uint64(id), Inode: uint64(ino)}
	e.Path, _ = g.recordPath(ctx, Read, Target{Zone: id, Ino: ino})
	if err := g.cfg.Recorder.Record(ctx, &e); err != nil {
		return fmt.Errorf("record %s: %w", e.Name, err)
	}
	return nil
}

// level is what a zone wants recorded.
func (g *Guard) level(z *zone) audit.Level {
	if z.policy != nil {
		return z.policy.Audit
	}
	return g.cfg.Level
}

var eventNames = [...]string{List: audit.OpenDir, Read: audit.Open, Write: audit.Open, Create: audit.Create, Delete: audit.Remove, Rename: audit.Rename, SetAttr: audit.SetAttr,
	Admin: "AdministerZone", Lookup: audit.Lookup}

// reason is what decided, for people.
func (d *Decision) reason() string {
	switch {
	case d.Denied != nil && d.Policy && d.Denied.Cause != CauseExplicitDeny && d.Denied.Cause != CauseUnknownCaller:
		return d.Denied.Reason
	case d.Learned:
		return LearntStatement
	case d.Policy && d.statement != "":
		return d.statement
	case d.Policy:
		return statement(d.Statement)
	case d.Denied != nil:
		return d.Denied.Reason
	}
	return "permissions"
}
