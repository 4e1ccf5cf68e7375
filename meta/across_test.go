package meta_test

import (
	"testing"

	"github.com/kmsfs/kmsfs/meta"
)

// across moves a name, as user 7.
func (v *tree) across(ino, from meta.Ino, oldName string, to meta.Ino, newName string, flags meta.RenameFlags) (meta.RenameResult, error) {
	c := meta.Crossing{Ino: ino, By: meta.Owner{UID: 7, GID: 8}}
	return v.MoveAcross(bg, c, from, []byte(oldName), to, []byte(newName), flags, nil)
}

// TestMoveAcross: what is sealed under a zone's keys is so under the other's afterwards, and nothing under the one's that it left.
func TestMoveAcross(t *testing.T) {
	v := newTree(t)
	d := v.dir(meta.RootIno, "d")
	z := addZone(t, v, d.Ino, "d")
	f := v.file(meta.RootIno, "f")
	want(t, "xattr", v.SetXattr(bg, f.Ino, "user.a", []byte("one"), 0), nil)
	openKey(t, v.ID, v.Store, f)

	r, err := v.across(f.Ino, meta.RootIno, "f", d.Ino, "g", 0)
	want(t, "move", err, nil)
	if r.Moved.Zone != z.ID || r.Moved.Epoch != f.Epoch+1 || len(r.Moved.Wraps) != 2 || r.Moved.Parent != d.Ino || r.Queued == 0 {
		t.Fatalf("%+v", r)
	}
	openKey(t, v.ID, v.Store, r.Moved) // of both epochs: the old one is that of before
	if r.Moved.Wrap(f.Epoch).Commitment != f.Wrap(f.Epoch).Commitment {
		t.Error("the key of the old epoch is another one")
	}
	if value, err := v.GetXattr(bg, f.Ino, "user.a"); err != nil || string(value) != "one" {
		t.Errorf("xattr: %q %v", value, err)
	}
	v.clean()
	inRoot := *r.Moved // what the root zone's keys would make of it
	inRoot.Zone = meta.RootZone
	_, err = v.UnwrapDEK(bg, &inRoot, f.Epoch)
	want(t, "the old epoch under the keys of the zone that it left", err, meta.ErrAuth)

	l, err := v.Create(bg, d.Ino, []byte("l"), meta.NewNode{Mode: meta.ModeSymlink | 0o777, Target: []byte("to/there")})
	want(t, "symlink", err, nil)
	back, err := v.across(l.Ino, d.Ino, "l", meta.RootIno, "l", 0)
	want(t, "move a symlink", err, nil)
	if target, err := v.Readlink(bg, l.Ino); err != nil || string(target) != "to/there" || back.Queued != 0 {
		t.Errorf("target: %q %v, queued %d", target, err, back.Queued)
	}
	p, err := v.Create(bg, d.Ino, []byte("p"), meta.NewNode{Mode: meta.ModeFIFO | 0o600})
	want(t, "fifo", err, nil)
	_, err = v.across(p.Ino, d.Ino, "p", meta.RootIno, "l", 0)
	want(t, "move over another", err, nil)
	_, err = v.Getattr(bg, l.Ino)
	want(t, "what was replaced", err, meta.ErrNotFound)
	v.clean()
}

func TestMoveAcrossRefused(t *testing.T) {
	v := newTree(t)
	d, e := v.dir(meta.RootIno, "d"), v.dir(meta.RootIno, "e")
	z := addZone(t, v, d.Ino, "d")
	f, h := v.file(meta.RootIno, "f"), v.file(meta.RootIno, "h")
	_, err := v.Link(bg, h.Ino, meta.RootIno, []byte("h2"))
	want(t, "link", err, nil)
	there := v.file(d.Ino, "there")
	for _, c := range []struct {
		what, name, to string
		ino            meta.Ino
		flags          meta.RenameFlags
		err            error
	}{
		{"a directory", "e", "x", e.Ino, 0, meta.ErrCrossZone},
		{"what has two names", "h", "x", h.Ino, 0, meta.ErrCrossZone},
		{"an exchange", "f", "there", f.Ino, meta.RenameExchange, meta.ErrCrossZone},
		{"a whiteout", "f", "x", f.Ino, meta.RenameWhiteout, meta.ErrCrossZone},
		{"over what is there", "f", "there", f.Ino, meta.RenameNoReplace, meta.ErrExist},
		{"another inode", "f", "x", h.Ino, 0, meta.ErrStale},
		{"nothing", "n", "x", f.Ino, 0, meta.ErrNotFound},
	} {
		_, err := v.across(c.ino, meta.RootIno, c.name, d.Ino, c.to, c.flags)
		want(t, c.what, err, c.err)
	}
	_, _, err = v.ChangeZone(bg, z.ID, nil, func(z *meta.Zone) error { z.BlockSize = 16 << 10; return nil })
	want(t, "change parameters", err, nil)
	_, err = v.across(f.Ino, meta.RootIno, "f", d.Ino, "x", 0)
	want(t, "other parameters", err, meta.ErrCrossZone)
	want(t, "may", v.MayCross(bg, f, z.ID), meta.ErrCrossZone)
	if a := v.attr(f.Ino); a.Zone != meta.RootZone || len(a.Wraps) != 1 {
		t.Errorf("refused, but changed: %+v", a)
	}
	if jobs, err := v.Jobs(bg); err != nil || len(jobs) != 0 {
		t.Errorf("refused, but queued: %v %v", jobs, err)
	}
	openKey(t, v.ID, v.Store, there)
	v.clean()
}

// TestQueue: what one user moves into one zone waits in one queue, until that has come to its end.
func TestQueue(t *testing.T) {
	v := newTree(t)
	d := v.dir(meta.RootIno, "d")
	addZone(t, v, d.Ino, "d")
	move := func(name string) meta.JobID {
		t.Helper()
		r, err := v.across(v.file(meta.RootIno, name).Ino, meta.RootIno, name, d.Ino, name, 0)
		want(t, "move", err, nil)
		return r.Queued
	}
	first := move("a")
	if again := move("b"); again != first {
		t.Fatalf("queues %d and %d", first, again)
	}
	jobs, err := v.Jobs(bg)
	if err != nil || len(jobs) != 1 || jobs[0].Root != d.Ino || jobs[0].UID != 7 || jobs[0].GID != 8 || jobs[0].Kind != meta.JobMoved {
		t.Fatalf("%+v %v", jobs, err)
	}
	waiting, err := v.Queue(bg, first, 10)
	if err != nil || len(waiting) != 2 {
		t.Fatalf("%v %v", waiting, err)
	}
	if ended, err := v.EndQueue(bg, jobs[0]); ended || err != nil {
		t.Fatalf("ended with %v waiting: %v", waiting, err)
	}
	for _, ino := range waiting {
		want(t, "dequeue", v.Dequeue(bg, first, ino), nil)
	}
	if ended, err := v.EndQueue(bg, jobs[0]); !ended || err != nil {
		t.Fatalf("not ended: %v", err)
	}
	next := move("c")
	if next == first {
		t.Fatal("queued for a job that is over")
	}
	v.clean()
	want(t, "delete", v.DeleteJob(bg, next), nil)
	if waiting, err := v.Queue(bg, next, 10); err != nil || len(waiting) != 0 {
		t.Errorf("%v %v", waiting, err)
	}
	v.clean()
}

// TestMoveZoneAcross: the directory of a zone may go into another zone.
func TestMoveZoneAcross(t *testing.T) {
	v := newTree(t)
	d, e := v.dir(meta.RootIno, "d"), v.dir(meta.RootIno, "e")
	z := addZone(t, v, d.Ino, "d")
	around := addZone(t, v, e.Ino, "e")
	f := v.file(d.Ino, "f")
	wraps := []meta.ZoneWrap{{KeyID: "test", Blob: []byte("anew")}}
	_, err := v.MoveZone(bg, z, &meta.Zone{Wraps: wraps}, meta.RootIno, []byte("d"), e.Ino, []byte("x"), 0, nil)
	want(t, "move", err, nil)
	now, err := v.Zone(bg, z.ID)
	want(t, "zone", err, nil)
	parent, name, err := v.ZonePlace(bg, now)
	if parent != e.Ino || name != "x" || err != nil || string(now.Wraps[0].Blob) != "anew" {
		t.Errorf("place: %d %q %v, %+v", parent, name, err, now)
	}
	openKey(t, v.ID, v.Store, f)
	v.clean()
	_, err = v.MoveZone(bg, around, &meta.Zone{Wraps: wraps}, meta.RootIno, []byte("e"), d.Ino, []byte("y"), 0, nil)
	want(t, "below itself", err, meta.ErrLoop)
	v.clean()
}
