package access

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/kmsfs/kmsfs/meta"
)

// maxPlaces bounds the directories whose paths are remembered.
const maxPlaces = 4096

// places remembers paths of directories for what is recorded. Decisions read them anew. The zero places is empty; safe for concurrent use.
type places struct {
	mu    sync.Mutex
	moves uint64              // guarded by mu; how often something was renamed
	known map[meta.Ino]string // guarded by mu
}

// Moved makes known that something was renamed: paths that are remembered may be old ones.
func (g *Guard) Moved() {
	p := &g.places
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moves++
	p.known = nil
}

// get returns the path of a directory if it is remembered, and how often something was renamed so far.
func (p *places) get(dir meta.Ino) (path string, moves uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known[dir], p.moves
}

// put remembers the path of a directory, unless something was renamed since moves were.
func (p *places) put(dir meta.Ino, path string, moves uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.moves != moves {
		return
	}
	if p.known == nil || len(p.known) >= maxPlaces {
		p.known = make(map[meta.Ino]string)
	}
	p.known[dir] = path
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
	dir, name := at.Dir, at.Name
	switch {
	case name == nil && action == List:
		return unlessGone(g.directory(ctx, at.Ino))
	case name == nil:
		var err error
		if dir, name, err = g.cfg.Meta.Place(ctx, at.Ino); err != nil || dir == 0 {
			return unlessGone("/", err)
		}
	}
	path, err := g.directory(ctx, dir)
	if err != nil {
		return unlessGone("", err)
	}
	return strings.TrimSuffix(path, "/") + "/" + string(name), nil
}

// unlessGone takes a thing without a name for one whose path is empty.
func unlessGone(path string, err error) (string, error) {
	if errors.Is(err, meta.ErrNotFound) {
		return "", nil
	}
	return path, err
}
