package content

import "sync"

// lru is a bounded map that drops what was not used for longest. Safe for concurrent use; it calls nobody.
type lru[K comparable, V any] struct {
	limit int

	mu    sync.Mutex
	nodes map[K]*node[K, V] // guarded by mu
	root  node[K, V]        // guarded by mu; ring, root.next is the most recent

	hits, misses uint64 // guarded by mu
}

type node[K comparable, V any] struct {
	prev, next *node[K, V]
	key        K
	value      V
}

func newLRU[K comparable, V any](limit int) *lru[K, V] {
	c := &lru[K, V]{limit: limit, nodes: map[K]*node[K, V]{}}
	c.root.prev, c.root.next = &c.root, &c.root
	return c
}

func (c *lru[K, V]) get(key K) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.nodes[key]
	if n == nil {
		c.misses++
		var zero V
		return zero, false
	}
	c.hits++
	n.unlink()
	n.linkAfter(&c.root)
	return n.value, true
}

// has tells whether there is a value, which counts as no use of it.
func (c *lru[K, V]) has(key K) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[key] != nil
}

func (c *lru[K, V]) put(key K, value V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.nodes[key]
	switch {
	case n != nil:
		n.unlink()
	case len(c.nodes) >= c.limit:
		n = c.root.prev // reused
		n.unlink()
		delete(c.nodes, n.key)
	default:
		n = new(node[K, V])
	}
	n.key, n.value = key, value
	c.nodes[key] = n
	n.linkAfter(&c.root)
}

func (c *lru[K, V]) remove(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.nodes[key]; n != nil {
		n.unlink()
		delete(c.nodes, key)
	}
}

// removeIf drops every value that fn, which must be quick, says so of.
func (c *lru[K, V]) removeIf(fn func(V) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, n := range c.nodes {
		if fn(n.value) {
			n.unlink()
			delete(c.nodes, key)
		}
	}
}

// counts returns how often get found something, and did not.
func (c *lru[K, V]) counts() (hits, misses uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hits, c.misses
}

func (c *lru[K, V]) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.nodes)
}

func (n *node[K, V]) unlink() {
	n.prev.next, n.next.prev = n.next, n.prev
	n.prev, n.next = nil, nil
}

func (n *node[K, V]) linkAfter(p *node[K, V]) {
	n.prev, n.next = p, p.next
	p.next.prev = n
	p.next = n
}

// removeKeys drops everything under keys that fn, which must be quick, says so of.
func (c *lru[K, V]) removeKeys(fn func(K) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, n := range c.nodes {
		if fn(key) {
			n.unlink()
			delete(c.nodes, key)
		}
	}
}
