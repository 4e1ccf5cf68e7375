package object

import (
	"sync"
	"sync/atomic"
)

// fresh knows which names may not be durable yet.
//
// Objects are entered after they were made and before their maker gets them:
// who syncs one holds it, so it is there. Directories work the other way
// round, because a directory is used by others than its maker: those known to
// be durable are noted, and the first sync in each of the 256 syncs the
// parent.
type fresh struct {
	fans [256]atomic.Bool // true: the directory's own name is durable

	mu      sync.Mutex
	objects map[ID]struct{} // guarded by mu
}

func (r *fresh) add(id ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.objects == nil {
		r.objects = map[ID]struct{}{}
	}
	r.objects[id] = struct{}{}
}

func (r *fresh) remove(ids ...ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range ids {
		delete(r.objects, id)
	}
}

// covered returns the objects whose names a sync of id's directory makes
// durable: those entered now. It is empty if id's own name is durable.
func (r *fresh) covered(id ID) []ID {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.objects[id]; !ok {
		return nil
	}
	var ids []ID
	for other := range r.objects {
		if other[0] == id[0] {
			ids = append(ids, other)
		}
	}
	return ids
}

// all returns every object entered now.
func (r *fresh) all() []ID {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := make([]ID, 0, len(r.objects))
	for id := range r.objects {
		ids = append(ids, id)
	}
	return ids
}

// syncName makes an object's name durable if it is not.
func (s *Store) syncName(id ID) error {
	ids := s.fresh.covered(id)
	if len(ids) == 0 {
		return nil
	}
	if err := s.lower.SyncDir(fanName(id[0])); err != nil {
		return s.fail("sync the directory of object "+id.String(), err)
	}
	if !s.fresh.fans[id[0]].Load() {
		if err := s.lower.SyncDir(""); err != nil {
			return s.fail("sync the objects directory", err)
		}
		s.fresh.fans[id[0]].Store(true)
	}
	s.fresh.remove(ids...)
	return nil
}
