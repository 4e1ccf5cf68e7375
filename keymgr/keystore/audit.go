package keystore

import (
	"context"
	"errors"
	"fmt"

	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/audit/seal"
)

// AuditHeads gives what audit logs of the key store in dir are verified against, while no key daemon runs; the log itself is not touched. secret as for Open. Errors: ErrInUse (a
// keyd runs), those of Open.
func AuditHeads(ctx context.Context, dir string, secret *locked.Buffer, opts Options) (key seal.PublicKey, heads []seal.Anchor, err error) {
	err = unattached(ctx, dir, secret, opts, false, func(s *Store) error {
		key, heads, err = s.Manager.AuditHeads(ctx)
		return err
	})
	return key, heads, err
}

// AcceptAudit gives up the anchored head of an audit stream while no key daemon runs: keymgr.Manager.AcceptAudit, for a log with which none starts. It is recorded in the log.
func AcceptAudit(ctx context.Context, dir string, secret *locked.Buffer, opts Options, by keymgr.Caller, stream, reason string) error {
	return unattached(ctx, dir, secret, opts, true, func(s *Store) error { return s.Manager.AcceptAudit(ctx, by, stream, reason) })
}

// unattached opens a key store whose log may not be the one that was sealed.
func unattached(ctx context.Context, dir string, secret *locked.Buffer, opts Options, withLog bool, fn func(*Store) error) error {
	lock, err := Acquire(dir)
	if err != nil {
		return err
	}
	defer lock.Release()
	cfg, err := Load(dir)
	if err != nil {
		return err
	}
	if secret == nil {
		if secret, err = cfg.Unlock.read(); err != nil {
			return fmt.Errorf("unlock key store %s: %w", dir, err)
		}
		defer secret.Close()
	}
	trimmed, done, err := cfg.trim(secret)
	if err != nil {
		return fmt.Errorf("unlock key store %s: %w", dir, err)
	}
	defer done()
	s := &Store{Dir: dir, Config: cfg, opts: opts}
	if err = s.openUnattached(ctx, trimmed, withLog); err == nil {
		err = fn(s)
	}
	return errors.Join(err, s.Close())
}
