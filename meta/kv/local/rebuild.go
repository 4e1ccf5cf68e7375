package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// Names beside meta/.
const (
	rebuildName = "meta.new"     // being made
	damagedName = "meta.damaged" // what a rebuild has replaced
)

// RebuildOptions are what Rebuild may do.
type RebuildOptions struct {
	// AcceptLoss takes the state at which the export ends where the journal does not go on from there, or does not contain Options.Head: what
	// came after is lost. Without, Rebuild refuses.
	AcceptLoss bool

	// Progress is called now and then with the number of rows written so far. Nil: nobody asks.
	Progress func(rows uint64)
}

// RebuildReport says what Rebuild has done.
type RebuildReport struct {
	Rows     uint64 // that the export had
	Exported uint64 // record at which it ends
	Sequence uint64 // last record of the store now
	Replayed int    // records of the journal that follow
	Lost     error  // why what came after Exported is lost, nil if nothing is
	Damaged  string // where the old directory lies now, "" if there was none
}

// Rebuild makes Badger's directory anew from the export, and checks that the journal goes on from there and contains opts.Head, before it takes the old
// one's place. So it ends with the newest durable state, or changes nothing, also where it is interrupted. The store must not be open; Dir, Volume, Key,
// Head, Replay, Log, and sizes are used.
//
// Errors: kv.ErrCorrupt if export and journal together do not hold the state, kv.ErrRollback, kv.ErrLocked, kv.ErrNoSpace, the system's.
func Rebuild(ctx context.Context, opts Options, how RebuildOptions) (rep RebuildReport, err error) {
	if opts, err = opts.withDefaults(); err != nil {
		return rep, err
	}
	target := opts
	target.meta, target.Ballast, target.Export = rebuildName, false, false
	if err := notInUse(metaDir(opts)); err != nil {
		return rep, err
	}
	if err := os.RemoveAll(metaDir(target)); err != nil {
		return rep, err
	}
	b := rebuilder{opts: target, how: how, rep: &rep}
	if err := b.build(ctx); err != nil {
		return rep, errors.Join(fmt.Errorf("rebuild the store in %s: %w", opts.Dir, err), os.RemoveAll(metaDir(target)))
	}
	rep.Damaged, err = exchange(opts.Dir)
	return rep, err
}

// notInUse refuses a directory that Badger has open.
func notInUse(dir string) error {
	err := lock(dir, unix.LOCK_EX)
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil
	}
	return err
}

// exchange puts the new directory in the old one's place, which is kept under another name.
func exchange(dir string) (damaged string, err error) {
	from, to, old := filepath.Join(dir, rebuildName), filepath.Join(dir, metaName), filepath.Join(dir, damagedName)
	if _, err := os.Lstat(to); errors.Is(err, fs.ErrNotExist) {
		if err := os.Rename(from, to); err != nil {
			return "", err
		}
		return "", syncDir(dir)
	}
	if err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE); err != nil {
		return "", os.NewSyscallError("exchange "+from+" and "+to, err)
	}
	if err := syncDir(dir); err != nil {
		return "", err
	}
	if err := errors.Join(os.RemoveAll(old), os.Rename(from, old)); err != nil {
		return "", err
	}
	return old, syncDir(dir)
}

// rebuilder carries one rebuild through its steps.
type rebuilder struct {
	opts  Options // of the new directory
	how   RebuildOptions
	rep   *RebuildReport
	chain []exportFile
}

func (b *rebuilder) build(ctx context.Context) (err error) {
	if b.chain, err = findExport(exportDir(b.opts), b.opts.Key, b.opts.Volume); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("find the metadata export: %w", err)
	}
	b.rep.Exported = exportEnd(b.chain).seq
	for _, dir := range []string{metaDir(b.opts), journalDir(b.opts)} {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return noSpace(err)
		}
	}
	if err := b.fill(ctx); err != nil {
		return err
	}
	err = b.try(ctx)
	if err == nil {
		return nil
	}
	if !errors.Is(err, kv.ErrCorrupt) && !errors.Is(err, kv.ErrRollback) {
		return err
	}
	if !b.acceptable() {
		return b.explain(err)
	}
	b.rep.Lost = err
	if b.closedHere() { // nothing came after it
		b.rep.Lost = nil
	}
	return b.restart(ctx)
}

// closedHere reports whether the store is known to have been closed at the end of the export: then it needs no journal.
func (b *rebuilder) closedHere() bool {
	head := b.opts.Head
	return head.Closed && len(b.chain) > 0 && exportEnd(b.chain) == point{head.Sequence, head.Tag}
}

// acceptable reports whether the end of the export may be the store's.
func (b *rebuilder) acceptable() bool {
	return len(b.chain) > 0 && (b.closedHere() || b.how.AcceptLoss)
}

// explain says what is lost.
func (b *rebuilder) explain(err error) error {
	if len(b.chain) == 0 {
		return fmt.Errorf("there is no metadata export, and the journal does not reach back to the beginning: names, sizes and keys of all files are lost; "+
			"only a backup has them: %w", err)
	}
	return fmt.Errorf("the metadata export ends at record %d, and what came after it is lost: %w", b.rep.Exported, err)
}

// fill makes Badger from the export.
func (b *rebuilder) fill(ctx context.Context) (err error) {
	if err := roomToRebuild(b.opts, b.chain); err != nil {
		return err
	}
	sources, done, err := openExports(exportDir(b.opts), b.chain, b.opts.Key, b.opts.Volume)
	if err != nil {
		return err
	}
	defer done()
	db, err := openBadger(b.opts)
	if err != nil {
		return err
	}
	err = b.write(ctx, db, sources)
	if cerr := closeBadger(b.opts, db); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return syncAll(metaDir(b.opts))
}

// roomToRebuild refuses a disk that has no room for another copy of the rows and for Badger at work.
func roomToRebuild(opts Options, chain []exportFile) error {
	if opts.MinFree < 0 {
		return nil
	}
	rows := int64(0)
	for _, f := range chain {
		rows += f.size
	}
	need := workBeside(opts, 0, rows) + 2*rows
	free, err := freeAt(opts.Dir)
	if err == nil && free < uint64(need) {
		err = fmt.Errorf("%d bytes free, %d needed: %w", free, need, kv.ErrNoSpace)
	}
	return err
}

// write puts all rows, their freshness table and the checkpoint row.
func (b *rebuilder) write(ctx context.Context, db *badger.DB, sources []source) error {
	keys, err := newFreshKeys(b.opts.Key, b.opts.Volume)
	if err != nil {
		return err
	}
	defer keys.wipe()
	batch := db.NewWriteBatchAt(firstStamp)
	defer batch.Cancel()
	table := tableBuilder{next: &freshTable{keys: keys, nextID: 1}, put: batch.Set}
	err = mergeExports(ctx, sources, func(k, v []byte) error {
		if v == nil {
			return nil
		}
		k, v = append([]byte(nil), k...), append([]byte(nil), v...)
		if b.rep.Rows++; b.how.Progress != nil && b.rep.Rows%4096 == 0 {
			b.how.Progress(b.rep.Rows)
		}
		if err := table.add(k, v); err != nil {
			return err
		}
		return batch.Set(k, v)
	})
	if err != nil {
		return err
	}
	tag, err := table.finish()
	if err != nil {
		return err
	}
	if err := batch.Flush(); err != nil {
		return err
	}
	mac, err := checkpointMACKey(b.opts.Key, b.opts.Volume)
	if err != nil {
		return err
	}
	defer mac.Wipe()
	return writeCheckpoint(db, mac, b.checkpoint(tag), firstStamp+1)
}

// checkpoint is that of the end of the export.
func (b *rebuilder) checkpoint(table [sumSize]byte) checkpoint {
	c := checkpoint{stamp: firstStamp, table: table}
	if n := len(b.chain); n > 0 {
		last := b.chain[n-1]
		c.point, c.generation, c.heads = last.to, last.generation, last.heads
	}
	return c
}

// try opens what was made, with the journal, as a reader: nothing is changed by that.
func (b *rebuilder) try(ctx context.Context) error {
	opts := b.opts
	opts.ReadOnly = true
	s, err := Open(ctx, opts)
	if err != nil {
		return err
	}
	b.rep.Replayed, b.rep.Sequence = s.recovered.Records, s.seq
	return s.Close()
}

// restart has the history go on at the end of the export: with an empty segment whose number is above all others.
func (b *rebuilder) restart(ctx context.Context) error {
	if err := continueAt(b.opts, b.chain[len(b.chain)-1]); err != nil {
		return err
	}
	opts := b.opts
	if b.rep.Lost != nil {
		opts.Head = Head{}
	}
	b.opts = opts
	return b.try(ctx)
}

// continueAt writes a segment without records that follows the end of an export, durably. Its number is above those of all others, so it is the one
// that recovery finds; what they hold of another branch is never read.
func continueAt(opts Options, last exportFile) error {
	names, err := opts.Files.List()
	if err != nil {
		return err
	}
	number, files := uint64(1), &supply{files: opts.Files}
	for _, name := range names {
		files.avoid(name)
		h, ok, err := segmentNumber(opts, name)
		if err != nil {
			return err
		}
		if ok {
			number = max(number, h.number+1)
		}
	}
	f, err := files.make(fmt.Sprintf("%08d%s", files.nextName, segmentSuffix), firstSegment(opts))
	if err != nil {
		return err
	}
	defer f.file.Close()
	h, err := newSegmentHeader(number, last.generation, last.to.seq+1, last.to.tag)
	if err != nil {
		return err
	}
	aead, err := segmentAEAD(opts.Key, opts.Volume, h)
	if err != nil {
		return err
	}
	if _, err := f.file.WriteAt(h.encode(opts.Volume, aead), 0); err != nil {
		return noSpace(err)
	}
	return f.file.Datasync()
}

// segmentNumber reads the header of a segment; ok is false for a file that is none.
func segmentNumber(opts Options, name string) (h segmentHeader, ok bool, err error) {
	f, err := opts.Files.Open(name)
	if err != nil {
		return h, false, err
	}
	defer f.Close()
	b := make([]byte, segmentHeaderSize)
	if n, _ := f.ReadAt(b, 0); n < len(b) {
		return h, false, nil
	}
	h, _, err = openSegmentHeader(b, opts.Key, opts.Volume)
	if errors.Is(err, errNoSegment) {
		return h, false, nil
	}
	return h, err == nil, err
}

// syncAll makes every file of a directory, and their names, durable.
func syncAll(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := syncFile(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return errors.Join(syncDir(dir), syncDir(filepath.Dir(dir)))
}

// tableBuilder makes the freshness table of rows that come in ascending order.
type tableBuilder struct {
	next  *freshTable
	put   func(key, value []byte) error
	spans []keyRange // of the chunk at hand
	last  []byte     // key that came before
}

func (t *tableBuilder) add(key, value []byte) error {
	if n := len(t.spans); n == 0 || t.spans[n-1].rows == splitRows {
		if n == maxRanges {
			if err := t.store(); err != nil {
				return err
			}
		}
		t.spans = append(t.spans, keyRange{start: between(t.last, key)})
	}
	r := &t.spans[len(t.spans)-1]
	r.rows++
	r.sum.add(t.next.keys.row(key, value))
	t.last = key
	return nil
}

// store writes the chunk at hand.
func (t *tableBuilder) store() error {
	id := uint32(len(t.next.chunks))
	sealed, _, err := t.next.keys.sealChunk(id, t.spans)
	if err != nil {
		return err
	}
	t.next.chunks = append(t.next.chunks, &chunk{id: id, start: t.spans[0].start, tag: tagOf(sealed)})
	t.next.nextID = id + 1
	t.spans = nil
	return t.put(chunkKey(id), sealed)
}

// finish writes the rest and the root, and returns its tag.
func (t *tableBuilder) finish() (tag [sumSize]byte, err error) {
	if len(t.spans) > 0 || len(t.next.chunks) == 0 {
		if len(t.spans) == 0 {
			t.spans = []keyRange{{}}
		}
		if err := t.store(); err != nil {
			return tag, err
		}
	}
	root, err := t.next.sealRoot()
	if err != nil {
		return tag, err
	}
	return tagOf(root), t.put(rootKey, root)
}

// Rows calls fn for every row of the export of a store under dir, in key order, and returns the point at which it ends. It needs no Badger and no
// journal. k and v are valid during the call. Errors: kv.ErrCorrupt, fn's, the system's.
func Rows(ctx context.Context, dir string, key *blockcrypt.Key, volume blockcrypt.VolumeID, fn func(k, v []byte) error) (Head, error) {
	at := filepath.Join(dir, "export")
	chain, err := findExport(at, key, volume)
	if err != nil {
		return Head{}, err
	}
	sources, done, err := openExports(at, chain, key, volume)
	if err != nil {
		return Head{}, err
	}
	defer done()
	err = mergeExports(ctx, sources, func(k, v []byte) error {
		if v == nil {
			return nil
		}
		return fn(k, v)
	})
	end := exportEnd(chain)
	return Head{Sequence: end.seq, Tag: end.tag}, err
}
