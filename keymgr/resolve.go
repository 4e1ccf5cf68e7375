package keymgr

import (
	"context"

	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// resolve finds the key that a caller named. With byAlias false an alias is refused, as AWS does for everything but cryptographic operations and
// DescribeKey. Errors: those of parseKeyName; ErrNotFound.
func (m *Manager) resolve(ctx context.Context, name string, byAlias bool) (*cmk, error) {
	n, err := parseKeyName(name)
	if err != nil {
		return nil, err
	}
	if n.alias == "" {
		return m.keyByID(ctx, n.id)
	}
	if !byAlias {
		return nil, fault(ErrNotFound, "Invalid keyId '%s'", n.alias)
	}
	id, err := cached(&m.cache, func(c *cache) map[string]keyUUID { return c.mu.aliases }, n.alias, func() (keyUUID, error) {
		return m.loadAlias(ctx, n.alias)
	})
	if err != nil {
		return nil, err
	}
	return m.keyByID(ctx, id)
}

// keyByID reads a key with all that belongs to it, as it is now. ErrNotFound.
func (m *Manager) keyByID(ctx context.Context, id keyUUID) (*cmk, error) {
	k, err := cached(&m.cache, func(c *cache) map[keyUUID]*cmk { return c.mu.keys }, id, func() (k *cmk, err error) {
		err = m.view(ctx, func(r kv.Reader) error {
			if k, err = m.loadKey(ctx, r, id); err == nil {
				err = m.loadExtras(ctx, r, k)
			}
			return err
		})
		return k, err
	})
	if err != nil {
		return nil, err
	}
	return k.at(m.now()), nil
}

// loadExtras reads what is kept in rows beside the key's.
func (m *Manager) loadExtras(ctx context.Context, r kv.Reader, k *cmk) error {
	var err error
	if k.tags, err = m.loadTags(ctx, r, k.id); err != nil {
		return err
	}
	k.facts = new(policy.Context)
	k.describeTo(k.facts)
	k.policy, err = m.loadPolicy(ctx, r, k)
	return err
}

// loadKey reads a key's row. ErrNotFound if there is none.
func (m *Manager) loadKey(ctx context.Context, r kv.Reader, id keyUUID) (*cmk, error) {
	var rec keyRecord
	found, err := m.rows.get(ctx, r, key(rowKey, id[:]), &rec)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fault(ErrNotFound, "Key '%s' does not exist", id.ARN())
	}
	return newCMK(id, rec)
}

func (m *Manager) loadAlias(ctx context.Context, alias string) (id keyUUID, err error) {
	err = m.view(ctx, func(r kv.Reader) error {
		rec, err := m.readAlias(ctx, r, alias)
		if err != nil {
			return err
		}
		var ok bool
		if id, ok = parseKeyUUID(rec.Key); !ok {
			return errRow
		}
		return nil
	})
	return id, err
}

// readAlias reads an alias' row. ErrNotFound if there is none.
func (m *Manager) readAlias(ctx context.Context, r kv.Reader, alias string) (aliasRecord, error) {
	var rec aliasRecord
	found, err := m.rows.get(ctx, r, m.rows.aliasKey(alias), &rec)
	if err == nil && (!found || rec.Name != alias) {
		err = fault(ErrNotFound, "Alias %s is not found.", aliasARN(alias))
	}
	return rec, err
}

// byMaterial finds the key and version that made a blob. ErrAccessDenied if they are not known here.
func (m *Manager) byMaterial(ctx context.Context, id materialID) (*cmk, *version, error) {
	unknown := fault(ErrAccessDenied, denied)
	rec, err := cached(&m.cache, func(c *cache) map[materialID]materialRecord { return c.mu.materials }, id, func() (rec materialRecord, err error) {
		err = m.view(ctx, func(r kv.Reader) error {
			found, err := m.rows.get(ctx, r, key(rowMaterial, id[:]), &rec)
			if err == nil && !found {
				err = unknown
			}
			return err
		})
		return rec, err
	})
	if err != nil {
		return nil, nil, err
	}
	keyID, ok := parseKeyUUID(rec.Key)
	if !ok {
		return nil, nil, storeFault(errRow)
	}
	k, err := m.keyByID(ctx, keyID)
	if err != nil {
		return nil, nil, err
	}
	for i := range k.versions {
		if k.versions[i].material == id {
			return k, &k.versions[i], nil
		}
	}
	return nil, nil, unknown
}
