package meta_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta"
)

// cmk is a meta.FileKeys: it seals with a key of its own, counts its calls, and does before each what the test says.
type cmk struct {
	sealer *blockcrypt.Sealer

	mu                  sync.Mutex
	makes, opens, moves int
	err                 error
	before              func() // called once
}

func newCMK(t *testing.T) *cmk {
	t.Helper()
	key, err := blockcrypt.NewKey()
	want(t, "key", err, nil)
	sealer, err := blockcrypt.NewSealer(key)
	want(t, "sealer", err, nil)
	return &cmk{sealer: sealer}
}

func (c *cmk) call(count *int) error {
	c.mu.Lock()
	before, err := c.before, c.err
	c.before = nil
	*count++
	c.mu.Unlock()
	if before != nil {
		before()
	}
	return err
}

func (c *cmk) Make(_ context.Context, at blockcrypt.Place) (*blockcrypt.Key, string, error) {
	if err := c.call(&c.makes); err != nil {
		return nil, "", err
	}
	key, err := blockcrypt.NewKey()
	if err != nil {
		return nil, "", err
	}
	blob, err := c.sealer.Wrap(key, at.AAD())
	return key, string(blob[:]), err
}

func (c *cmk) open(at blockcrypt.Place, blob string) (*blockcrypt.Key, error) {
	key, err := c.sealer.Unwrap([]byte(blob), at.AAD())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", meta.ErrAuth, err)
	}
	return key, nil
}

func (c *cmk) Open(_ context.Context, at blockcrypt.Place, blob string) (*blockcrypt.Key, error) {
	if err := c.call(&c.opens); err != nil {
		return nil, err
	}
	return c.open(at, blob)
}

func (c *cmk) Move(_ context.Context, from, to blockcrypt.Place, blob string) (string, error) {
	if err := c.call(&c.moves); err != nil {
		return "", err
	}
	key, err := c.open(from, blob)
	if err != nil {
		return "", err
	}
	moved, err := c.sealer.Wrap(key, to.AAD())
	return string(moved[:]), err
}

func (c *cmk) TTL() time.Duration { return time.Minute }

func (c *cmk) calls() [3]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return [3]int{c.makes, c.opens, c.moves}
}

// newCMKTree is a volume whose root zone is one with wrap: cmk.
func newCMKTree(t *testing.T) (*tree, *cmk) {
	t.Helper()
	v := newTree(t)
	z, err := v.Zone(bg, meta.RootZone)
	want(t, "zone", err, nil)
	z.Flags |= meta.ZoneCMK
	_, err = v.PutZone(bg, z)
	want(t, "put zone", err, nil)
	zk, err := z.Keys(v.ID, v.ZoneKey)
	want(t, "zone keys", err, nil)
	c := newCMK(t)
	zk.Files = c
	v.Keyring.Add(meta.RootZone, zk)
	return v, c
}

// opensIn fails the test unless each key of the inode opens and is bound to a place.
func opensIn(t *testing.T, v *tree, ino, parent meta.Ino, tag meta.NameTag) {
	t.Helper()
	a := v.attr(ino)
	for i := range a.Wraps {
		w := &a.Wraps[i]
		if !w.ByCMK() || w.KeyVersion != 0 || w.Parent != parent || w.Tag != tag {
			t.Errorf("inode %d, epoch %d: version %d, bound to inode %d, want %d", ino, w.Epoch, w.KeyVersion, w.Parent, parent)
		}
		key, err := v.UnwrapDEK(bg, a, w.Epoch)
		if err != nil {
			t.Errorf("inode %d, epoch %d: %v", ino, w.Epoch, err)
			continue
		}
		key.Wipe()
	}
}

// TestFileKeys: keys that a CMK wraps itself through the life of a file: made, moved by renames, kept by removals of names, with as many calls as there are keys.
func TestFileKeys(t *testing.T) {
	v, c := newCMKTree(t)
	dir := v.dir(meta.RootIno, "d")
	if got := c.calls(); got != [3]int{} {
		t.Errorf("a directory: %v calls", got)
	}
	f := v.file(meta.RootIno, "f")
	if got := c.calls(); got != [3]int{1, 0, 0} {
		t.Errorf("a file: %v calls", got)
	}
	opensIn(t, v, f.Ino, meta.RootIno, f.Tag)
	if got := c.calls(); got != [3]int{1, 0, 0} {
		t.Errorf("the first use of a new key: %v calls", got)
	}
	opensIn(t, v, f.Ino, meta.RootIno, f.Tag)
	if got := c.calls(); got != [3]int{1, 1, 0} {
		t.Errorf("the second use: %v calls", got)
	}
	want(t, "epoch", v.UpdateWithKeys(bg, v.epochOf(f.Ino)), nil)
	if a := v.attr(f.Ino); a.Epoch != 2 || len(a.Wraps) != 2 || c.calls()[0] != 2 {
		t.Errorf("a new epoch: %d, %d wraps, %v calls", a.Epoch, len(a.Wraps), c.calls())
	}
	old := v.attr(f.Ino)
	_, err := v.Rename(bg, meta.RootIno, []byte("f"), dir.Ino, []byte("g"), 0, nil)
	want(t, "rename", err, nil)
	if got := c.calls(); got[2] != 2 {
		t.Errorf("a rename of a file with two keys: %v calls", got)
	}
	moved := v.attr(f.Ino)
	opensIn(t, v, f.Ino, dir.Ino, moved.Tag)
	moved.Wraps[0].Parent, moved.Wraps[0].Tag = old.Parent, old.Tag
	_, err = v.UnwrapDEK(bg, moved, 1)
	want(t, "in the former place", err, meta.ErrAuth)

	_, err = v.Link(bg, f.Ino, meta.RootIno, []byte("h"))
	want(t, "link", err, nil)
	moved = v.attr(f.Ino)
	c.err = meta.ErrKeyUnavailable // the token is away
	_, err = v.Rename(bg, dir.Ino, []byte("g"), dir.Ino, []byte("i"), 0, nil)
	want(t, "rename, token away", err, meta.ErrKeyUnavailable)
	_, err = v.Create(bg, dir.Ino, []byte("j"), meta.NewNode{Mode: meta.ModeRegular | 0o600})
	want(t, "create, token away", err, meta.ErrKeyUnavailable)
	_, err = v.Unlink(bg, dir.Ino, []byte("g"), nil) // the primary name: the other one becomes it
	want(t, "unlink, token away", err, nil)
	c.err = nil
	if a := v.attr(f.Ino); a.Parent != meta.RootIno || a.Nlink != 1 {
		t.Errorf("after the primary name went: %+v", a)
	}
	opensIn(t, v, f.Ino, dir.Ino, moved.Tag) // where it was bound to before
	_, err = v.Rename(bg, meta.RootIno, []byte("h"), meta.RootIno, []byte("k"), 0, nil)
	want(t, "rename", err, nil)
	opensIn(t, v, f.Ino, meta.RootIno, v.attr(f.Ino).Tag)
	c.err = meta.ErrKeyUnavailable
	_, err = v.Unlink(bg, meta.RootIno, []byte("k"), func(meta.Ino) bool { return true })
	want(t, "unlink what is open, token away", err, nil)
	c.err = nil
	if a := v.attr(f.Ino); !a.Flags.Orphan() {
		t.Errorf("%+v", a)
	}
	key, err := v.UnwrapDEK(bg, v.attr(f.Ino), 2)
	want(t, "an orphan's key", err, nil)
	key.Wipe()
	v.clean()
	want(t, "release", v.ReleaseOrphans(bg, f.Ino), nil)
}

// TestFileKeysOfTemporaries: a file without a name is bound to none, and to its first name when that comes.
func TestFileKeysOfTemporaries(t *testing.T) {
	v, _ := newCMKTree(t)
	a, err := v.Tmpfile(bg, meta.RootIno, meta.NewNode{Mode: meta.ModeRegular | 0o600})
	want(t, "temporary file", err, nil)
	opensIn(t, v, a.Ino, 0, meta.NameTag{})
	_, err = v.Link(bg, a.Ino, meta.RootIno, []byte("f"))
	want(t, "link", err, nil)
	opensIn(t, v, a.Ino, meta.RootIno, v.attr(a.Ino).Tag)
}

// TestFileKeysMeanwhile: whoever changes the place while the key manager is asked makes it be asked again; exchanged files change places.
func TestFileKeysMeanwhile(t *testing.T) {
	v, c := newCMKTree(t)
	f, g := v.file(meta.RootIno, "f"), v.file(meta.RootIno, "g")
	c.before = func() {
		_, err := v.Rename(bg, meta.RootIno, []byte("f"), meta.RootIno, []byte("elsewhere"), 0, nil)
		want(t, "rename meanwhile", err, nil)
		_, err = v.Rename(bg, meta.RootIno, []byte("g"), meta.RootIno, []byte("f"), 0, nil)
		want(t, "another one under the name", err, nil)
	}
	_, err := v.Rename(bg, meta.RootIno, []byte("f"), meta.RootIno, []byte("h"), 0, nil)
	want(t, "rename", err, nil)
	for _, ino := range []meta.Ino{f.Ino, g.Ino} {
		opensIn(t, v, ino, meta.RootIno, v.attr(ino).Tag)
	}
	at, err := v.Lookup(bg, meta.RootIno, []byte("h"))
	want(t, "lookup", err, nil)
	if at.Ino != g.Ino {
		t.Errorf("h leads to inode %d, want %d", at.Ino, g.Ino)
	}
	_, err = v.Rename(bg, meta.RootIno, []byte("h"), meta.RootIno, []byte("elsewhere"), meta.RenameExchange, nil)
	want(t, "exchange", err, nil)
	for _, ino := range []meta.Ino{f.Ino, g.Ino} {
		opensIn(t, v, ino, meta.RootIno, v.attr(ino).Tag)
	}
	c.err = errors.New("down")
	_, err = v.RewrapKeys(bg, 0, 0)
	want(t, "a deep rewrap leaves them alone", err, nil)
}

// TestFileKeysAfterRestart: the rows say of which kind each wrap is.
func TestFileKeysAfterRestart(t *testing.T) {
	v, _ := newCMKTree(t)
	f := v.file(meta.RootIno, "f")
	v.Store = v.Open(t, meta.Config{})
	opensIn(t, v, f.Ino, meta.RootIno, f.Tag)
	zk, err := v.Keyring.Zone(bg, meta.RootZone)
	want(t, "keys", err, nil)
	plain := *zk
	plain.Files = nil
	v.Keyring.Add(meta.RootZone, &plain)
	_, err = v.UnwrapDEK(bg, v.attr(f.Ino), 1)
	want(t, "in a zone of the other kind", err, meta.ErrAuth)
	v.clean()

	g := v.file(meta.RootIno, "g") // as a zone's keys of the other kind make it
	faults := func(what string, ino meta.Ino) {
		t.Helper()
		var got []meta.Ino
		_, err := v.Check(bg, meta.CheckOptions{}, func(f meta.Fault) { got = append(got, f.Ino) })
		if err != nil || len(got) != 1 || got[0] != ino {
			t.Errorf("%s: inodes %d, %v; want %d", what, got, err, ino)
		}
	}
	faults("a key under the zone's", g.Ino)
	z, err := v.Zone(bg, meta.RootZone)
	want(t, "zone", err, nil)
	z.Flags &^= meta.ZoneCMK
	_, err = v.PutZone(bg, z)
	want(t, "put zone", err, nil)
	faults("a key under the CMK", f.Ino)
}

// TestFileKeysConcurrently: many rename, exchange and replace the same few files; in the end each key opens, in its place.
func TestFileKeysConcurrently(t *testing.T) {
	v, _ := newCMKTree(t)
	dirs := []meta.Ino{meta.RootIno, v.dir(meta.RootIno, "d").Ino}
	for i := range 6 {
		v.file(dirs[i%2], fmt.Sprint("f", i))
	}
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 40 {
				from, to := (g+i)%6, (g*3+i*5+1)%6
				flags := meta.RenameFlags(0)
				if i%3 == 0 {
					flags = meta.RenameExchange
				}
				_, err := v.Rename(bg, dirs[from%2], fmt.Append(nil, "f", from), dirs[to%2], fmt.Append(nil, "f", to), flags, nil)
				if err != nil && !errors.Is(err, meta.ErrNotFound) {
					t.Errorf("rename: %v", err)
				}
				if i%4 == 0 {
					_, err = v.Create(bg, dirs[from%2], fmt.Append(nil, "f", from), meta.NewNode{Mode: meta.ModeRegular | 0o600})
					if err != nil && !errors.Is(err, meta.ErrExist) {
						t.Errorf("create: %v", err)
					}
				}
			}
		})
	}
	all.Wait()
	files := 0
	for i := range 6 {
		a, err := v.Lookup(bg, dirs[i%2], fmt.Append(nil, "f", i))
		if errors.Is(err, meta.ErrNotFound) {
			continue
		}
		want(t, "lookup", err, nil)
		opensIn(t, v, a.Ino, a.Parent, a.Tag)
		files++
	}
	if files == 0 {
		t.Error("no file is left")
	}
	v.clean()
}
