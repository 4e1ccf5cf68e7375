package keymgr

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// The key store's generation counts its changes: of keys, policies, grants, identities, volumes, and clean closings of volumes. A token that keeps notes (hsm.Noter) holds the
// newest, so that a key store that was put back to an older state, with what has been revoked since, is refused.

// generation is a state of the key store. Two states of one number have different tags.
type generation struct {
	number uint64
	tag    [16]byte
}

// generationRecord is its row.
type generationRecord struct {
	Number uint64 `json:"number"`
	Tag    string `json:"tag"` // 32 hex digits

	Changed uint64 `json:"changed,omitempty"` // of the last change but clean closings of volumes
	Keys    uint64 `json:"keys,omitempty"`    // of the last change that made a backing key
}

const (
	noteVersion = 1
	noteSize    = 8 + 1 + 16
)

// note is what the token keeps: number u64 || version u8 || tag x[16].
func (g generation) note() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, noteSize), g.number)
	return append(append(b, noteVersion), g.tag[:]...)
}

func parseNote(b []byte) (g generation, err error) {
	if len(b) != noteSize || b[8] != noteVersion {
		return g, fmt.Errorf("the token's note of %d bytes is not a generation: %w", len(b), errRow)
	}
	g.number = binary.BigEndian.Uint64(b)
	copy(g.tag[:], b[9:])
	return g, nil
}

func (m *Manager) readGeneration(ctx context.Context, r kv.Reader) (g generation, err error) {
	_, g, err = m.readGenerationRecord(ctx, r)
	return g, err
}

func (m *Manager) readGenerationRecord(ctx context.Context, r kv.Reader) (rec generationRecord, g generation, err error) {
	found, err := m.rows.get(ctx, r, key(rowGeneration, nil), &rec)
	if err != nil || !found {
		return rec, g, err
	}
	tag, err := hex.DecodeString(rec.Tag)
	if err != nil || len(tag) != len(g.tag) {
		return rec, g, fmt.Errorf("generation: %w", errRow)
	}
	g.number = rec.Number
	copy(g.tag[:], tag)
	return rec, g, nil
}

// nextGeneration counts a change in its own transaction.
func (m *Manager) nextGeneration(ctx context.Context, tx *observed, above uint64) (g generation, err error) {
	rec, g, err := m.readGenerationRecord(ctx, tx)
	if err != nil {
		return g, err
	}
	g.number = max(g.number, above) + 1
	_, _ = rand.Read(g.tag[:])
	rec.Number, rec.Tag = g.number, hex.EncodeToString(g.tag[:])
	if tx.changed {
		rec.Changed = g.number
	}
	if tx.keys {
		rec.Keys = g.number
	}
	return g, m.rows.put(tx.Txn, key(rowGeneration, nil), rec)
}

// commit is update for what counts as a change; the token is told before it returns. The caller has taken changes. A token that does not answer is told later: a key is
// disabled, and a grant revoked, also while the token is away.
func (m *Manager) commit(ctx context.Context, apply func(kv.Txn) error) error {
	return m.commitAbove(ctx, 0, apply)
}

func (m *Manager) commitAbove(ctx context.Context, above uint64, apply func(kv.Txn) error) error {
	var g generation
	err := m.update(ctx, func(plain kv.Txn) (err error) {
		tx := &observed{Txn: plain}
		if err = apply(tx); err == nil {
			g, err = m.nextGeneration(ctx, tx, above)
		}
		return err
	})
	if err == nil {
		m.newest = g
		m.tellToken(ctx)
	}
	return err
}

// tellToken puts the newest generation into the token, if it is not there. The caller has taken changes.
func (m *Manager) tellToken(ctx context.Context) {
	noter, ok := m.token.(hsm.Noter)
	if !ok || m.told == m.newest || m.newest.number == 0 {
		return
	}
	if err := noter.PutNote(ctx, m.noteID, m.newest.note()); err != nil {
		m.untold = fmt.Errorf("anchor generation %d of the key store in its token: %w", m.newest.number, err)
		return
	}
	m.told, m.untold = m.newest, nil
}

// retellToken tries again what could not be told. Observe calls it.
func (m *Manager) retellToken(ctx context.Context) error {
	unlock, err := m.lockChanges(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	m.tellToken(ctx)
	return m.untold
}

// checkGeneration compares the key store with its token. ErrRollback if the token knows a newer state or another one of the same number, unless accept is set: then the key store
// goes on from there, which is recorded.
func (m *Manager) checkGeneration(ctx context.Context, accept bool) error {
	var here, there generation
	err := m.view(ctx, func(r kv.Reader) (err error) {
		here, err = m.readGeneration(ctx, r)
		return err
	})
	if err != nil {
		return err
	}
	m.newest = here
	noter, ok := m.token.(hsm.Noter)
	if !ok {
		return nil
	}
	raw, err := noter.Note(ctx, m.noteID)
	if err != nil {
		return tokenFault(err, "the key store")
	}
	if raw != nil {
		if there, err = parseNote(raw); err != nil {
			return err
		}
	}
	m.told = there
	older := here.number < there.number || here.number == there.number && !bytes.Equal(here.tag[:], there.tag[:])
	switch {
	case older && !accept:
		return fault(ErrRollback, "the key store is at generation %d, its token knows generation %d: it was put back to an older state; after a wanted restore, kmsfs keystore unlock --accept-restore", here.number, there.number)
	case older:
		return m.acceptGeneration(ctx, here, there)
	}
	m.tellToken(ctx)
	return m.untold
}

// acceptGeneration makes an older state the newest one, by an operator's decision.
func (m *Manager) acceptGeneration(ctx context.Context, here, there generation) error {
	unlock, err := m.lockChanges(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	u := &Use{Operation: "RestoreKeyStore", Decision: Allow, Alert: true, Detail: fmt.Sprintf("generation %d is accepted; the token knew generation %d", here.number, there.number)}
	if err := m.record(ctx, m.self, u, nil); err != nil {
		return err
	}
	if err := m.commitAbove(ctx, there.number, func(kv.Txn) error { return nil }); err != nil {
		return err
	}
	return m.untold
}
