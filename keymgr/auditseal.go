package keymgr

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/keymgr/audit/seal"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// auditKeyRecord is the row of the key that seals audit logs.
type auditKeyRecord struct {
	ID        string `json:"id"` // in the token
	Algorithm string `json:"algorithm"`
	Public    []byte `json:"public"`
}

// auditHeadRecord is the row of a stream's anchored head.
type auditHeadRecord struct {
	Size     int64            `json:"size"`
	Root     tlog.Hash        `json:"root"`
	Clean    bool             `json:"clean,omitempty"`
	Archived int64            `json:"archived,omitempty"`
	Seal     []byte           `json:"seal"`
	Accepted []acceptedRecord `json:"accepted,omitempty"`
}

type acceptedRecord struct {
	Size   int64     `json:"size"`
	Root   tlog.Hash `json:"root"`
	Time   time.Time `json:"time"`
	Reason string    `json:"reason"`
}

// maxAccepted bounds how many heads of a stream can be given up.
const maxAccepted = 64

// EnsureAuditKey makes the key that seals audit logs, in the token, if there is none yet. ErrUnsupported if the token cannot sign.
func (m *Manager) EnsureAuditKey(ctx context.Context) error {
	if _, _, err := m.auditKey(ctx); classOf(err) != ErrNotFound || err == nil {
		return err
	}
	signer, ok := m.token.(hsm.Signer)
	if !ok {
		return fault(ErrUnsupported, "the token does not sign")
	}
	k, err := signer.GenerateSigningKey(ctx, hsm.NewKeyID(), "kmsfs-audit")
	if err != nil {
		return tokenFault(err, "the audit key")
	}
	return m.update(ctx, func(tx kv.Txn) error {
		return m.rows.put(tx, key(rowAuditKey, nil), auditKeyRecord{ID: k.ID.String(), Algorithm: k.Algorithm, Public: k.Public})
	})
}

func (m *Manager) auditKey(ctx context.Context) (k seal.PublicKey, id hsm.KeyID, err error) {
	var rec auditKeyRecord
	err = m.view(ctx, func(r kv.Reader) error {
		found, err := m.rows.get(ctx, r, key(rowAuditKey, nil), &rec)
		if err == nil && !found {
			err = fault(ErrNotFound, "the key store has no key for audit logs")
		}
		return err
	})
	if err != nil {
		return k, id, err
	}
	k = seal.PublicKey{Name: seal.KeyName(m.keyStoreID()), Algorithm: seal.Ed25519, Bytes: rec.Public}
	if rec.Algorithm == hsm.ECDSAP256 {
		k.Algorithm = seal.ECDSAP256
	}
	if id, err = hsm.ParseKeyID(rec.ID); err != nil {
		return k, id, fmt.Errorf("audit key: %w", errRow)
	}
	return k, id, nil
}

func (m *Manager) keyStoreID() string { return hex.EncodeToString(m.rows.id[:]) }

// AuditHead is the anchored head of a stream; its Size is 0 if there is none.
func (m *Manager) AuditHead(ctx context.Context, stream string) (a seal.Anchor, err error) {
	if !seal.ValidStream(stream) {
		return a, fault(ErrValidation, "not the name of an audit stream")
	}
	err = m.view(ctx, func(r kv.Reader) error {
		a, err = m.readAuditHead(ctx, r, stream)
		return err
	})
	return a, err
}

func (m *Manager) readAuditHead(ctx context.Context, r kv.Reader, stream string) (seal.Anchor, error) {
	var rec auditHeadRecord
	if _, err := m.rows.get(ctx, r, key(rowAuditHead, []byte(stream)), &rec); err != nil {
		return seal.Anchor{}, err
	}
	return rec.anchor(m.keyStoreID(), stream), nil
}

func (rec *auditHeadRecord) anchor(keyStore, stream string) seal.Anchor {
	a := seal.Anchor{Head: seal.Head{KeyStore: keyStore, Stream: stream, Size: rec.Size, Root: rec.Root}, Clean: rec.Clean, Archived: rec.Archived, Seal: rec.Seal}
	for _, x := range rec.Accepted {
		a.Accepted = append(a.Accepted, seal.Accepted(x))
	}
	return a
}

func auditRecordOf(a seal.Anchor) auditHeadRecord {
	rec := auditHeadRecord{Size: a.Size, Root: a.Root, Clean: a.Clean, Archived: a.Archived, Seal: a.Seal}
	for _, x := range a.Accepted {
		rec.Accepted = append(rec.Accepted, acceptedRecord(x))
	}
	return rec
}

// SealAudit signs a head of an audit stream and anchors it durably, if it contains the anchored one. The same claim again gives a seal again. ErrRollback if it does not
// contain it; ErrNotFound without a key for audit logs; those that are ErrKeyUnavailable. Not recorded in the log: it would never end.
func (m *Manager) SealAudit(ctx context.Context, c seal.Claim) ([]byte, error) {
	public, id, err := m.auditKey(ctx)
	if err != nil {
		return nil, err
	}
	old, err := m.AuditHead(ctx, c.Stream)
	if err != nil {
		return nil, err
	}
	if again(old, c) {
		return old.Seal, nil
	}
	if err := c.Check(old.Head); err != nil {
		return nil, &Fault{Class: ErrRollback, Message: "the audit log does not contain its sealed head", Cause: err}
	}
	signer, ok := m.token.(hsm.Signer)
	if !ok {
		return nil, fault(ErrUnsupported, "the token does not sign")
	}
	head := seal.Head{KeyStore: m.keyStoreID(), Stream: c.Stream, Size: c.Size, Root: c.Root}
	note, err := head.Sign(public, func(message []byte) ([]byte, error) { return signer.Sign(ctx, id, message) })
	if err != nil {
		return nil, tokenFault(err, "the audit key")
	}
	rev, err := m.store.Update(ctx, kv.OpID{}, func(tx kv.Txn) error {
		now, err := m.readAuditHead(ctx, tx, c.Stream)
		if err != nil {
			return err
		}
		if now.Size != old.Size || now.Root != old.Root {
			return fault(ErrRollback, "the stream has another writer")
		}
		now.Head, now.Clean, now.Seal = head, c.Clean, note
		return m.rows.put(tx, key(rowAuditHead, []byte(c.Stream)), auditRecordOf(now))
	})
	if err == nil {
		err = m.store.Sync(ctx, rev)
	}
	return note, storeFault(err)
}

// again says whether a claim is that of the anchored head.
func again(a seal.Anchor, c seal.Claim) bool {
	return a.Size > 0 && a.Size == c.Size && a.Root == c.Root && a.Clean == c.Clean && len(a.Seal) > 0
}

// AuditHeads gives the key that seals the audit logs of this key store, and the anchored heads of all streams, sorted. ErrNotFound without a key.
func (m *Manager) AuditHeads(ctx context.Context) (seal.PublicKey, []seal.Anchor, error) {
	public, _, err := m.auditKey(ctx)
	if err != nil {
		return public, nil, err
	}
	var all []seal.Anchor
	lo, hi := kindRange(rowAuditHead)
	err = m.view(ctx, func(r kv.Reader) error {
		all = nil
		var bad error
		err := r.Scan(ctx, lo, hi, 0, func(k, v []byte) bool {
			var rec auditHeadRecord
			if bad = m.rows.open(k, v, &rec); bad == nil {
				all = append(all, rec.anchor(m.keyStoreID(), string(k[1:])))
			}
			return bad == nil
		})
		return errors.Join(bad, err)
	})
	return public, all, err
}

// ArchiveAudit notes that the records of a stream before upTo were taken out of the log, by the owner, who has them. ErrValidation if they are not all sealed, or fewer than
// were taken before.
func (m *Manager) ArchiveAudit(ctx context.Context, by Caller, stream string, upTo int64) error {
	u := &Use{Operation: "ArchiveAuditLog", Detail: fmt.Sprintf("stream %s, records before %d", printable(stream), upTo)}
	return m.changeAudit(ctx, by, u, stream, func(a *seal.Anchor) error {
		if upTo > a.Size || upTo < a.Archived {
			return fault(ErrValidation, "%d records of the stream are sealed, %d are archived", a.Size, a.Archived)
		}
		a.Archived = upTo
		return nil
	})
}

// AcceptAudit gives up the anchored head of a stream, because its log does not contain it any more: the log is believed as it is from the next seal on. What was given up
// stays in the row, with the reason (1 to 1024 characters), and every verification says so.
func (m *Manager) AcceptAudit(ctx context.Context, by Caller, stream, reason string) error {
	u := &Use{Operation: "AcceptAuditLog", Alert: true, Detail: fmt.Sprintf("stream %s: %s", printable(stream), printable(reason))}
	return m.changeAudit(ctx, by, u, stream, func(a *seal.Anchor) error {
		if err := checkLength("reason", reason, 1, 1024, false); err != nil {
			return err
		}
		if a.Size == 0 || len(a.Accepted) >= maxAccepted {
			return fault(ErrValidation, "the stream has no sealed head, or too many were given up")
		}
		a.Accepted = append(slices.Clip(a.Accepted), seal.Accepted{Size: a.Size, Root: a.Root, Time: m.now().UTC(), Reason: reason})
		a.Head, a.Clean, a.Seal = seal.Head{}, false, nil
		return nil
	})
}

func (m *Manager) changeAudit(ctx context.Context, by Caller, u *Use, stream string, fn func(*seal.Anchor) error) error {
	return m.change(ctx, by, u, func() (func(kv.Txn) error, error) {
		if err := ownerOnly(by, u.Operation); err != nil {
			return nil, err
		}
		a, err := m.AuditHead(ctx, stream)
		if err == nil {
			err = fn(&a)
		}
		if err != nil {
			return nil, err
		}
		return func(tx kv.Txn) error {
			a, err := m.readAuditHead(ctx, tx, stream)
			if err == nil {
				err = fn(&a)
			}
			if err != nil {
				return err
			}
			return m.rows.put(tx, key(rowAuditHead, []byte(stream)), auditRecordOf(a))
		}, nil
	})
}
