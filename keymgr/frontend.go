package keymgr

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// ChallengeSize is the length of what a front end answers with a proof, in bytes.
const ChallengeSize = 32

// actionFrontEnd is the right to forward requests for a volume without having opened it, on the volume's key.
const actionFrontEnd = "kmsfs:FrontEnd"

// FrontEndProof answers a challenge of the key manager: HMAC-SHA-256 under the volume's front-end key (blockcrypt.FrontEndKey) of
// "kmsfs front end proof" || version u8 || volume x[16] || challenge x[32].
func FrontEndProof(key *blockcrypt.Key, volume blockcrypt.VolumeID, challenge []byte) []byte {
	h := hmac.New(sha256.New, key[:])
	h.Write([]byte("kmsfs front end proof\x01"))
	h.Write(volume[:])
	h.Write(challenge)
	return h.Sum(nil)
}

// CheckFrontEnd decides whether the caller may forward requests for the volume: by the proof that it has opened the volume, or, without one (nil), by the right
// kmsfs:FrontEnd on the volume's key. The decision is recorded. Errors: ErrAccessDenied, ErrNotFound (no such volume), ErrRecord, and those that are ErrKeyUnavailable.
func (m *Manager) CheckFrontEnd(ctx context.Context, by Caller, id blockcrypt.VolumeID, challenge, proof []byte) error {
	u := &Use{Operation: "RegisterVolume", Detail: "volume " + id.String()}
	return m.record(ctx, by, u, m.checkFrontEnd(ctx, by, u, id, challenge, proof))
}

func (m *Manager) checkFrontEnd(ctx context.Context, by Caller, u *Use, id blockcrypt.VolumeID, challenge, proof []byte) error {
	var rec volumeRecord
	err := m.view(ctx, func(r kv.Reader) (err error) {
		rec, err = m.readVolume(ctx, r, id)
		return err
	})
	if err != nil {
		return err
	}
	u.Key = rec.CMK
	if proof == nil {
		if err := m.frontEndByRight(ctx, by, u, &rec); err != nil {
			return err
		}
	} else {
		if !rec.proves(id, challenge, proof) {
			return fault(ErrAccessDenied, "the front end has not proved that it opened volume %s", id)
		}
		u.Reason = "it has opened the volume"
	}
	u.Decision = Allow
	return nil
}

// frontEndByRight is nil if the caller has the right kmsfs:FrontEnd on a key that opens the volume.
func (m *Manager) frontEndByRight(ctx context.Context, by Caller, u *Use, rec *volumeRecord) (err error) {
	keys := []string{rec.CMK}
	for _, w := range rec.Wraps {
		if w.Key != rec.CMK {
			keys = append(keys, w.Key)
		}
	}
	for _, arn := range keys {
		k, kerr := m.resolve(ctx, arn, false)
		if kerr == nil {
			kerr = m.authorise(ctx, by, u, actionFrontEnd, k, "", ask{key: arn})
		}
		if kerr == nil {
			u.Key = arn
			return nil
		}
		if err == nil { // what is wrong with the volume's own key is the answer
			err = kerr
		}
	}
	return err
}

// checkFront is nil unless another host's key manager asks for one of its users, and its identity has no right to: kmsfs:FrontEnd, by its identity policies or the key's, and denied by none of
// them. A key's policy that does not speak of it leaves it to the account: what the user may do is decided all the same.
func (m *Manager) checkFront(ctx context.Context, by Caller, u *Use, k *cmk, a ask) error {
	if by.Via != ViaKeyManager {
		return nil
	}
	if k == nil || by.Front.ARN == "" || by.Who.Root || by.Who.Unix == nil {
		return fault(ErrAccessDenied, "another host's key manager may ask for its users about keys alone")
	}
	front := Caller{Principal: by.Front.ARN, Who: by.Front, From: by.From}
	r := m.request(front, actionFrontEnd, k, "", ask{key: a.key})
	onKey := k.policy.Evaluate(r)
	onKey.Delegated = onKey.Delegated || onKey.Effect == policy.ImplicitDeny
	documents, err := m.identityPolicies(ctx, front)
	if err != nil {
		return err
	}
	var identity []policy.Decision
	for _, d := range documents {
		identity = append(identity, d.Evaluate(r))
	}
	if d := policy.Combine(&onKey, identity, nil); d.Effect != policy.Allow {
		u.Reason = "forwarding: " + reason(d)
		return fault(ErrAccessDenied, "%s", policy.Denial(r, d))
	}
	return nil
}

// proves says whether the proof answers the challenge. A volume without a front-end key has no front end that could.
func (rec *volumeRecord) proves(id blockcrypt.VolumeID, challenge, proof []byte) bool {
	key, err := blockcrypt.KeyFromBytes(rec.FrontEnd)
	if err != nil || len(challenge) != ChallengeSize {
		return false
	}
	defer key.Wipe()
	return hmac.Equal(proof, FrontEndProof(key, id, challenge))
}

// keepFrontEnd gives the record the front-end key that it has had, or, the first time, the one that is offered. Another one later would make anybody who may write
// records a front end.
func (rec *volumeRecord) keepFrontEnd(old *volumeRecord, offered *blockcrypt.Key) error {
	switch {
	case old != nil && len(old.FrontEnd) > 0:
		rec.FrontEnd = old.FrontEnd
		if offered != nil && !hmac.Equal(offered[:], old.FrontEnd) {
			return fault(ErrAccessDenied, "the volume has another front-end key")
		}
	case offered != nil:
		rec.FrontEnd = append([]byte(nil), offered[:]...)
	}
	return nil
}
