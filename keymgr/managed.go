package keymgr

import (
	"context"
	"errors"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// Who manages a key, as KeyMetadata.Manager says it; AWS' names.
const (
	ManagedByCustomer = "CUSTOMER"
	ManagedByService  = "AWS"
)

// ManagedAlias is the alias of the service-managed key. Names with its prefix are for no client to give.
const ManagedAlias = managedPrefix + "files"

const managedPrefix = aliasPrefix + "kmsfs/"

// managedPolicy is the policy of the service-managed key, which nobody changes: it opens what belongs to a volume for the volume's proven front end, in the name of whoever touches a file, and shows
// itself to the account. Who may be a front end without having opened the volume opens the volume.
const managedPolicy = `{
  "Version": "2012-10-17",
  "Id": "kmsfs-service-managed",
  "Statement": [
    {
      "Sid": "ThroughTheFileDaemon",
      "Effect": "Allow",
      "Principal": {"AWS": "*"},
      "Action": ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"],
      "Resource": "*",
      "Condition": {"StringEquals": {"kms:ViaService": "` + ViaFileDaemon + `", "kms:CallerAccount": "` + AccountID + `"}}
    },
    {
      "Sid": "Look",
      "Effect": "Allow",
      "Principal": {"AWS": "arn:aws:iam::` + AccountID + `:root"},
      "Action": ["kms:Describe*", "kms:Get*", "kms:List*"],
      "Resource": "*"
    },
    {
      "Sid": "FrontEnds",
      "Effect": "Allow",
      "Principal": {"AWS": "arn:aws:iam::` + AccountID + `:root"},
      "Action": "kmsfs:FrontEnd",
      "Resource": "*"
    }
  ]
}`

// ManagedKey returns the service-managed key, which it makes when it is asked for the first time. It rotates every year. For the owner alone. Errors: ErrAccessDenied, ErrRecord, and those that are
// ErrKeyUnavailable.
func (m *Manager) ManagedKey(ctx context.Context, by Caller) (KeyMetadata, error) {
	k, err := m.managedKey(ctx, by)
	if !errors.Is(err, ErrNotFound) {
		return k, err
	}
	err = m.makeManagedKey(ctx, by)
	if err != nil && !errors.Is(err, ErrAlreadyExists) { // somebody was faster
		return KeyMetadata{}, err
	}
	return m.managedKey(ctx, by)
}

// managedKey finds it. ErrNotFound.
func (m *Manager) managedKey(ctx context.Context, by Caller) (KeyMetadata, error) {
	if err := ownerOnly(by, "GetManagedKey"); err != nil {
		return KeyMetadata{}, m.record(ctx, by, &Use{Operation: "GetManagedKey", Key: ManagedAlias}, err)
	}
	k, err := m.resolve(ctx, ManagedAlias, true)
	if err != nil {
		return KeyMetadata{}, err
	}
	return k.metadata(), nil
}

func (m *Manager) makeManagedKey(ctx context.Context, by Caller) error {
	id, err := newKeyUUID()
	if err != nil {
		return err
	}
	u := &Use{Operation: "CreateKey", Key: id.ARN(), Detail: ManagedAlias + ", managed by the service", Reason: "the owner"}
	var k *cmk
	return m.perform(ctx, by, change{use: u, check: func() (func(kv.Txn) error, error) {
		err := m.view(ctx, func(r kv.Reader) error { return m.aliasFree(ctx, r, ManagedAlias) })
		return func(tx kv.Txn) error { return m.putManagedKey(ctx, tx, k) }, err
	}, prepare: func() (undo func(), err error) {
		if k, err = m.generateKey(ctx, id, "keys of volumes, managed by kmsfs"); err != nil {
			return nil, err
		}
		return func() { _ = m.token.DestroyKey(context.WithoutCancel(ctx), k.current().tokenKey) }, nil
	}})
}

func (m *Manager) putManagedKey(ctx context.Context, tx kv.Txn, k *cmk) error {
	made := *k
	made.record.Managed = true
	made.record.Rotation = &rotationRecord{Days: DefaultPeriod, Next: m.now().UTC().Add(days(DefaultPeriod))}
	if err := m.rows.put(tx, key(rowRotation, k.id[:]), struct{}{}); err != nil {
		return err
	}
	return m.putNewKey(ctx, tx, &made, CreateKeyInput{Alias: ManagedAlias})
}
