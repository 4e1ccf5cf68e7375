package keymgr

import (
	"bytes"
	"context"
	"fmt"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// Rows of grants (docs/FORMAT.md, section 10): the grant itself, and two indexes that end with its key and id.

// tagged is a row key that finds a name without naming it.
func (r *rows) tagged(kind byte, name string) []byte {
	tag := r.names.Tag(kind, 0, []byte(name))
	return key(kind, tag[:])
}

// after is the first row key behind all that begin with prefix.
func after(prefix []byte) []byte {
	hi := bytes.Clone(prefix)
	for i := len(hi) - 1; i >= 0; i-- {
		if hi[i]++; hi[i] != 0 {
			return hi[:i+1]
		}
	}
	return nil
}

func grantKey(k keyUUID, id grantID) []byte { return append(key(rowGrant, k[:]), id[:]...) }

// indexKeys are the row keys under which the grant is found by grantee and by retiring principal.
func (m *Manager) indexKeys(g *grant) [][]byte {
	tail := append(bytes.Clone(g.key[:]), g.id[:]...)
	all := [][]byte{append(m.rows.tagged(rowGrantee, g.Grantee), tail...)}
	if g.Retiring != "" {
		all = append(all, append(m.rows.tagged(rowRetiring, g.Retiring), tail...))
	}
	return all
}

// openGrant reads a grant from its row.
func (m *Manager) openGrant(row, value []byte) (*grant, error) {
	g := &grant{}
	if len(row) != 1+len(g.key)+len(g.id) {
		return nil, fmt.Errorf("grant row %x: %w", row, errRow)
	}
	copy(g.key[:], row[1:])
	copy(g.id[:], row[1+len(g.key):])
	return g, m.rows.open(row, value, &g.grantRecord)
}

// loadGrant reads one grant. ErrNotFound if there is none.
func (m *Manager) loadGrant(ctx context.Context, r kv.Reader, k keyUUID, id grantID) (*grant, error) {
	g := &grant{key: k, id: id}
	found, err := m.rows.get(ctx, r, grantKey(k, id), &g.grantRecord)
	if err == nil && !found {
		err = fault(ErrNotFound, "Grant ID %s not found", id)
	}
	return g, err
}

// indexed reads the grants of an index, from the row from on and at most limit of them (0: all). next is the marker of the rest.
func (m *Manager) indexed(ctx context.Context, r kv.Reader, prefix, from []byte, limit int) (all []*grant, next string, err error) {
	var bad error
	err = r.Scan(ctx, from, after(prefix), 0, func(row, _ []byte) bool {
		if limit > 0 && len(all) == limit {
			next = marker(row)
			return false
		}
		tail := row[len(row)-len(keyUUID{})-len(grantID{}):]
		var g *grant
		if g, bad = m.loadGrant(ctx, r, keyUUID(tail), grantID(tail[len(keyUUID{}):])); bad != nil {
			return false
		}
		all = append(all, g)
		return true
	})
	if bad != nil {
		err = bad
	}
	return all, next, err
}

// grantee names a principal's grants on a key in the cache.
type grantee struct {
	key keyUUID
	arn string
}

// grantsOf returns the grants of a principal, named exactly so, on a key.
func (m *Manager) grantsOf(ctx context.Context, k keyUUID, arn string) ([]*grant, error) {
	return cached(&m.cache, func(c *cache) map[grantee][]*grant { return c.mu.grants }, grantee{k, arn}, func() (all []*grant, err error) {
		prefix := append(m.rows.tagged(rowGrantee, arn), k[:]...)
		err = m.view(ctx, func(r kv.Reader) error {
			all, _, err = m.indexed(ctx, r, prefix, prefix, 0)
			return err
		})
		return all, err
	})
}

// putGrant stores a new grant with its indexes, and counts it.
func (m *Manager) putGrant(ctx context.Context, tx kv.Txn, g *grant) error {
	for _, row := range m.indexKeys(g) {
		if err := m.rows.put(tx, row, struct{}{}); err != nil {
			return err
		}
	}
	if err := m.rows.put(tx, grantKey(g.key, g.id), g.grantRecord); err != nil {
		return err
	}
	return m.countGrants(ctx, tx, g.key, +1)
}

// removeGrant deletes a grant. ErrNotFound if it is gone.
func (m *Manager) removeGrant(ctx context.Context, tx kv.Txn, k keyUUID, id grantID) error {
	g, err := m.loadGrant(ctx, tx, k, id)
	if err != nil {
		return err
	}
	m.deleteGrantRows(tx, g)
	return m.countGrants(ctx, tx, k, -1)
}

func (m *Manager) deleteGrantRows(tx kv.Txn, g *grant) {
	for _, row := range append(m.indexKeys(g), grantKey(g.key, g.id)) {
		tx.Delete(row)
	}
}

func (m *Manager) countGrants(ctx context.Context, tx kv.Txn, id keyUUID, change int) error {
	k, err := m.loadKey(ctx, tx, id)
	if err != nil {
		return err
	}
	rec := k.record
	rec.Grants += change
	return m.rows.put(tx, key(rowKey, id[:]), rec)
}

// grantsAtOnce bounds a transaction that removes the grants of a deleted key.
const grantsAtOnce = 256

// removeGrants deletes all grants of a key that is gone.
func (m *Manager) removeGrants(ctx context.Context, id keyUUID) error {
	prefix := key(rowGrant, id[:])
	for more := true; more; {
		err := m.update(ctx, func(tx kv.Txn) error {
			n := 0
			var bad error
			err := tx.Scan(ctx, prefix, after(prefix), grantsAtOnce, func(row, v []byte) bool {
				n++
				var g *grant
				if g, bad = m.openGrant(bytes.Clone(row), v); bad == nil {
					m.deleteGrantRows(tx, g)
				}
				return bad == nil
			})
			more = n == grantsAtOnce
			if bad != nil {
				return bad
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
