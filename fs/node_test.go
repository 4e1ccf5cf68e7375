package fs

import (
	"context"
	"testing"

	"github.com/kmsfs/kmsfs/meta"
)

func enter(t *nodeTable, ino meta.Ino, write bool) (first bool) {
	first, err := t.enter(context.Background(), ino, write)
	return first && err == nil
}

func TestOrphanIsReleasedWithTheLastUse(t *testing.T) {
	for _, c := range []struct {
		name  string
		steps func(*nodeTable) []bool
		want  []bool
	}{
		{"nobody uses it", func(n *nodeTable) []bool { return []bool{n.orphaned(7)} }, []bool{true}},
		{"forgotten after unlink", func(n *nodeTable) []bool {
			n.lookedUp(7)
			n.lookedUp(7)
			return []bool{n.orphaned(7), n.forgotten(7, 1), n.forgotten(7, 1)}
		}, []bool{false, false, true}},
		{"closed after forgotten", func(n *nodeTable) []bool {
			n.lookedUp(7)
			enter(n, 7, true)
			return []bool{n.orphaned(7), n.forgotten(7, 1), n.closed(7, true)}
		}, []bool{false, false, true}},
		{"forgotten after closed", func(n *nodeTable) []bool {
			n.lookedUp(7)
			enter(n, 7, true)
			return []bool{n.orphaned(7), n.closed(7, true), n.forgotten(7, 1)}
		}, []bool{false, false, true}},
		{"linked again", func(n *nodeTable) []bool {
			n.lookedUp(7)
			got := n.orphaned(7)
			n.named(7)
			return []bool{got, n.forgotten(7, 1)}
		}, []bool{false, false}},
		{"forgotten too often", func(n *nodeTable) []bool {
			n.lookedUp(7)
			return []bool{n.orphaned(7), n.forgotten(7, 1000)}
		}, []bool{false, true}},
	} {
		table := newNodeTable()
		got := c.steps(table)
		for i := range c.want {
			if got[i] != c.want[i] {
				t.Errorf("%s: step %d: release %v", c.name, i, got[i])
			}
		}
		if table.len() != 0 {
			t.Errorf("%s: %d nodes are left", c.name, table.len())
		}
	}
}

func TestNodeInUse(t *testing.T) {
	n := newNodeTable()
	if n.inUse(7) || n.written(7) {
		t.Error("an unknown inode is in use")
	}
	enter(n, 7, false)
	if !n.inUse(7) || n.written(7) {
		t.Error("an inode open for reading is not in use, or written")
	}
	enter(n, 7, true)
	if !n.written(7) {
		t.Error("an inode open for writing is not")
	}
	n.closed(7, true)
	if n.written(7) || !n.inUse(7) {
		t.Error("after the writer")
	}
}

func TestDrainReturnsOrphans(t *testing.T) {
	n := newNodeTable()
	n.lookedUp(7)
	n.lookedUp(8)
	n.orphaned(8)
	if got := n.drain(); len(got) != 1 || got[0] != 8 || n.len() != 0 {
		t.Errorf("%v, %d nodes are left", got, n.len())
	}
}
