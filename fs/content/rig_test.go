package content

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/fs/object"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv"
	"github.com/kmsfs/kmsfs/meta/kv/local"
	"github.com/kmsfs/kmsfs/meta/kv/memory"
	"github.com/kmsfs/kmsfs/meta/metatest"
)

var ctx = context.Background()

// tester is what a rig needs of *testing.T, so that it works within rapid too.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
	Cleanup(func())
}

// rigOptions says what volume a rig has.
type rigOptions struct {
	disk      bool // kv/local in a directory, else memory
	inline    int
	blockSize uint32
	codec     meta.Codec                      // of new files, at its default level
	lower     func(object.Lower) object.Lower // wraps the objects directory
	maxUses   uint64
	direct    bool // files move by direct writes, however small
	small     bool // new small files begin in the journal, as in a volume; without, they have objects at once
	atOnce    uint64
	large     bool // with disk: the journal is as large as a volume's
	cutting   bool // with disk: journal and objects lie on disks that forget (see cutPower)
	untidy    bool // leave out the checkpoint that Run begins with
	scarce    bool // with disk: caches, descriptors and the journal are as small as can be
}

// store is a KV store with what the engine needs besides.
type store interface {
	kv.Store
	Journal
}

// rig is a volume with an engine, without a kernel.
type rig struct {
	t    tester
	tb   testing.TB
	opts rigOptions
	dir  string

	journalKey, objectsKey *blockcrypt.Key
	kvID                   blockcrypt.VolumeID
	kept                   *memory.Store
	vol                    *metatest.Volume

	journalDisk, objectsDisk *disk

	objects *object.Store
	namer   *blockcrypt.ObjectNamer
	kv      store
	meta    *meta.Store
	eng     *Engine
	report  meta.RecoveryReport
	names   int
}

func newRig(t testing.TB, opts rigOptions) *rig {
	t.Helper()
	return newRigFor(t, t, opts)
}

// newRigFor makes a rig that reports to t, which may be a rapid.T within tb.
func newRigFor(tb testing.TB, t tester, opts rigOptions) *rig {
	t.Helper()
	if opts.blockSize == 0 {
		opts.blockSize = 4096
	}
	r := &rig{t: t, tb: tb, opts: opts, dir: tempDir(t), journalKey: newTestKey(t), objectsKey: newTestKey(t)}
	must(t, os.Mkdir(filepath.Join(r.dir, "objects"), 0o700))
	if opts.cutting {
		r.journalDisk, r.objectsDisk = newDisk(), newDisk()
	}
	if opts.disk {
		id, err := blockcrypt.NewVolumeID()
		must(t, err)
		r.kvID = id
		must(t, local.Create(ctx, r.localOptions()))
		s, err := local.Open(ctx, r.localOptions())
		must(t, err)
		r.vol = metatest.NewVolumeOn(tb, s)
		must(t, s.Close())
	} else {
		r.kept = memory.New()
		r.vol = metatest.NewVolumeOn(tb, r.kept)
	}
	r.open()
	r.rezone(*r.params())
	t.Cleanup(r.shut)
	return r
}

// rezone changes the parameters of the zone, which files get when they are re-encrypted.
func (r *rig) rezone(p meta.Params) {
	r.t.Helper()
	_, _, err := r.meta.ChangeZone(ctx, meta.RootZone, nil, func(z *meta.Zone) error {
		z.Params = p
		return nil
	})
	must(r.t, err)
}

// tempDir makes a directory that shut or reopenAt removes: not before the store in it is closed.
func tempDir(t tester) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "content")
	must(t, err)
	return dir
}

func (r *rig) localOptions() local.Options {
	o := local.Options{Dir: r.dir, Key: r.journalKey, Volume: r.kvID, SegmentSize: 3 << 20, MaxJournal: 9 << 20, MinFree: -1}
	if r.opts.large {
		o.SegmentSize, o.MaxJournal = 0, 0
	}
	if r.opts.scarce && r.opts.blockSize == 4096 { // larger ones take larger segments
		o.SegmentSize, o.MaxJournal = 256<<10, 768<<10
	}
	if r.journalDisk != nil {
		o.Files = journalDisk{r.journalDisk}
	}
	return o
}

// open opens the volume and recovers it.
func (r *rig) open() {
	r.t.Helper()
	var objectOpts object.Options
	if r.opts.scarce {
		objectOpts.Descriptors = 1
	}
	var err error
	switch {
	case r.objectsDisk != nil:
		objectOpts.Lower = lowerDisk{r.objectsDisk}
	case r.opts.lower != nil:
		objectOpts.Lower, err = object.OpenLower(filepath.Join(r.dir, "objects"))
		must(r.t, err)
	}
	if r.opts.lower != nil {
		objectOpts.Lower = r.opts.lower(objectOpts.Lower)
	}
	r.objects, err = object.Open(filepath.Join(r.dir, "objects"), objectOpts)
	must(r.t, err)
	r.namer, err = blockcrypt.NewObjectNamer(r.objectsKey)
	must(r.t, err)
	settler := NewSettler(r.objects, r.namer)
	recovery, err := meta.NewRecovery(r.vol.ID, r.vol.RowsKey)
	must(r.t, err)
	if r.opts.disk {
		o := r.localOptions()
		o.Settler = settler
		o.Replay = func(rec local.Record) error {
			return recovery.Replay(func(yield func(k, v []byte) bool) {
				for _, p := range rec.Puts {
					if !yield(p.Key, p.Value) {
						return
					}
				}
			}, rec.Deletes, rec.Before)
		}
		s, err := local.Open(ctx, o)
		must(r.t, err)
		r.kv = s
	} else {
		r.kv = &settling{Store: r.kept, settler: settler}
	}
	r.meta = r.vol.Open(r.tb, meta.Config{KV: r.kv})
	r.report, err = recovery.Finish(ctx, r.meta, Verifier(r.objects, r.namer))
	must(r.t, err)
	r.eng, err = New(Config{Meta: r.meta, Keys: r.vol.Keyring, KV: r.kv, Objects: r.objects, Namer: r.namer})
	must(r.t, err)
	if r.opts.scarce {
		r.eng.rows, r.eng.ciphers = newLRU[rowKey, *meta.MapRow](2), newLRU[cipherKey, *cipherEntry](1)
	}
	if r.opts.maxUses != 0 {
		r.eng.maxUses = r.opts.maxUses
	}
	if !r.opts.small {
		r.eng.small = 0
	}
	if r.opts.direct {
		r.eng.byImage = 0
	}
	if r.opts.atOnce != 0 {
		r.eng.atOnce = r.opts.atOnce
	}
	if !r.opts.untidy {
		must(r.t, r.eng.Checkpoint(ctx))
	}
}

// shut closes the volume without looking at errors.
func (r *rig) shut() {
	if r.kv == nil {
		return
	}
	r.kv.Close()
	r.objects.Close()
	r.kv = nil
	os.RemoveAll(r.dir)
}

// remount closes the volume cleanly and opens it again.
func (r *rig) remount() {
	r.t.Helper()
	must(r.t, r.eng.Close(ctx))
	must(r.t, r.kv.Close())
	must(r.t, r.objects.Close())
	r.open()
}

// copyDir returns a copy of the volume's directory as it is now: what a daemon killed at this moment leaves behind.
func (r *rig) copyDir() string {
	r.t.Helper()
	dir := tempDir(r.t)
	copyTree(r.t, r.dir, dir, ".")
	return dir
}

// kill abandons the volume and opens what lies on disk.
func (r *rig) kill() {
	r.t.Helper()
	if !r.opts.disk { // memory keeps all that was committed
		r.objects.Close()
		r.open()
		return
	}
	r.reopenAt(r.copyDir())
}

// cutPower cuts the power and opens what is left. Badger's directory stays as it is: it is written during checkpoints only, and those are over.
func (r *rig) cutPower(rng *rand.Rand) {
	r.t.Helper()
	r.openAfterCut(r.journalDisk.cut(rng), r.objectsDisk.cut(rng))
}

// openAfterCut opens what a power cut has left.
func (r *rig) openAfterCut(journal, objects *disk) {
	r.t.Helper()
	dir := tempDir(r.t)
	must(r.t, os.Mkdir(filepath.Join(dir, "journal"), 0o700))
	copyTree(r.t, r.dir, dir, "meta")
	must(r.t, r.kv.Close()) // changes the old disks only
	r.objects.Close()
	os.RemoveAll(r.dir)
	r.dir, r.journalDisk, r.objectsDisk = dir, journal, objects
	r.open()
}

// reopenAt lets go of the volume and opens the one in dir.
func (r *rig) reopenAt(dir string) {
	r.t.Helper()
	r.kv.Close() // changes the old directory only
	r.objects.Close()
	os.RemoveAll(r.dir)
	r.dir = dir
	r.open()
}

// create makes a regular file.
func (r *rig) create() meta.Ino {
	r.t.Helper()
	r.names++
	a, err := r.meta.Create(ctx, meta.RootIno, fmt.Appendf(nil, "file%d", r.names),
		meta.NewNode{Mode: meta.ModeRegular | 0o644, Params: r.params()})
	must(r.t, err)
	return a.Ino
}

// params returns those of new files.
func (r *rig) params() *meta.Params {
	p := meta.Params{BlockSize: r.opts.blockSize, Inline: uint32(r.opts.inline)}
	if p.BlockSize == 0 {
		p.BlockSize = meta.DefaultBlockSize
	}
	p.Codec, p.Level = r.opts.codec, r.opts.codec.DefaultLevel()
	return &p
}

// file opens a new regular file; the test closes it, or not.
func (r *rig) file() *File {
	r.t.Helper()
	return r.openFile(r.create())
}

func (r *rig) openFile(ino meta.Ino) *File {
	r.t.Helper()
	f, err := r.eng.Open(ctx, ino)
	must(r.t, err)
	return f
}

// objectPath returns the lower file of an inode.
func (r *rig) objectPath(f *File) string {
	r.t.Helper()
	a, err := f.Attr(ctx)
	must(r.t, err)
	name := r.namer.ID(uint64(f.Ino()), a.Serial).String()
	return filepath.Join(r.dir, "objects", name[:2], name)
}

// check fails the test if anything about the volume is wrong.
func (r *rig) check(inos ...meta.Ino) {
	r.t.Helper()
	_, err := r.meta.Check(ctx, meta.CheckOptions{Keys: true}, func(f meta.Fault) { r.t.Errorf("structure: %+v", f) })
	must(r.t, err)
	for _, ino := range inos {
		must(r.t, r.eng.CheckFile(ctx, ino, func(f Fault) { r.t.Errorf("content: %+v", f) }))
	}
	must(r.t, r.eng.CheckObjects(ctx, false, func(f Fault) {
		if !f.Kind.Leftover() {
			r.t.Errorf("objects: %+v", f)
		}
	}))
}

// settling makes checkpoints of a store in memory: images go to their slots.
type settling struct {
	*memory.Store
	settler *Settler
	mu      sync.Mutex
	hastens atomic.Int64
}

func (s *settling) Checkpoint(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows := map[string]string{}
	err := s.View(ctx, func(r kv.Reader) error {
		return r.Scan(ctx, []byte{'B'}, []byte{'N'}, 0, func(k, v []byte) bool {
			if s.settler.JournalOnly(k) {
				rows[string(k)] = string(v)
			}
			return true
		})
	})
	if err != nil {
		return err
	}
	for k, v := range rows {
		if err := s.settler.Settle(ctx, []byte(k), []byte(v)); err != nil {
			return err
		}
	}
	if err := s.settler.Sync(ctx); err != nil {
		return err
	}
	for k, v := range rows {
		if _, err := s.Update(ctx, kv.OpID{}, func(tx kv.Txn) error {
			now, err := tx.Get(ctx, []byte(k))
			if err == nil && string(now[0]) == v {
				tx.Delete([]byte(k))
			}
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

func (s *settling) Hasten() { s.hastens.Add(1) }

func (s *settling) CheckpointDue() <-chan struct{} { return nil }

func (s *settling) Backlog() (waiting, due int64) { return 0, 1 << 20 }

// Close leaves the rows for the next open.
func (s *settling) Close() error { return nil }

func must(t tester, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t tester, err error, want ...error) {
	t.Helper()
	for _, w := range want {
		if !errors.Is(err, w) {
			t.Fatalf("error is %v, want %v", err, w)
		}
	}
}

func newTestKey(t tester) *blockcrypt.Key {
	t.Helper()
	k, err := blockcrypt.NewKey()
	must(t, err)
	return k
}

// copyTree copies regular files and directories of from/part to to/part as they were at one moment: it starts again if anything changed meanwhile
// (Badger compacts when it likes).
func copyTree(t tester, from, to, part string) {
	t.Helper()
	from, to = filepath.Join(from, part), filepath.Join(to, part)
	for range 100 {
		before := listing(from)
		err := copyOnce(from, to)
		if err == nil && listing(from) == before {
			return
		}
		must(t, os.RemoveAll(to))
	}
	t.Fatalf("%s does not stay as it is", from)
}

// listing describes a tree: names, sizes, times.
func listing(dir string) string {
	var out strings.Builder
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			fmt.Fprintln(&out, path, info.Size(), info.ModTime().UnixNano())
		}
		return err
	})
	return out.String()
}

func copyOnce(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, b, 0o600)
	})
}

// pattern returns n bytes that depend on seed; where files are compressed, some of them can be.
func (r *rig) pattern(n int, seed uint64) []byte {
	p := pattern(n, seed)
	if r.opts.codec == meta.CodecNone {
		return p
	}
	words := pattern(64, seed) // repeated
	from, to := 0, n
	switch seed % 5 {
	case 0:
		return noise(n, byte(seed))
	case 1:
		from = n / 2
	case 2:
		to = n / 3
	}
	for i := from; i < to; i++ {
		p[i] = words[i%(1+int(seed%61))]
	}
	return p
}

// pattern returns n bytes that depend on seed and are all different from zero.
func pattern(n int, seed uint64) []byte {
	b := make([]byte, n)
	x := seed*0x9e3779b97f4a7c15 + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x) | 1
	}
	return b
}

func mustRead(t tester, f *File, off uint64, n int) []byte {
	t.Helper()
	p := make([]byte, n)
	for i := range p {
		p[i] = 0xee
	}
	got, err := f.ReadAt(ctx, p, off)
	must(t, err)
	return p[:got]
}

func mustWrite(t tester, f *File, p []byte, off uint64) {
	t.Helper()
	n, err := f.WriteAt(ctx, p, off, WriteOpts{})
	must(t, err)
	if n != len(p) {
		t.Fatalf("wrote %d of %d bytes", n, len(p))
	}
}

// editRow changes a raw row behind the volume's back.
func (r *rig) editRow(key []byte, fn func(v []byte) []byte) {
	r.t.Helper()
	_, err := r.kv.Update(ctx, kv.OpID{}, func(tx kv.Txn) error {
		v, err := tx.Get(ctx, key)
		if err != nil {
			return err
		}
		if v[0] == nil {
			return fmt.Errorf("row %x is not there", key)
		}
		tx.Put(key, fn(append([]byte(nil), v[0]...)))
		return nil
	})
	must(r.t, err)
}
