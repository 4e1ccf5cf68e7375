package keymgr

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// VersionGrace is for how long a version that was replaced stays. Who was given a blob of it at the last moment has put it where a census finds it, or has given up: calls of a mount end
// after 5 s.
const VersionGrace = 6 * time.Second

// DestroyVersionInput says which version of a key is destroyed, and what is known of the volumes of the key store.
type DestroyVersionInput struct {
	KeyID   string                `json:"keyId"` // id or ARN
	Version uint32                `json:"version"`
	Clear   []blockcrypt.VolumeID `json:"clear,omitempty"` // a census found nothing under the version in them
	Lose    []blockcrypt.VolumeID `json:"lose,omitempty"`  // whatever of them is under the version is given up
}

// DestroyedVersion is a version that is no more.
type DestroyedVersion struct {
	KeyID, MaterialID string // ARN; 64 hex digits
	Version           uint32
}

// DestroyKeyVersion destroys one backing key of a CMK, in the token, for ever: what it encrypted is ErrInvalidState from then on, all else of the key stays. For the owner alone, and the
// key's policy can deny it; not AWS'. The newest version cannot be destroyed, nor one that was replaced less than VersionGrace ago, one by which the key of a volume is wrapped that is not
// given up, or any while a volume of the key store is in neither of the two lists. An interrupted call is finished by the same call.
// Errors: ErrNotFound, ErrValidation (version), ErrInvalidState (the conditions above), ErrUnsupported (imported material), ErrApprovalRequired, ErrAccessDenied, and those that are ErrKeyUnavailable.
func (m *Manager) DestroyKeyVersion(ctx context.Context, by Caller, in DestroyVersionInput) (DestroyedVersion, error) {
	u := &Use{Operation: "DestroyKeyVersion", Key: printable(in.KeyID), Alert: true}
	var k *cmk
	var out versionAnswer
	look := func(k *cmk) error {
		u.Detail = fmt.Sprintf("version %d%s", in.Version, volumeList("; lost as far as it is under it: ", in.Lose))
		if err := ownerOnly(by, u.Operation); err != nil {
			return err
		}
		if err := m.destructible(k, in.Version); err != nil {
			return err
		}
		u.uses(k, &k.versions[in.Version-1])
		return m.unreferenced(ctx, k, in)
	}
	err := m.perform(ctx, by, change{use: u, second: &seconded{params: in, answer: &out}, check: func() (_ func(kv.Txn) error, err error) {
		if k, err = m.admitted(ctx, by, u, ask{key: in.KeyID, look: look}); err != nil {
			return nil, err
		}
		return func(tx kv.Txn) error { return m.storeDestroyed(ctx, tx, k.id, in.Version) }, nil
	}, prepare: func() (undo func(), err error) {
		v := k.versions[in.Version-1]
		out = versionAnswer{KeyID: k.id.ARN(), MaterialID: v.material.String(), Version: v.number}
		if err := m.token.DestroyKey(ctx, v.tokenKey); err != nil && !errors.Is(err, hsm.ErrKeyNotFound) {
			return nil, tokenFault(fmt.Errorf("destroy backing key: %w", err), k.id.ARN())
		}
		return func() {}, nil
	}})
	if err != nil {
		return DestroyedVersion{}, err
	}
	return DestroyedVersion(out), nil
}

func (in *DestroyVersionInput) describeTo(*policy.Context) {}

func (in *DestroyVersionInput) carryOut(ctx context.Context, m *Manager, by Caller, _ string) (string, error) {
	out, err := m.DestroyKeyVersion(ctx, by, *in)
	return fmt.Sprintf("version %d of %s is destroyed", out.Version, out.KeyID), err
}

// destructible is nil if the version is one that its key can do without.
func (m *Manager) destructible(k *cmk, number uint32) error {
	arn := k.id.ARN()
	switch n := uint32(len(k.versions)); {
	case number < 1 || number > n:
		return fault(ErrValidation, "%s has no version %d", arn, number)
	case number == n:
		return fault(ErrInvalidState, "version %d is the newest of %s, and encrypts: rotate the key first", number, arn)
	}
	if err := k.versions[number-1].gone(arn); err != nil {
		return err
	}
	if since := m.now().Sub(k.versions[number].created); since < VersionGrace { // a clock that was set back waits longer
		return fault(ErrInvalidState, "version %d of %s was replaced less than %v ago: try again then", number, arn, VersionGrace)
	}
	return nil
}

// unreferenced is nil if every volume of the key store was looked at or is given up, and none that is not has its key wrapped by the version. Of what lies in volumes the owner's census tells.
func (m *Manager) unreferenced(ctx context.Context, k *cmk, in DestroyVersionInput) error {
	all, err := m.ListVolumes(ctx, Caller{})
	if err != nil {
		return err
	}
	material := k.versions[in.Version-1].material.String()
	for _, v := range all {
		switch {
		case slices.Contains(in.Lose, v.ID):
		case slices.ContainsFunc(v.Wraps, func(w Wrap) bool { return w.Material == material }):
			return fault(ErrInvalidState, "the key of volume %s is wrapped by version %d of %s: rewrap it first", v.ID, in.Version, k.id.ARN())
		case !slices.Contains(in.Clear, v.ID):
			return fault(ErrInvalidState, "it is not known what of volume %s is under version %d of %s: a census of it has to say so", v.ID, in.Version, k.id.ARN())
		}
	}
	return nil
}

// storeDestroyed writes that a version is no more. Its material's row stays, so that blobs say what became of it.
func (m *Manager) storeDestroyed(ctx context.Context, tx kv.Txn, id keyUUID, number uint32) error {
	k, err := m.loadKey(ctx, tx, id)
	if err != nil {
		return err
	}
	rec := k.record
	rec.Versions = slices.Clone(rec.Versions)
	rec.Versions[number-1].Destroyed = m.now().UTC()
	material := k.versions[number-1].material
	tx.Delete(key(rowUses, material[:]))
	return m.rows.put(tx, key(rowKey, id[:]), rec)
}

// gone is ErrInvalidState for a version that was destroyed.
func (v *version) gone(arn string) error {
	if v.destroyed.IsZero() {
		return nil
	}
	return fault(ErrInvalidState, "version %d of %s was destroyed on %s: what it encrypted cannot be opened any more.", v.number, arn, v.destroyed.Format(time.RFC3339))
}

// volumeList names volumes behind a text; "" if there are none.
func volumeList(text string, ids []blockcrypt.VolumeID) string {
	if len(ids) == 0 {
		return ""
	}
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = id.String()
	}
	return text + strings.Join(names, " ")
}
