package powercut

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/fs"
	"github.com/kmsfs/kmsfs/fs/content"
	"github.com/kmsfs/kmsfs/fs/object"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv"
	"github.com/kmsfs/kmsfs/meta/kv/local"
	"github.com/kmsfs/kmsfs/meta/metatest"
)

// Sizes of a simulated volume: a journal small enough to run full, large enough for every transaction of these tests.
const (
	simSegmentSize = 512 << 10
	simJournalSize = 8 * simSegmentSize
)

// simKeys is what a volume keeps from opening to opening.
type simKeys struct {
	volume           *metatest.Volume
	id               blockcrypt.VolumeID
	journal, objects *blockcrypt.Key
}

// simVolume is a volume at rest: a simulated disk below journal and objects, a directory for Badger, whose files are real.
type simVolume struct {
	keys *simKeys
	disk *simDisk
	dir  string
	safe string // a copy of Badger's directory as of its last sync
}

// simOptions say what a simulated volume is like.
type simOptions struct {
	blockSize uint32
	inline    int
	codec     meta.Codec
}

func newKey(t testing.TB) *blockcrypt.Key {
	t.Helper()
	k, err := blockcrypt.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// newSimVolume makes a volume with an empty root.
func newSimVolume(t testing.TB, o simOptions) *simVolume {
	t.Helper()
	id, err := blockcrypt.NewVolumeID()
	if err != nil {
		t.Fatal(err)
	}
	v := &simVolume{keys: &simKeys{id: id, journal: newKey(t), objects: newKey(t)}, disk: newSimDisk(), dir: filepath.Join(t.TempDir(), "vol")}
	opts := v.localOptions()
	if err := local.Create(context.Background(), opts); err != nil {
		t.Fatal(err)
	}
	store, err := local.Open(context.Background(), opts)
	if err != nil {
		t.Fatal(err)
	}
	v.keys.volume = metatest.NewVolumeOn(t, store)
	zone, err := v.keys.volume.Zone(context.Background(), meta.RootZone)
	if err == nil {
		zone.Params = meta.Params{BlockSize: o.blockSize, Codec: o.codec, Level: o.codec.DefaultLevel(), Inline: uint32(o.inline)}
		_, err = v.keys.volume.PutZone(context.Background(), zone)
	}
	if err := errors.Join(err, store.Close()); err != nil {
		t.Fatal(err)
	}
	v.disk = v.disk.after(rand.New(rand.NewPCG(0, 0)))
	return v
}

func (v *simVolume) localOptions() local.Options {
	return local.Options{Dir: v.dir, Volume: v.keys.id, Key: v.keys.journal, SegmentSize: simSegmentSize, MaxJournal: simJournalSize, MinFree: -1,
		Files: simJournal{v.disk}}
}

func (v *simVolume) badger() string { return filepath.Join(v.dir, "meta") }

// keep notes that Badger's files are durable as they are.
func (v *simVolume) keep(t testing.TB) {
	t.Helper()
	if v.safe != "" {
		os.RemoveAll(v.safe)
	}
	v.safe = filepath.Join(t.TempDir(), "safe")
	copyBadger(t, v.badger(), v.safe)
}

// step takes a step of a checkpoint for one of the disk's, so that the power can be cut there.
func (v *simVolume) step(t testing.TB, name string) {
	v.disk.mu.Lock()
	err := v.disk.step("checkpoint", name)
	v.disk.mu.Unlock()
	if err == nil && name == "(badger is synced)" {
		v.keep(t)
	}
}

// discard removes what lies in directories.
func (v *simVolume) discard() {
	os.RemoveAll(v.dir)
	os.RemoveAll(v.safe)
}

// killed returns the volume as the death of its process leaves it.
func (v *simVolume) killed(t testing.TB) *simVolume {
	t.Helper()
	dir := t.TempDir()
	twin := &simVolume{keys: v.keys, disk: v.disk.copy(), dir: filepath.Join(dir, "vol"), safe: filepath.Join(dir, "safe")}
	copyBadger(t, v.badger(), twin.badger())
	copyBadger(t, v.safe, twin.safe)
	if err := os.Mkdir(filepath.Join(twin.dir, "journal"), 0o700); err != nil {
		t.Fatal(err)
	}
	return twin
}

// cutOff returns the volume as a power cut leaves it. badger is a copy of Badger's directory as it was then.
func (v *simVolume) cutOff(t testing.TB, rng *rand.Rand, badger string) *simVolume {
	t.Helper()
	left := &simVolume{keys: v.keys, disk: v.disk.after(rng), dir: filepath.Join(t.TempDir(), "vol")}
	copyBadger(t, badger, left.badger())
	if v.safe != "" {
		mixBadger(t, rng, v.safe, left.badger())
	}
	if err := os.Mkdir(filepath.Join(left.dir, "journal"), 0o700); err != nil {
		t.Fatal(err)
	}
	return left
}

// running is an open simulated volume.
type running struct {
	t       testing.TB
	at      *simVolume
	objects *object.Store
	kv      *local.Store
	above   kvStore // what those above see of it
	store   *meta.Store
	content *content.Engine
	fs      *fs.FS
	report  meta.RecoveryReport
}

// simHooks stand between the parts of an open volume.
type simHooks struct {
	kv   func(*local.Store) kvStore  // nil: nothing
	keys func(*running) meta.Keyring // nil: keys that are always there
}

// kvStore is what the parts above need of the KV store.
type kvStore interface {
	kv.Store
	content.Journal
}

// open opens a volume as mount does, and recovers it.
func (v *simVolume) open(t testing.TB, hooks simHooks) (r *running, err error) {
	t.Helper()
	r = &running{t: t, at: v}
	defer func() {
		if err != nil {
			r.close()
			r = nil
		}
	}()
	if r.objects, err = object.Open("", object.Options{Lower: simObjects{v.disk}}); err != nil {
		return r, err
	}
	namer, err := blockcrypt.NewObjectNamer(v.keys.objects)
	if err != nil {
		return r, err
	}
	recovery, err := meta.NewRecovery(v.keys.volume.ID, v.keys.volume.RowsKey)
	if err != nil {
		return r, err
	}
	if v.safe == "" {
		v.keep(t)
	}
	opts := v.localOptions()
	opts.Settler, opts.Replay, opts.Step = content.NewSettler(r.objects, namer), replayInto(recovery), func(name string) { v.step(t, name) }
	if r.kv, err = local.Open(context.Background(), opts); err != nil {
		return r, err
	}
	r.above = r.kv
	if hooks.kv != nil {
		r.above = hooks.kv(r.kv)
	}
	ring := meta.Keyring(v.keys.volume.Keyring)
	if hooks.keys != nil {
		ring = hooks.keys(r)
	}
	r.store = v.keys.volume.Open(t, meta.Config{KV: r.above, Keys: ring, Now: fs.Now})
	if r.report, err = recovery.Finish(context.Background(), r.store, content.Verifier(r.objects, namer)); err != nil {
		return r, err
	}
	r.content, err = content.New(content.Config{
		Meta: r.store, Keys: ring, KV: r.above, Objects: r.objects, Namer: namer,
	})
	if err != nil {
		return r, err
	}
	r.fs, err = fs.New(fs.Config{Meta: r.store, Content: r.content, Keys: ring, Lower: v.dir, NoAtime: true,
		Fatal: func(reason any, stack []byte) { panic(fmt.Sprintf("%v\n%s", reason, stack)) }})
	return r, err
}

func replayInto(recovery *meta.Recovery) func(local.Record) error {
	return func(r local.Record) error {
		return recovery.Replay(func(yield func(key, value []byte) bool) {
			for _, p := range r.Puts {
				if !yield(p.Key, p.Value) {
					return
				}
			}
		}, r.Deletes, r.Before)
	}
}

// begin does what a mount does before and beside the first requests.
func (r *running) begin(checkpoint bool) error {
	ctx := context.Background()
	if err := r.store.Orphans(ctx, func(ino meta.Ino) error { return r.content.Unlinked(ctx, ino) }); err != nil {
		return err
	}
	if !checkpoint {
		return nil
	}
	if err := r.content.Checkpoint(ctx); err != nil {
		return err
	}
	return r.sweep()
}

// sweep gives back the space that a crash has lost.
func (r *running) sweep() error {
	return r.content.CheckObjects(context.Background(), true, func(content.Fault) {})
}

// close closes everything, in a state that the disk allows.
func (r *running) close() error {
	var errs []error
	if r.fs != nil {
		errs = append(errs, r.fs.Close(context.Background()))
	}
	if r.content != nil {
		errs = append(errs, r.content.Close(context.Background()))
	}
	if r.kv != nil {
		errs = append(errs, r.kv.Close())
	}
	if r.objects != nil {
		errs = append(errs, r.objects.Close())
	}
	return errors.Join(errs...)
}

// check is fsck of a volume that has made its first checkpoint.
func (r *running) check() error {
	ctx := context.Background()
	var faults []error
	_, err := r.store.Check(ctx, meta.CheckOptions{Keys: true}, func(f meta.Fault) { faults = append(faults, fmt.Errorf("structure: %+v", f)) })
	if err != nil {
		return err
	}
	inContent := func(f content.Fault) { faults = append(faults, fmt.Errorf("content: %+v", f)) }
	inos, err := r.store.InodesAfter(ctx, 0, 10000)
	if err != nil {
		return err
	}
	for _, ino := range inos {
		a, err := r.store.Getattr(ctx, ino)
		if err != nil {
			return err
		}
		if !a.IsRegular() {
			continue
		}
		if err := r.content.CheckFile(ctx, ino, inContent); err != nil {
			return err
		}
	}
	if err := r.content.CheckObjects(ctx, false, inContent); err != nil {
		return err
	}
	return errors.Join(faults...)
}

// copyBadger copies Badger's directory as it is at one moment. Badger may change it when it likes: then it is copied again.
func copyBadger(t testing.TB, from, to string) {
	t.Helper()
	for range 1000 {
		before := listing(from)
		err := copyFiles(from, to)
		if err == nil && listing(from) == before {
			return
		}
		if err := os.RemoveAll(to); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatalf("%s does not come to rest", from)
}

func listing(dir string) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, e := range entries {
		if st, err := e.Info(); err == nil {
			fmt.Fprintln(&b, e.Name(), st.Size(), st.ModTime().UnixNano())
		}
	}
	return b.String()
}

func copyFiles(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, e := range entries {
		if err := copySparse(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// copySparse copies a file and leaves out pages of zeros, of which Badger's logs are full.
func copySparse(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := out.Truncate(st.Size()); err != nil {
		return err
	}
	return eachPage(in, func(off int64, b []byte) error {
		_, err := out.WriteAt(b, off)
		return err
	})
}

// eachPage calls fn for the pages of a file that are not holes.
func eachPage(f *os.File, fn func(off int64, b []byte) error) error {
	buf := make([]byte, page)
	for off := int64(0); ; {
		data, err := f.Seek(off, 3) // SEEK_DATA
		if err != nil {
			return nil // ENXIO: no more
		}
		hole, err := f.Seek(data, 4) // SEEK_HOLE
		if err != nil {
			return err
		}
		for off = data; off < hole; {
			n, err := f.ReadAt(buf[:min(page, hole-off)], off)
			if n == 0 && err != nil {
				return ignoreEOF(err)
			}
			if err := fn(off, buf[:n]); err != nil {
				return err
			}
			off += int64(n)
		}
	}
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// mixBadger makes of each page of Badger's logs in dir, which are written without a sync, either what it is or what it was when it was last synced.
func mixBadger(t testing.TB, rng *rand.Rand, was, dir string) {
	t.Helper()
	l := newLoss(rng)
	logs, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range logs {
		if !strings.HasSuffix(name, ".mem") && !strings.HasSuffix(name, ".vlog") {
			continue
		}
		old, err := os.ReadFile(filepath.Join(was, filepath.Base(name)))
		if err != nil {
			old = nil // made since: all of it may be missing
		}
		if err := mixLog(name, old, l); err != nil {
			t.Fatal(err)
		}
	}
}

func mixLog(name string, old []byte, l *loss) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var pages []int64
	err = eachPage(f, func(off int64, b []byte) error {
		if string(pageOf(old, off, len(b))) != string(b) {
			pages = append(pages, off)
		}
		return nil
	})
	kept := l.kept(len(pages))
	for i, off := range pages {
		if err == nil && !kept(i) {
			_, err = f.WriteAt(pageOf(old, off, page), off)
		}
	}
	return err
}

// pageOf returns n bytes at off, zeros where b ends.
func pageOf(b []byte, off int64, n int) []byte {
	from := min(int(off), len(b))
	return resized(b[from:min(from+n, len(b))], n)
}
