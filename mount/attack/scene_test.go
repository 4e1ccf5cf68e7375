package attack

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/audit/trail"
	"github.com/kmsfs/kmsfs/keymgr/keystore"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/mount"
)

// scene is a copy of a volume to be attacked.
type scene struct {
	t   *testing.T
	r   *rig
	s   *saved
	dir string
}

func (r *rig) scene(t *testing.T, s *saved) *scene {
	t.Helper()
	c := &scene{t: t, r: r, dir: r.fresh()}
	if err := s.copyTo(r.ctx, r.keys, c.dir); err != nil {
		t.Fatal(err)
	}
	copied := *s
	copied.Dir = c.dir
	c.s = &copied
	return c
}

func (c *scene) path(parts ...string) string {
	return filepath.Join(append([]string{c.dir}, parts...)...)
}

func (c *scene) want() tree { return c.s.Want[len(c.s.Want)-1] }

func (c *scene) ino(name string) meta.Ino {
	c.t.Helper()
	th := c.want()[name]
	if th == nil {
		c.t.Fatalf("no %s", name)
	}
	return th.Ino
}

func (c *scene) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// object returns the path of the only object of a length: its owner is known by that, without a key.
func (c *scene) object(size int) string {
	c.t.Helper()
	names, err := filepath.Glob(c.path("objects", "??", "*"))
	c.must(err)
	var found []string
	for _, name := range names {
		if st, err := os.Lstat(name); err == nil && st.Mode().IsRegular() && st.Size() == int64(size) {
			found = append(found, name)
		}
	}
	if len(found) != 1 {
		c.t.Fatalf("%d objects of %d bytes", len(found), size)
	}
	return found[0]
}

// tables returns the names of Badger's tables.
func (c *scene) tables() (names []string) {
	c.t.Helper()
	paths, err := filepath.Glob(c.path("meta", "*.sst"))
	c.must(err)
	for _, p := range paths {
		names = append(names, filepath.Base(p))
	}
	if len(names) == 0 {
		c.t.Fatal("no tables")
	}
	return names
}

func (c *scene) read(name string) []byte {
	c.t.Helper()
	b, err := os.ReadFile(name)
	c.must(err)
	return b
}

func (c *scene) write(name string, b []byte) {
	c.t.Helper()
	c.must(os.WriteFile(name, b, 0o600))
}

func (c *scene) edit(name string, change func(b []byte) []byte) {
	c.t.Helper()
	c.write(name, change(c.read(name)))
}

// open opens the volume as a mount does, until the test ends or it is closed.
func (c *scene) open() *mount.Volume {
	c.t.Helper()
	v, err := open(c.r.ctx, c.r.keys, c.dir)
	c.must(err)
	return v
}

// use makes changes as the volume's user, closes it, and remembers what it holds now.
func (c *scene) use(change func(m *maker)) {
	c.t.Helper()
	v := c.open()
	m := newMaker(c.r.ctx, v, 99)
	change(m)
	m.checkpoint()
	t, err := readTree(c.r.ctx, v)
	m.fail("read", err)
	m.fail("close", v.Close(c.r.ctx))
	c.must(m.err)
	c.s.Want = []tree{t}
	c.s.Anchor, err = c.r.keys.Anchor(c.r.ctx, c.s.ID)
	c.must(err)
}

// copy keeps what is on the disk now.
func (c *scene) copy() *saved {
	c.t.Helper()
	kept := *c.s
	kept.Dir = c.r.fresh()
	c.must(copyTree(c.dir, kept.Dir))
	return &kept
}

// expect says what an attack must lead to. The zero value: all data is there, and fsck finds nothing.
type expect struct {
	refused mount.Class // the mount is refused
	says    string      // part of the error's text
	eio     []string    // exactly these paths fail with EIO, and all else is there
	rows    bool        // rows are not those of the last checkpoint: those near them fail too, but not most; fsck says so
	fsck    []string    // for each, some fault has it: "part of where | part of what"
}

// expect opens, reads, checks and closes the volume.
func (c *scene) expect(what string, want expect) {
	c.t.Helper()
	began := time.Now()
	v, err := open(c.r.ctx, c.r.keys, c.dir)
	if err != nil {
		c.refused(what, want, err, began)
		return
	}
	c.opened(what, want, v)
	_ = v.Close(c.r.ctx) // an error says more about the damage
}

func (c *scene) refused(what string, want expect, err error, began time.Time) {
	c.t.Helper()
	if class := mount.ClassOf(err); class != want.refused || !strings.Contains(err.Error(), want.says) {
		c.t.Errorf("%s: refused: %s (%v), want %q with %q", what, class, err, want.refused, want.says)
	}
	if want.refused == mount.ClassInUse { // nothing was changed
		return
	}
	if events := c.violations(began); !slices.ContainsFunc(events, func(e *audit.Event) bool { return strings.Contains(e.ErrorMessage, want.says) && c.about(e) }) {
		c.t.Errorf("%s: refused (%v), but of %d events none says so", what, err, len(events))
	}
}

// violations returns what was recorded since then as found changed, in the volume's stream of the audit log and in the key daemon's.
func (c *scene) violations(since time.Time) (events []*audit.Event) {
	c.t.Helper()
	q := trail.Query{Since: since.Truncate(time.Millisecond), Name: audit.Damage, Internal: true}
	c.must(trail.Search(c.r.ctx, filepath.Dir(keystore.LogPath(c.r.keys.dir)), q, func(f trail.Found) error {
		events = append(events, f.Event)
		return nil
	}))
	return events
}

// about tells whether an event is about this volume: by its id, or by its directory where the id was lost.
func (c *scene) about(e *audit.Event) bool {
	return e.Volume == c.s.ID.String() || e.Parameters["directory"] == c.dir
}

// opened is expect for a volume that is open.
func (c *scene) opened(what string, want expect, v *mount.Volume) {
	c.t.Helper()
	if want.refused != "" {
		c.t.Errorf("%s: opens, want it refused: %s", what, want.refused)
		return
	}
	got := compare(c.r.ctx, v, c.want())
	slices.Sort(want.eio)
	slices.Sort(got.eio)
	if want.rows {
		want.fsck = append(want.fsck, "rows | rows from ")
		for _, path := range want.eio {
			if !slices.Contains(got.eio, path) {
				c.t.Errorf("%s: no EIO from %q", what, path)
			}
		}
		if len(got.eio) > len(c.want())*2/3 && !slices.Contains(want.eio, "/") {
			c.t.Errorf("%s: %d of %d files fail", what, len(got.eio), len(c.want()))
		}
	} else if !slices.Equal(got.eio, want.eio) {
		c.t.Errorf("%s: EIO from %q, want %q", what, got.eio, want.eio)
	}
	if len(got.wrong) > 0 {
		c.t.Errorf("%s: other data: %q", what, got.wrong)
	}
	c.fsck(what, want.fsck, v)
}

func (c *scene) fsck(what string, want []string, v *mount.Volume) {
	c.t.Helper()
	began := time.Now()
	var faults []mount.Fault
	sum, err := v.Check(c.r.ctx, false, func(f mount.Fault) error {
		faults = append(faults, f)
		return nil
	})
	if err != nil {
		c.t.Errorf("%s: fsck: %v", what, err)
	}
	if len(want) == 0 && sum.Faults > 0 {
		c.t.Errorf("%s: fsck finds %v", what, faults)
	}
	for _, w := range want {
		where, which, _ := strings.Cut(w, " | ")
		if !slices.ContainsFunc(faults, func(f mount.Fault) bool { return strings.Contains(f.Where, where) && strings.Contains(f.What, which) }) {
			c.t.Errorf("%s: fsck does not find %q: %v", what, w, faults)
		}
	}
	c.recorded(what, faults, began)
}

// recorded checks that there is an event for each fault, which says what was found and where.
func (c *scene) recorded(what string, faults []mount.Fault, began time.Time) {
	c.t.Helper()
	told := map[string]bool{}
	for _, e := range c.violations(began) {
		told[e.ErrorMessage] = c.about(e)
	}
	for _, f := range faults {
		if !told[f.Where+": "+f.What] {
			c.t.Errorf("%s: no event for %v", what, f)
		}
	}
}

// inThreatModel checks that docs/THREATMODEL.md has a sentence, however its lines are broken.
func (c *scene) inThreatModel(sentence string) { inThreatModel(c.t, sentence) }

func inThreatModel(t *testing.T, sentence string) {
	t.Helper()
	b, err := os.ReadFile("../../docs/THREATMODEL.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(strings.Fields(string(b)), " "), sentence) {
		t.Errorf("docs/THREATMODEL.md does not say %q any more", sentence)
	}
}

// pieces reads the blocks of a file one by one: those named must fail with EIO, the others be there.
func (c *scene) pieces(ctx context.Context, v *mount.Volume, name string, blocks int, bad ...int) {
	c.t.Helper()
	r := reader{ctx, v}
	for i := range blocks {
		_, err := r.piece(c.ino(name), uint64(i)*block, block)
		if (err != nil) != slices.Contains(bad, i) {
			c.t.Errorf("block %d of %s: %v", i, name, err)
		}
	}
}
