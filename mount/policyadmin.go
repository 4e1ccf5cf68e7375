package mount

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"slices"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/fs/access"
	"github.com/kmsfs/kmsfs/fs/dirpolicy"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/mount/control"
)

// policyAdmin changes policies in the name of a caller, whose rights count at the key manager too.
type policyAdmin struct {
	v     *Volume
	by    access.Requester
	dir   meta.Ino
	ready func(context.Context) error // whether a job could begin now
}

func (d *daemon) policyAdmin(call *control.Call, inode uint64) *policyAdmin {
	p := call.Peer
	return &policyAdmin{
		v: d.volume, by: access.Requester{UID: uint32(p.UID), GID: uint32(p.GID), PID: uint32(p.PID)}, dir: meta.Ino(inode),
		ready: func(ctx context.Context) error { return d.readyForJob(ctx, nil) },
	}
}

// policyCall reads the arguments of an operation on policies, and who asks for it about which directory.
func (d *daemon) policyCall(call *control.Call) (*policyAdmin, policyArgs, error) {
	var args policyArgs
	err := call.Args(&args)
	return d.policyAdmin(call, args.Inode), args, err
}

// administered is the zone that the directory lies in, if the caller has the action Admin in it.
func (p *policyAdmin) administered(ctx context.Context) (*meta.Zone, error) {
	z, _, err := p.zone(ctx)
	if err == nil {
		err = p.v.guard.Administer(ctx, p.by, z.ID)
	}
	return z, err
}

func (p *policyAdmin) caller() keymgr.Caller {
	return keymgr.Caller{UID: int(p.by.UID), GID: int(p.by.GID), PID: int(p.by.PID), Via: keymgr.ViaFileDaemon}
}

// resolver knows the users and groups of this host.
func resolver(now time.Time) dirpolicy.Resolver {
	return dirpolicy.Resolver{
		User: func(name string) error {
			if _, err := user.Lookup(name); err != nil {
				return fmt.Errorf("there is no user %q on this host", name)
			}
			return nil
		},
		Group: func(name string) error {
			if _, err := user.LookupGroup(name); err != nil {
				return fmt.Errorf("there is no group %q on this host", name)
			}
			return nil
		},
		Now: now,
	}
}

// zone returns the zone that the directory is in, and whether it is the zone's own.
func (p *policyAdmin) zone(ctx context.Context) (z *meta.Zone, own bool, err error) {
	a, err := p.v.meta.Getattr(ctx, p.dir)
	if err != nil {
		return nil, false, fmt.Errorf("inode %d: %w", p.dir, err)
	}
	if !a.IsDir() {
		return nil, false, fmt.Errorf("%w: policies are for directories", ErrUsage)
	}
	if z, err = p.v.meta.Zone(ctx, a.Zone); err != nil {
		return nil, false, err
	}
	return z, z.Dir == p.dir, nil
}

// leftover is what is left to be done when a policy counts.
type leftover struct {
	rekey     bool // the zone's key, which others have wrapped
	reencrypt bool // its files
}

// set puts a policy on the directory: on a zone's own, or it becomes one with all below it. Nothing changes where it is refused. It tells what is left to
// be done by jobs.
func (p *policyAdmin) set(ctx context.Context, source []byte) (z *meta.Zone, left leftover, err error) {
	next, err := dirpolicy.Parse(source, resolver(time.Now()))
	if err != nil {
		return nil, left, err
	}
	z, own, err := p.zone(ctx)
	if err == nil {
		err = p.v.guard.Administer(ctx, p.by, z.ID)
	}
	if err != nil {
		return nil, left, err
	}
	if err := p.v.guard.WouldAdminister(ctx, p.by, z.ID, next); err != nil {
		return nil, left, advise(fmt.Errorf("%w: %w", policy.ErrLockout, err), "give yourself the action Admin in it")
	}
	if own {
		z, left, err = p.change(ctx, z, next)
	} else {
		z, left.reencrypt, err = p.make(ctx, z, next)
	}
	if err != nil {
		return nil, left, err
	}
	return z, left, p.settle(ctx)
}

// settle makes a change durable and known to all decisions.
func (p *policyAdmin) settle(ctx context.Context) error {
	return errors.Join(p.v.syncNames(ctx), p.v.guard.Reload(ctx))
}

// params are those of the policy where it says something, otherwise those there are.
func params(next *dirpolicy.Policy, old meta.Params) meta.Params {
	out := old
	if next.BlockSizeGiven {
		out.BlockSize = next.Params.BlockSize
	}
	if next.CompressionGiven {
		out.Codec, out.Level = next.Params.Codec, next.Params.Level
		if !next.BlockSizeGiven && out.Codec != meta.CodecNone {
			out.BlockSize = max(out.BlockSize, next.Params.BlockSize)
		}
	}
	if next.InlineGiven {
		out.Inline = next.Params.Inline
	}
	return out
}

// keyARNs resolves the keys of a policy.
func (p *policyAdmin) keyARNs(ctx context.Context, next *dirpolicy.Policy) ([]string, error) {
	var all []string
	for _, k := range next.Keys {
		md, err := p.v.keys.DescribeKey(ctx, keymgr.Caller{}, k.Name)
		if errors.Is(err, keymgr.ErrNotFound) {
			return nil, &policy.Error{Class: policy.ErrMalformed, Line: k.Line, Column: k.Column, Reason: fmt.Sprintf("there is no key %q in the key store", k.Name)}
		}
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", k.Name, err)
		}
		if slices.Contains(all, md.ARN) {
			return nil, &policy.Error{Class: policy.ErrMalformed, Line: k.Line, Column: k.Column, Reason: fmt.Sprintf("the key %q stands twice, under two names", k.Name)}
		}
		all = append(all, md.ARN)
	}
	return all, nil
}

// change replaces the policy of a zone. Where there are files in it and they are to be under other keys, or stored otherwise, the zone's key is wrapped by
// the new keys before the policy counts, and the files are for a job.
func (p *policyAdmin) change(ctx context.Context, z *meta.Zone, next *dirpolicy.Policy) (changed *meta.Zone, left leftover, err error) {
	keys, err := p.keyARNs(ctx, next)
	if err != nil {
		return nil, left, err
	}
	was, err := p.keysOf(ctx, z)
	if err != nil {
		return nil, left, err
	}
	left.rekey = keys != nil && !sameSet(keys, was)
	if err := sameKind(z, next, left.rekey); err != nil {
		return nil, left, err
	}
	want := params(next, z.Params)
	empty, err := p.empty(ctx)
	if err != nil {
		return nil, left, err
	}
	if left.reencrypt = !empty && (left.rekey || want != z.Params); left.reencrypt {
		if err := p.ready(ctx); err != nil {
			return nil, left, fmt.Errorf("files of the directory have to be re-encrypted for the policy: %w", err)
		}
	}
	if left.rekey {
		if err := p.rekey(ctx, was, keys); err != nil {
			return nil, left, err
		}
	}
	changed, _, err = p.v.meta.ChangeZone(ctx, z.ID, next.Source(), func(z *meta.Zone) error {
		z.Params, z.KeyTTL = want, uint32(next.KeyTTL/time.Second)
		return nil
	})
	return changed, left, err
}

// adviseKind is the way where files cannot go along.
const adviseKind = "make another directory, set the policy on that, and copy the files with cp or mv"

// sameKind refuses what would leave files of a zone under a CMK, or a kind of wrap, that the zone does not have any more.
func sameKind(z *meta.Zone, next *dirpolicy.Policy, rekey bool) error {
	switch {
	case next.ByCMK != z.ByCMK():
		return advise(fmt.Errorf("%w: wrap is decided when a directory gets its first policy; this one has wrap: %s", ErrUsage, wrapName(z.ByCMK())), adviseKind)
	case z.ByCMK() && rekey:
		return advise(fmt.Errorf("%w: with wrap: cmk the key of a directory stays: it wraps the key of each file", ErrUsage), adviseKind)
	}
	return nil
}

func wrapName(byCMK bool) string {
	if byCMK {
		return "cmk"
	}
	return "zone"
}

// rekey has the zone's key wrapped by other CMKs instead of those that wrap it: by the new ones first, and what was done is taken back if one of them refuses.
func (p *policyAdmin) rekey(ctx context.Context, was, keys []string) error {
	do := func(args rewrapArgs) error {
		args.Inode = uint64(p.dir)
		return p.v.rewrap(ctx, p.caller(), args, func(Rewrapped) error { return nil })
	}
	var added []string
	for _, key := range keys {
		if slices.Contains(was, key) {
			continue
		}
		if err := do(rewrapArgs{Add: key}); err != nil {
			err = fmt.Errorf("wrap the zone's key under %s: %w", key, err)
			for _, key := range added {
				err = errors.Join(err, do(rewrapArgs{Remove: key}))
			}
			return err
		}
		added = append(added, key)
	}
	for _, key := range was {
		if slices.Contains(keys, key) {
			continue
		}
		if err := do(rewrapArgs{Remove: key}); err != nil {
			return fmt.Errorf("take away the wrap of the zone's key under %s: %w", key, err)
		}
	}
	return nil
}

// keysOf returns the ARNs of the keys of a zone's wraps; one of another key store stands as it is.
func (p *policyAdmin) keysOf(ctx context.Context, z *meta.Zone) ([]string, error) {
	var all []string
	for _, w := range z.Wraps {
		md, err := p.v.keys.DescribeKey(ctx, keymgr.Caller{}, w.KeyID)
		switch {
		case errors.Is(err, keymgr.ErrNotFound):
			md.ARN = w.KeyID
		case err != nil:
			return nil, fmt.Errorf("key %s: %w", w.KeyID, err)
		}
		all = append(all, md.ARN)
	}
	return all, nil
}

func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}

func (p *policyAdmin) empty(ctx context.Context) (bool, error) {
	entries, err := p.v.meta.ReadDir(ctx, p.dir, 0, 1)
	return len(entries) == 0, err
}

// make makes a zone of a directory with all below it. The keys of files that are there go under the zone's key at once; fresh ones are for a job.
func (p *policyAdmin) make(ctx context.Context, around *meta.Zone, next *dirpolicy.Policy) (z *meta.Zone, reencrypt bool, err error) {
	if err := p.preflight(ctx, around); err != nil {
		return nil, false, err
	}
	keys, err := p.keyARNs(ctx, next)
	if err == nil && keys == nil {
		keys, err = p.keysOf(ctx, around)
	}
	if err != nil {
		return nil, false, err
	}
	id, err := p.v.meta.NewZoneID(ctx)
	if err != nil {
		return nil, false, err
	}
	parent, name, err := p.v.meta.ZonePlace(ctx, &meta.Zone{ID: id, Dir: p.dir})
	if err != nil {
		return nil, false, err
	}
	if next.ByCMK && len(keys) != 1 {
		return nil, false, advise(fmt.Errorf("%w: with wrap: cmk one key wraps the keys of files, and the directory above has %d", ErrUsage, len(keys)), "name one under keys")
	}
	zoneKey, wraps, err := p.zoneKey(ctx, keys, meta.ZoneContext(p.v.ID, id, parent, name))
	if err != nil {
		return nil, false, err
	}
	defer zoneKey.Wipe()
	if z, err = meta.NewZone(p.v.ID, id, p.dir, zoneKey); err != nil {
		return nil, false, err
	}
	z.Wraps, z.Params, z.KeyTTL = wraps, params(next, around.Params), uint32(next.KeyTTL/time.Second)
	if next.ByCMK {
		z.Flags |= meta.ZoneCMK
	}
	zk, err := z.Keys(p.v.ID, zoneKey)
	if err != nil {
		return nil, false, err
	}
	files, err := p.v.meta.MakeZone(ctx, z, zk, parent, []byte(name), next.Source())
	if err != nil {
		return nil, false, adviseTree(err)
	}
	p.v.content.Rezoned(id, files)
	z, err = p.v.meta.Zone(ctx, id)
	return z, len(files) > 0, err
}

// preflight finds out, where there are files, whether a job could re-encrypt them, and whether who asks may have the keys that they are under now.
func (p *policyAdmin) preflight(ctx context.Context, now *meta.Zone) error {
	empty, err := p.empty(ctx)
	if empty || err != nil {
		return err
	}
	if err := p.ready(ctx); err != nil {
		return fmt.Errorf("files of the directory have to be re-encrypted for that: %w", err)
	}
	return p.v.opensFor(ctx, p.caller(), now)
}

// adviseTree says what to do where a directory cannot go into another zone as it is.
func adviseTree(err error) error {
	switch {
	case errors.Is(err, meta.ErrTooMany):
		return advise(fmt.Errorf("%w: %w", ErrNotEmpty, err), "set the policy on a new directory and move the files there with mv: their keys go with them")
	case errors.Is(err, meta.ErrFileKeys):
		return advise(fmt.Errorf("%w: files cannot go between wrap: cmk and wrap: zone: %w", ErrUsage, err), adviseKind)
	case errors.Is(err, meta.ErrCrossZone):
		return advise(fmt.Errorf("%w: %w", ErrUsage, err), "find -links +1 finds files with several names; all names of a file have to lie in directories of one policy")
	}
	return err
}

// zoneKey has a zone's key made under the first of keys, and wrapped by the others as well. The caller wipes it.
func (p *policyAdmin) zoneKey(ctx context.Context, keys []string, encryptionContext keymgr.Context) (*blockcrypt.Key, []meta.ZoneWrap, error) {
	made, err := p.v.keys.GenerateDataKey(ctx, p.caller(), keymgr.GenerateDataKeyInput{KeyID: keys[0], Bytes: blockcrypt.KeySize, Context: encryptionContext})
	defer clear(made.Plaintext)
	if err != nil {
		return nil, nil, fmt.Errorf("make the zone's key under %s: %w", keys[0], err)
	}
	wraps := []meta.ZoneWrap{{KeyID: made.KeyID, Blob: made.Blob}}
	for _, key := range keys[1:] {
		out, err := p.v.keys.Encrypt(ctx, p.caller(), keymgr.EncryptInput{KeyID: key, Plaintext: made.Plaintext, Context: encryptionContext})
		if err != nil {
			return nil, nil, fmt.Errorf("wrap the zone's key under %s: %w", key, err)
		}
		wraps = append(wraps, meta.ZoneWrap{KeyID: out.KeyID, Blob: out.Blob})
	}
	k, err := blockcrypt.KeyFromBytes(made.Plaintext)
	return k, wraps, err
}

// remove takes the policy of a zone away. The root keeps its keys; another directory is no zone afterwards: what is in it goes under the keys of the zone around, whose number it returns, and
// its files, if there are any, are for a job.
func (p *policyAdmin) remove(ctx context.Context) (reencrypt bool, err error) {
	z, own, err := p.zone(ctx)
	if err != nil {
		return false, err
	}
	if !own || z.ID == meta.RootZone && !z.HasPolicy() {
		return false, advise(fmt.Errorf("the directory has no policy of its own: %w", ErrNoPolicy), "kmsfs policy show says whose it has")
	}
	if err := p.v.guard.Administer(ctx, p.by, z.ID); err != nil {
		return false, err
	}
	if z.ID == meta.RootZone {
		if _, _, err = p.v.meta.ChangeZone(ctx, z.ID, []byte{}, func(z *meta.Zone) error { z.KeyTTL = 0; return nil }); err != nil {
			return false, err
		}
		return false, p.settle(ctx)
	}
	around, err := p.around(ctx)
	if err == nil {
		err = p.preflight(ctx, around)
	}
	if err != nil {
		return false, err
	}
	files, into, err := p.v.meta.DissolveZone(ctx, z.ID)
	if err != nil {
		return false, adviseTree(err)
	}
	p.v.content.Rezoned(into, files)
	p.v.ring.Revoke(z.ID)
	return len(files) > 0, p.settle(ctx)
}

// around returns the zone that the directory of a zone lies in.
func (p *policyAdmin) around(ctx context.Context) (*meta.Zone, error) {
	a, err := p.v.meta.Getattr(ctx, p.dir)
	if err == nil {
		a, err = p.v.meta.Getattr(ctx, a.Parent)
	}
	if err != nil {
		return nil, err
	}
	return p.v.meta.Zone(ctx, a.Zone)
}
