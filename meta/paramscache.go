package meta

import "sync"

// paramsCache remembers the parameters of zones. What was read before a zone's row was replaced does not get in afterwards.
type paramsCache struct {
	mu    sync.Mutex
	turns uint64            // guarded by mu; how often a row was replaced
	known map[ZoneID]Params // guarded by mu
}

// get returns what is known of a zone, and otherwise the turn to give to put.
func (c *paramsCache) get(id ZoneID) (p Params, turn uint64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok = c.known[id]
	return p, c.turns, ok
}

// put remembers what was read after get gave the turn.
func (c *paramsCache) put(id ZoneID, p Params, turn uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if turn != c.turns {
		return
	}
	if c.known == nil {
		c.known = map[ZoneID]Params{}
	}
	c.known[id] = p
}

// drop comes after a zone's row was replaced.
func (c *paramsCache) drop(id ZoneID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turns++
	delete(c.known, id)
}
