package keymgr

import (
	"context"
	"time"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// LastBackup says what a restore of the newest backup would bring back. The zero value: none was made.
type LastBackup struct {
	Time       time.Time
	Generation uint64
	Changed    bool // the key store has changed since: keys, policies, grants, identities, volumes
	Keys       bool // backing keys were made since, which are not in it
}

// backupRecord is its row.
type backupRecord struct {
	Time       time.Time `json:"time"`
	Generation uint64    `json:"generation"`
}

// NoteBackup notes that a backup of the generation that Backup told is durable; an older one than is noted changes nothing. Errors: those that are ErrKeyUnavailable.
func (m *Manager) NoteBackup(ctx context.Context, generation uint64) error {
	return m.update(ctx, func(tx kv.Txn) error {
		var rec backupRecord
		found, err := m.rows.get(ctx, tx, key(rowBackup, nil), &rec)
		if err != nil || found && rec.Generation > generation {
			return err
		}
		return m.rows.put(tx, key(rowBackup, nil), backupRecord{Time: m.now().UTC(), Generation: generation})
	})
}

// LastBackup tells of the newest backup. Errors: those that are ErrKeyUnavailable.
func (m *Manager) LastBackup(ctx context.Context) (b LastBackup, err error) {
	err = m.view(ctx, func(r kv.Reader) error {
		var rec backupRecord
		var now generationRecord
		if found, err := m.rows.get(ctx, r, key(rowBackup, nil), &rec); err != nil || !found {
			b = LastBackup{}
			return err
		}
		if _, err := m.rows.get(ctx, r, key(rowGeneration, nil), &now); err != nil {
			return err
		}
		b = LastBackup{Time: rec.Time, Generation: rec.Generation, Changed: now.Changed > rec.Generation, Keys: now.Keys > rec.Generation}
		return nil
	})
	return b, err
}

// observed is a transaction that sees which kinds of rows are written.
type observed struct {
	kv.Txn
	changed bool // other rows than those of volumes' ends
	keys    bool // backing keys were made
}

func (o *observed) Put(k, v []byte) {
	o.see(k)
	o.keys = o.keys || k[0] == rowMaterial
	o.Txn.Put(k, v)
}

func (o *observed) Delete(k []byte) {
	o.see(k)
	o.Txn.Delete(k)
}

func (o *observed) see(k []byte) { o.changed = o.changed || k[0] != rowAnchor }
