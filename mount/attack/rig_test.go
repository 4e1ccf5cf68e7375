package attack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/mount"
)

// Sizes of the journal here: a copy of a volume is small, and read quickly.
const (
	segmentSize = 64 << 10
	maxJournal  = 1 << 20
)

// saved is a volume that nobody has open, with what the key store knew of it at that time.
type saved struct {
	Dir    string
	ID     blockcrypt.VolumeID
	Anchor keymgr.Anchor
	Want   []tree   // what it may hold: one tree, or several where an older state is as good
	Before []string // copies of earlier times
}

func long() bool { return os.Getenv("KMSFS_LONG") == "1" }

// tempDir returns a directory in memory if there is one: the tests read and write a lot, and none of it has to last.
func tempDir() (string, error) {
	if dir, err := os.MkdirTemp("/dev/shm", "kmsfs-attack-"); err == nil {
		return dir, nil
	}
	return os.MkdirTemp("", "kmsfs-attack-")
}

func openConfig(d *keyDaemon, dir string) mount.OpenConfig {
	return mount.OpenConfig{
		Dir: dir, Socket: d.socket(), Log: slog.New(slog.DiscardHandler), SegmentSize: segmentSize, MaxJournal: maxJournal,
		GiveUp: func(blockcrypt.VolumeID) error { return errors.New("somebody has it") },
	}
}

// open opens a volume as a mount does: what a crash left without a name is released, and a first checkpoint made. The mount stands, and so does the
// volume here, if that checkpoint fails.
func open(ctx context.Context, d *keyDaemon, dir string) (*mount.Volume, error) {
	v, err := mount.OpenVolume(ctx, openConfig(d, dir))
	if err != nil {
		return nil, err
	}
	if err := v.Meta().Orphans(ctx, func(ino meta.Ino) error { return v.Content().Unlinked(ctx, ino) }); err != nil {
		return nil, errors.Join(err, v.Close(ctx))
	}
	_ = v.Content().Checkpoint(ctx)
	return v, nil
}

// makeVolume makes a volume, and puts fill's files into it in several sittings, so that Badger has more than one table. Of what pads it there are
// pad pieces of every kind.
func makeVolume(ctx context.Context, d *keyDaemon, dir string, pad int) (*saved, error) {
	res, err := mount.Init(ctx, mount.InitConfig{Volume: dir, KeyStore: d.dir})
	if err != nil {
		return nil, err
	}
	s := &saved{Dir: dir}
	if s.ID, err = blockcrypt.ParseVolumeID(res.ID); err != nil {
		return nil, err
	}
	for sitting := range 3 {
		v, err := open(ctx, d, dir)
		if err != nil {
			return nil, err
		}
		m := newMaker(ctx, v, uint64(sitting))
		if sitting == 0 {
			m.fill(pad)
		} else {
			extra := m.dir(1, fmt.Sprint("sitting", sitting))
			m.file(extra, "slots", 5*block+sitting)
			m.file(extra, "inline", 50*sitting)
		}
		m.checkpoint()
		t, terr := readTree(ctx, v)
		s.Want = []tree{t}
		if err := errors.Join(m.err, terr, v.Close(ctx)); err != nil {
			return nil, err
		}
		before := fmt.Sprintf("%s.%d", dir, sitting)
		if err := copyTree(dir, before); err != nil {
			return nil, err
		}
		s.Before = append(s.Before, before)
	}
	s.Anchor, err = d.Anchor(ctx, s.ID)
	return s, err
}

// copyTo copies a saved volume, and makes the key store believe that the copy is its newest state.
func (s *saved) copyTo(ctx context.Context, d *keyDaemon, dir string) error {
	if err := copyTree(s.Dir, dir); err != nil {
		return err
	}
	return d.setAnchor(ctx, s.ID, s.Anchor)
}

// kill changes a copy of s as maker.change does, and returns it as a process that was killed would leave it. With anchored, the key store knows its
// last record; otherwise every state since the checkpoint before is as good.
func (s *saved) kill(ctx context.Context, d *keyDaemon, dir string, anchored bool) (*saved, error) {
	work := dir + ".work"
	if err := s.copyTo(ctx, d, work); err != nil {
		return nil, err
	}
	v, err := open(ctx, d, work)
	if err != nil {
		return nil, err
	}
	out := &saved{Dir: dir, ID: s.ID}
	m := newMaker(ctx, v, 77)
	m.dir(meta.RootIno, "own history") // another one than that of other copies of s
	m.checkpoint()
	note := func() {
		t, err := readTree(ctx, v)
		m.fail("read", err)
		out.Want = append(out.Want, t)
	}
	if out.Anchor, err = d.Anchor(ctx, s.ID); err == nil {
		note()
		m.change(s.Want[0], note)
		err = errors.Join(m.err, copyStable(work, dir))
	}
	if anchored {
		h := v.Journal().Head()
		out.Anchor = keymgr.Anchor{Generation: h.Generation, Sequence: h.Sequence, Head: h.Tag}
		out.Want = out.Want[len(out.Want)-1:]
	}
	return out, errors.Join(err, v.Close(ctx), os.RemoveAll(work))
}

// rig is a key store and volumes for one test.
type rig struct {
	t    *testing.T
	ctx  context.Context
	dir  string
	keys *keyDaemon
	n    int
}

func newRig(t *testing.T) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	dir, err := tempDir()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, ctx: ctx, dir: dir}
	t.Cleanup(func() {
		if r.keys != nil {
			if err := r.keys.stop(); err != nil {
				t.Errorf("stop the key manager: %v", err)
			}
		}
		cancel()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := makeKeyStore(ctx, dir); err != nil {
		t.Fatal(err)
	}
	if r.keys, err = startKeys(filepath.Join(dir, "keys")); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) fresh() string {
	r.n++
	return r.path(fmt.Sprint("v", r.n))
}

func (r *rig) volume(t *testing.T, pad int) *saved {
	t.Helper()
	s, err := makeVolume(r.ctx, r.keys, r.fresh(), pad)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (r *rig) killed(t *testing.T, s *saved, anchored bool) *saved {
	t.Helper()
	out, err := s.kill(r.ctx, r.keys, r.fresh(), anchored)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
