package access

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/meta"
)

// maxPlaces bounds the directories, and the files, whose paths are remembered.
const maxPlaces = 8192

// places remembers paths, until a name changes. The zero places is empty; safe for concurrent use.
type places struct {
	mu    sync.Mutex
	moves uint64             // guarded by mu; how often a name was changed
	known bounded[string]    // guarded by mu; of directories
	files bounded[filePaths] // guarded by mu
}

// bounded remembers something of at most maxPlaces inodes: a further one begins anew. The zero value is empty.
type bounded[V any] map[meta.Ino]V

func (b *bounded[V]) put(ino meta.Ino, v V) {
	if *b == nil || len(*b) >= maxPlaces {
		*b = make(bounded[V])
	}
	(*b)[ino] = v
}

// filePaths are the paths of what is no directory.
type filePaths struct {
	primary  string   // "": not remembered
	all      []string // shared; nil: not remembered
	complete bool     // all are all
}

// Renamed makes known that inodes, as they are now, have got or lost a name: paths that are remembered may be old ones. It must be called before whoever did it goes on.
func (g *Guard) Renamed(inodes ...*meta.Attr) {
	p := &g.places
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moves++
	for _, a := range inodes {
		switch {
		case a == nil:
		case a.IsDir() && !a.Flags.Orphan(): // everything below it has moved, too
			p.known, p.files = nil, nil
		default:
			delete(p.known, a.Ino)
			delete(p.files, a.Ino)
		}
	}
}

// get returns the path of a directory if it is remembered, and how often a name was changed so far.
func (p *places) get(dir meta.Ino) (path string, moves uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known[dir], p.moves
}

// put remembers the path of a directory, unless a name was changed since moves were.
func (p *places) put(dir meta.Ino, path string, moves uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.moves == moves {
		p.known.put(dir, path)
	}
}

// file is get for what is no directory.
func (p *places) file(ino meta.Ino) (paths filePaths, moves uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.files[ino], p.moves
}

// putFile is put for what is no directory; what paths does not have stays.
func (p *places) putFile(ino meta.Ino, paths filePaths, moves uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.moves != moves {
		return
	}
	old := p.files[ino]
	if paths.primary == "" {
		paths.primary = old.primary
	}
	if paths.all == nil {
		paths.all, paths.complete = old.all, old.complete
	}
	p.files.put(ino, paths)
}

// directory returns the path of a directory, by memory or reading.
func (g *Guard) directory(ctx context.Context, dir meta.Ino) (string, error) {
	path, moves := g.places.get(dir)
	if path != "" {
		return path, nil
	}
	b, err := g.cfg.Meta.Path(ctx, dir)
	if err == nil {
		path = string(b)
		g.places.put(dir, path, moves)
	}
	return path, err
}

// recordPath returns the path of a target for the record; "" for what has no name.
func (g *Guard) recordPath(ctx context.Context, action Action, at Target) (string, error) {
	switch {
	case at.Name != nil:
		return g.within(ctx, at.Dir, at.Name)
	case action == List || at.Ino == meta.RootIno:
		return unlessGone(g.directory(ctx, at.Ino))
	}
	known, moves := g.places.file(at.Ino)
	if known.primary != "" {
		return known.primary, nil
	}
	dir, name, err := g.cfg.Meta.Place(ctx, at.Ino)
	if err != nil {
		return unlessGone("", err)
	}
	path, err := g.within(ctx, dir, name)
	if err == nil && path != "" {
		g.places.putFile(at.Ino, filePaths{primary: path}, moves)
	}
	return path, err
}

// recordMove tells an event both paths of a rename, whichever of them was decided about.
func (g *Guard) recordMove(ctx context.Context, at Target, e *audit.Event) {
	m := at.Move
	decided := forOldName
	if at.Dir == m.ToDir && bytes.Equal(at.Name, m.ToName) {
		decided = forNewName
	}
	if m.Exchange {
		decided += "; both names are exchanged"
	}
	e.Detail = decided
	if from, err := g.within(ctx, m.FromDir, m.FromName); err == nil {
		e.Path = from
	}
	if to, err := g.within(ctx, m.ToDir, m.ToName); err == nil {
		e.NewPath = to
	}
}

// within is the path of a name in a directory.
func (g *Guard) within(ctx context.Context, dir meta.Ino, name []byte) (string, error) {
	path, err := g.directory(ctx, dir)
	if err != nil {
		return unlessGone("", err)
	}
	return strings.TrimSuffix(path, "/") + "/" + string(name), nil
}

// inodePaths are all paths of an inode, as far as they are not more than maxPaths. They are shared.
func (g *Guard) inodePaths(ctx context.Context, ino meta.Ino) (paths []string, complete bool, err error) {
	known, moves := g.places.file(ino)
	if known.all != nil {
		return known.all, known.complete, nil
	}
	paths, complete, err = g.cfg.Meta.Paths(ctx, ino, maxPaths)
	if err == nil && len(paths) > 0 {
		g.places.putFile(ino, filePaths{primary: paths[0], all: paths, complete: complete}, moves)
	}
	return paths, complete, err
}

// unlessGone takes a thing without a name for one whose path is empty.
func unlessGone(path string, err error) (string, error) {
	if errors.Is(err, meta.ErrNotFound) {
		return "", nil
	}
	return path, err
}
