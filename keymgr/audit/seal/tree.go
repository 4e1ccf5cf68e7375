package seal

import (
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// Tree is the state of a Merkle tree that records are appended to: the roots of the complete subtrees that its size is made of, largest first. The zero Tree is empty.
type Tree struct {
	size int64
	edge []tlog.Hash
}

var errTree = errors.New("malformed tree")

// NewTree makes the tree of a size and its edge. An error if the edge has another length than the size asks for.
func NewTree(size int64, edge []tlog.Hash) (Tree, error) {
	if size < 0 || bits.OnesCount64(uint64(size)) != len(edge) {
		return Tree{}, fmt.Errorf("%w: %d hashes for %d records", errTree, len(edge), size)
	}
	return Tree{size, append([]tlog.Hash(nil), edge...)}, nil
}

// Size is the number of records.
func (t *Tree) Size() int64 { return t.size }

// Edge is a copy of the roots of the complete subtrees, largest first.
func (t *Tree) Edge() []tlog.Hash { return append([]tlog.Hash(nil), t.edge...) }

// Clone is a copy.
func (t *Tree) Clone() Tree { return Tree{t.size, t.Edge()} }

// Add appends a record by its hash (tlog.RecordHash).
func (t *Tree) Add(h tlog.Hash) {
	for n := t.size; n&1 == 1; n >>= 1 {
		last := len(t.edge) - 1
		h = tlog.NodeHash(t.edge[last], h)
		t.edge = t.edge[:last]
	}
	t.edge = append(t.edge, h)
	t.size++
}

// Root is the tree's hash; that of the empty tree is zero, which no other is.
func (t *Tree) Root() tlog.Hash {
	if t.size == 0 {
		return tlog.Hash{}
	}
	h := t.edge[len(t.edge)-1]
	for i := len(t.edge) - 2; i >= 0; i-- {
		h = tlog.NodeHash(t.edge[i], h)
	}
	return h
}

// Growth is a tree that remembers an earlier state of itself well enough to prove that it contains it. It takes memory in the logarithm of its size.
type Growth struct {
	base Tree
	now  Tree
	span []node // the records since base, in as few complete subtrees as there are
}

// node is the root of the complete subtree of 2^level records from pos<<level on.
type node struct {
	level int
	pos   int64
	hash  tlog.Hash
}

// NewGrowth begins at a state.
func NewGrowth(t Tree) *Growth { return &Growth{base: t.Clone(), now: t.Clone()} }

// Add appends a record.
func (g *Growth) Add(h tlog.Hash) {
	n := node{0, g.now.size, h}
	for k := len(g.span); k > 0 && n.pos&1 == 1 && g.span[k-1].level == n.level && g.span[k-1].pos == n.pos-1; k-- {
		n = node{n.level + 1, n.pos >> 1, tlog.NodeHash(g.span[k-1].hash, n.hash)}
		g.span = g.span[:k-1]
	}
	g.span = append(g.span, n)
	g.now.Add(h)
}

// Base and Now are the earlier state and the present one.
func (g *Growth) Base() *Tree { return &g.base }

// Now is the present state.
func (g *Growth) Now() *Tree { return &g.now }

// Claim is what the tree is now, with the proof that it contains its base.
func (g *Growth) Claim(stream string) (Claim, error) {
	c := Claim{Stream: stream, From: g.base.size, Size: g.now.size, Root: g.now.Root()}
	if c.From == 0 || c.From == c.Size {
		return c, nil
	}
	var err error
	if c.Proof, err = tlog.ProveTree(c.Size, c.From, tlog.HashReaderFunc(g.read)); err != nil {
		return c, fmt.Errorf("prove growth of %s from %d to %d: %w", stream, c.From, c.Size, err)
	}
	return c, nil
}

// read finds the hashes of complete subtrees: those of the base's edge, and those of the span.
func (g *Growth) read(indexes []int64) ([]tlog.Hash, error) {
	known := map[int64]tlog.Hash{}
	var start int64
	for i, n := 0, g.base.size; n > 0; i++ {
		level := bits.Len64(uint64(n)) - 1
		known[tlog.StoredHashIndex(level, start>>level)] = g.base.edge[i]
		start, n = start+1<<level, n-1<<level
	}
	for _, n := range g.span {
		known[tlog.StoredHashIndex(n.level, n.pos)] = n.hash
	}
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		h, ok := known[index]
		if !ok {
			level, n := tlog.SplitStoredHashIndex(index)
			return nil, fmt.Errorf("%w: subtree %d of level %d is not known", errTree, n, level)
		}
		out[i] = h
	}
	return out, nil
}

// Unsealed is the growth of a tree from nothing: its claim needs no proof.
func Unsealed(now Tree) *Growth { return &Growth{now: now.Clone()} }
