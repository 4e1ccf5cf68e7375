package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// Files of the export are merged when so many, or so many bytes, follow one that is more than twice as large.
const (
	exportSuffix  = ".rows"
	exportRun     = 8
	exportRunSize = 64 << 20
)

// exportFile is one file of the chain.
type exportFile struct {
	exportHeader
	name string
	size int64
}

func exportName(from, to point) string {
	return fmt.Sprintf("%016x-%016x%s", from.seq, to.seq, exportSuffix)
}

// exporter keeps a second copy of the rows beside Badger: a chain of files, each of which goes on where the one before it ends (docs/FORMAT.md 9.7). A
// checkpoint adds what it brings before it frees any journal, so export and journal together always hold everything.
//
// An export that could not be written is behind: the next checkpoint that has room writes the whole state. It never makes a checkpoint fail.
type exporter struct {
	dir    string
	volume blockcrypt.VolumeID
	key    *blockcrypt.Key
	log    *slog.Logger
	room   func(size int64) error // refuses so many bytes; nil: nobody does
	spare  func(size int64) error // the same for what can wait

	mu      sync.Mutex
	files   []exportFile // the chain
	behind  error        // why the chain does not reach the last checkpoint, nil if it does
	merging bool
	closed  bool
	wg      sync.WaitGroup
}

func exportDir(opts Options) string { return filepath.Join(opts.Dir, "export") }

// openExporter finds the chain that is there. What is no part of it stays until a whole one is written.
func openExporter(opts Options, key *blockcrypt.Key) (*exporter, error) {
	x := &exporter{dir: exportDir(opts), volume: opts.Volume, key: key, log: opts.Log}
	if err := os.Mkdir(x.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, noSpace(err)
	}
	chain, err := findExport(x.dir, key, opts.Volume)
	x.files = chain
	return x, err
}

// findExport returns the chain of files in a directory that begins with the empty store; of several that go on from one point the one that goes
// furthest. Files that are damaged or another volume's are passed over.
func findExport(dir string, key *blockcrypt.Key, volume blockcrypt.VolumeID) (chain []exportFile, err error) {
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	next := map[point]exportFile{}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), exportSuffix) {
			continue
		}
		f, err := inspectExport(dir, e.Name(), key, volume)
		if errors.Is(err, kv.ErrCorrupt) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if known, ok := next[f.from]; !ok || known.to.seq < f.to.seq {
			next[f.from] = f
		}
	}
	for at := (point{}); ; {
		f, ok := next[at]
		if !ok || f.to.seq <= at.seq {
			return chain, nil
		}
		chain = append(chain, f)
		at = f.to
	}
}

func inspectExport(dir, name string, key *blockcrypt.Key, volume blockcrypt.VolumeID) (f exportFile, err error) {
	in, err := openPlain(filepath.Join(dir, name))
	if err != nil {
		return f, err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return f, err
	}
	f.name, f.size = name, st.Size()
	f.exportHeader, _, err = readExportHeader(in, key, volume)
	return f, err
}

// end returns where the chain ends; the zero point if there is none.
func (x *exporter) end() point { return exportEnd(x.files) }

func exportEnd(chain []exportFile) point {
	if len(chain) == 0 {
		return point{}
	}
	return chain[len(chain)-1].to
}

// begin decides whether the chain can be gone on with: known says whether its end is in the history since the last checkpoint.
func (x *exporter) begin(known bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !known {
		x.behind = fmt.Errorf("it ends at record %d, which is not in the journal", x.end().seq)
		return
	}
	x.sweep()
}

// add writes what a checkpoint brings: changes are its rows, state the whole state with them; what is needed is called. size bounds the bytes of
// changes. A failure is logged and remembered.
func (x *exporter) add(ctx context.Context, h exportHeader, size int64, changes func() source, state func() ([]source, func())) {
	x.mu.Lock()
	whole, end := x.behind != nil, x.end()
	x.mu.Unlock()
	if !whole && end == h.to { // by a checkpoint that failed afterwards
		return
	}
	f, err := exportFile{}, allowed(x.room, size)
	switch {
	case err != nil:
	case whole:
		sources, done := state()
		f, err = x.write(ctx, h, sources)
		done()
	default:
		h.from = end
		f, err = x.write(ctx, h, []source{changes()})
	}
	if err == nil {
		x.install(f, whole)
		x.tidy()
		return
	}
	x.mu.Lock()
	first := x.behind == nil
	x.behind = err
	x.mu.Unlock()
	if first && ctx.Err() == nil {
		x.log.Warn("metadata export is behind: until it is written anew, rebuild goes back to before", "sequence", end.seq, "cause", err)
	}
}

func allowed(room func(int64) error, size int64) error {
	if room == nil {
		return nil
	}
	return room(size)
}

// write makes a file of sources. Without a from, deletions are left out.
func (x *exporter) write(ctx context.Context, h exportHeader, sources []source) (f exportFile, err error) {
	w, err := newExportWriter(x.dir, x.key, x.volume, h)
	if err != nil {
		return f, err
	}
	err = mergeExports(ctx, sources, func(k, v []byte) error {
		if v == nil && h.from == (point{}) {
			return nil
		}
		return w.add(k, v)
	})
	if err != nil {
		w.abandon()
		return f, err
	}
	f = exportFile{exportHeader: h, name: exportName(h.from, h.to)}
	err = w.finish(filepath.Join(x.dir, f.name))
	f.size = w.size
	return f, err
}

// install adds a file to the chain, or begins a new one with it.
func (x *exporter) install(f exportFile, whole bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !whole {
		x.files = append(x.files, f)
		return
	}
	x.files, x.behind = []exportFile{f}, nil
	x.sweep()
}

// sweep removes what is not in the chain. The caller holds x.mu, and writes no file.
func (x *exporter) sweep() {
	entries, err := os.ReadDir(x.dir)
	if err != nil {
		x.log.Warn("list the metadata export", "cause", err)
		return
	}
	for _, e := range entries {
		leftover := strings.HasSuffix(e.Name(), exportSuffix) || strings.HasSuffix(e.Name(), exportTemp) && !x.merging
		if x.has(e.Name()) || !leftover || !e.Type().IsRegular() {
			continue
		}
		x.remove(e.Name())
	}
}

// has reports whether a file is of the chain. The caller holds x.mu.
func (x *exporter) has(name string) bool {
	return slices.ContainsFunc(x.files, func(f exportFile) bool { return f.name == name })
}

func (x *exporter) remove(name string) {
	if err := os.Remove(filepath.Join(x.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		x.log.Warn("remove a file of an older metadata export", "cause", err)
	}
}

// tidy begins to merge files in the background if that is due.
func (x *exporter) tidy() {
	x.mu.Lock()
	defer x.mu.Unlock()
	first := dueRun(x.files)
	if first < 0 || x.merging || x.closed {
		return
	}
	x.merging = true
	run := slices.Clone(x.files[first:])
	x.wg.Add(1)
	go func() {
		defer x.wg.Done()
		err := x.merge(context.Background(), run)
		x.mu.Lock()
		defer x.mu.Unlock()
		x.merging = false
		switch {
		case errors.Is(err, kv.ErrCorrupt):
			x.behind = err
			x.log.Warn("metadata export is damaged: the next checkpoint writes it anew", "cause", err)
		case errors.Is(err, kv.ErrNoSpace):
		case err != nil:
			x.log.Warn("merge files of the metadata export", "cause", err)
		}
	}()
}

// dueRun returns the index of the first of the files to merge, -1 if none are due: those at the end of which none is more than twice as large as all
// that follow it. So the number of files grows with the logarithm of the export's size, and so does how often a row is written.
func dueRun(files []exportFile) int {
	first, after := len(files)-1, int64(0)
	if first < 0 {
		return -1
	}
	after = files[first].size
	for first > 0 && files[first-1].size <= 2*after {
		first--
		after += files[first].size
	}
	if n := len(files) - first; n < 2 || n < exportRun && after < exportRunSize {
		return -1
	}
	return first
}

// merge replaces a run of files by one.
func (x *exporter) merge(ctx context.Context, run []exportFile) error {
	var total int64
	for _, f := range run {
		total += f.size
	}
	if err := allowed(x.spare, total); err != nil {
		return err
	}
	sources, done, err := openExports(x.dir, run, x.key, x.volume)
	if err != nil {
		return err
	}
	defer done()
	h := run[len(run)-1].exportHeader
	h.from = run[0].from
	f, err := x.write(ctx, h, sources)
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	at := slices.IndexFunc(x.files, func(f exportFile) bool { return f.name == run[0].name })
	if at < 0 || at+len(run) > len(x.files) || x.files[at+len(run)-1].name != run[len(run)-1].name {
		run = []exportFile{f} // a whole export was written meanwhile
	} else {
		x.files = slices.Replace(x.files, at, at+len(run), f)
	}
	for _, f := range run { // no others: a checkpoint may be writing one
		if !x.has(f.name) {
			x.remove(f.name)
		}
	}
	return nil
}

// openExports opens files as sources, the newest first, as mergeExports wants them.
func openExports(dir string, files []exportFile, key *blockcrypt.Key, volume blockcrypt.VolumeID) (sources []source, done func(), err error) {
	var open []*exportReader
	done = func() {
		for _, r := range open {
			r.close()
		}
	}
	for _, f := range slices.Backward(files) {
		r, err := openExport(filepath.Join(dir, f.name), key, volume)
		if err != nil {
			done()
			return nil, nil, err
		}
		if r.from != f.from || r.to != f.to { // replaced meanwhile
			r.close()
			done()
			return nil, nil, fmt.Errorf("export %s is another: %w", f.name, kv.ErrCorrupt)
		}
		open = append(open, r)
		sources = append(sources, r)
	}
	return sources, done, nil
}

// verify reads the whole chain. One that is damaged is behind from now on. Errors: why it is behind; kv.ErrCorrupt.
func (x *exporter) verify(ctx context.Context) error {
	for {
		x.mu.Lock()
		files, behind := slices.Clone(x.files), x.behind
		x.mu.Unlock()
		if behind != nil {
			return behind
		}
		sources, done, err := openExports(x.dir, files, x.key, x.volume)
		if err == nil {
			err = mergeExports(ctx, sources, func(k, v []byte) error { return nil })
			done()
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		if x.condemn(files, err) {
			return err
		}
	}
}

// condemn notes that files cannot be relied on; false if they are not the chain any more.
func (x *exporter) condemn(files []exportFile, why error) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(files) > len(x.files) || !slices.EqualFunc(files, x.files[:len(files)], func(a, b exportFile) bool { return a.name == b.name }) {
		return false
	}
	x.behind = why
	return true
}

// state returns size, number of files, and why the export is behind.
func (x *exporter) state() (size int64, files int, behind error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, f := range x.files {
		size += f.size
	}
	return size, len(x.files), x.behind
}

// close waits for what runs.
func (x *exporter) close() {
	if x == nil {
		return
	}
	x.mu.Lock()
	x.closed = true
	x.mu.Unlock()
	x.wg.Wait()
}
