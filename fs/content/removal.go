package content

import "github.com/kmsfs/kmsfs/meta"

// Removal guards one namespace operation that may take the last name of an inode. Its Busy is the callback that meta.Store.Unlink and Rename
// ask whether the inode is in use; it makes an Open of an inode that is about to be freed wait until the operation is over.
//
//	r := engine.Removal()
//	defer r.Done()
//	victim, err := store.Unlink(ctx, parent, name, r.Busy)
//	...
//	if victim is an orphan: engine.Unlinked(ctx, victim.Ino)
//
// It belongs to one goroutine.
type Removal struct {
	e    *Engine
	held []meta.Ino
}

// gate keeps an inode from being opened while n Removals may free it.
type gate struct {
	n    int
	open chan struct{} // closed when n is 0
}

// Removal begins one.
func (e *Engine) Removal() *Removal { return &Removal{e: e} }

// Busy tells whether the inode is open. If it is not, Open waits for Done.
func (r *Removal) Busy(ino meta.Ino) bool {
	e := r.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.files[ino] != nil {
		return true
	}
	for _, held := range r.held {
		if held == ino {
			return false
		}
	}
	g := e.removing[ino]
	if g == nil {
		g = &gate{open: make(chan struct{})}
		e.removing[ino] = g
	}
	g.n++
	r.held = append(r.held, ino)
	return false
}

// Done ends it, whether it succeeded or not.
func (r *Removal) Done() {
	if len(r.held) == 0 {
		return
	}
	e := r.e
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ino := range r.held {
		g := e.removing[ino]
		if g.n--; g.n == 0 {
			delete(e.removing, ino)
			close(g.open)
		}
	}
	r.held = nil
}
