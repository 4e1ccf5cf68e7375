package keyring

import (
	"context"
	"errors"
	"fmt"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/meta"
)

// rootName is the root directory's name in its encryption context.
const rootName = "/"

// unwrap reads a zone's row and opens one of its wraps, the first that opens.
func (k *Keyring) unwrap(ctx context.Context, id meta.ZoneID) (*meta.ZoneKeys, error) {
	z, err := k.cfg.Zone(ctx, id)
	if err != nil {
		return nil, classify(err)
	}
	encryptionContext, err := k.context(ctx, z)
	if err != nil {
		return nil, classify(err)
	}
	var caller keymgr.Caller
	if k.cfg.Caller != nil {
		caller = k.cfg.Caller(ctx)
	}
	var keys *meta.ZoneKeys
	err = k.first(ctx, caller, z.Wraps, encryptionContext, func(key *blockcrypt.Key) (err error) {
		if keys, err = z.Keys(k.cfg.Volume, key); err == nil && z.ByCMK() {
			keys.Files = &fileKeys{k: k, zone: z.ID, cmk: z.Wraps[0].KeyID}
		}
		return err
	})
	if err != nil || z.Former == nil {
		return keys, err
	}
	err = k.first(ctx, caller, z.Former.Wraps, encryptionContext, func(key *blockcrypt.Key) (err error) {
		keys.Former, err = z.FormerSealer(k.cfg.Volume, key)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("former key: %w", err)
	}
	return keys, nil
}

// first opens the first of the wraps that opens, and whose key use takes.
func (k *Keyring) first(ctx context.Context, by keymgr.Caller, wraps []meta.ZoneWrap, encryptionContext keymgr.Context, use func(*blockcrypt.Key) error) error {
	failures := make([]error, 0, len(wraps))
	for _, w := range wraps {
		err := k.open(ctx, by, w, encryptionContext, use)
		if err == nil {
			return nil
		}
		failures = append(failures, err)
	}
	return worst(failures)
}

// open opens one wrap and has what is in it used. Raw keys are wiped before it returns.
func (k *Keyring) open(ctx context.Context, by keymgr.Caller, w meta.ZoneWrap, encryptionContext keymgr.Context, use func(*blockcrypt.Key) error) error {
	out, err := k.cfg.Keys.Decrypt(ctx, by, keymgr.DecryptInput{Blob: w.Blob, Context: encryptionContext, KeyID: w.KeyID})
	defer clear(out.Plaintext)
	if err != nil {
		return fmt.Errorf("unwrap with %s: %w", w.KeyID, classify(err))
	}
	zoneKey, err := blockcrypt.KeyFromBytes(out.Plaintext)
	if err != nil {
		return fmt.Errorf("unwrap with %s: %w: %w", w.KeyID, meta.ErrAuth, err)
	}
	defer zoneKey.Wipe()
	if err := use(zoneKey); err != nil {
		return fmt.Errorf("unwrap with %s: %w", w.KeyID, err)
	}
	return nil
}

func (k *Keyring) context(ctx context.Context, z *meta.Zone) (keymgr.Context, error) {
	if z.ID == meta.RootZone {
		return meta.ZoneContext(k.cfg.Volume, z.ID, 0, rootName), nil
	}
	if k.cfg.Place == nil {
		return nil, fmt.Errorf("place of zone %d is not known: %w", z.ID, meta.ErrInvalid)
	}
	parent, name, err := k.cfg.Place(ctx, z)
	if err != nil {
		return nil, fmt.Errorf("place of zone %d: %w", z.ID, err)
	}
	return meta.ZoneContext(k.cfg.Volume, z.ID, parent, name), nil
}

// classify adds the class that users of a meta.Keyring test for to an error of the key manager.
func classify(err error) error {
	switch {
	case errors.Is(err, meta.ErrKeyRevoked), errors.Is(err, meta.ErrKeyUnavailable), errors.Is(err, meta.ErrAuth), errors.Is(err, meta.ErrNotFound):
		return err
	case errors.Is(err, keymgr.ErrKeyUnavailable):
		return fmt.Errorf("%w: %w", meta.ErrKeyUnavailable, err)
	case errors.Is(err, keymgr.ErrDisabled), errors.Is(err, keymgr.ErrInvalidState), errors.Is(err, keymgr.ErrNotFound),
		errors.Is(err, keymgr.ErrAccessDenied), errors.Is(err, keymgr.ErrNotAuthorized):
		return fmt.Errorf("%w: %w", meta.ErrKeyRevoked, err)
	case errors.Is(err, keymgr.ErrInvalidCiphertext), errors.Is(err, keymgr.ErrIncorrectKey):
		return fmt.Errorf("%w: %w", meta.ErrAuth, err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", meta.ErrKeyUnavailable, err)
	default:
		return fmt.Errorf("%w: %w", meta.ErrKeyUnavailable, err)
	}
}

// isOwn tells what is about who asks, or about us.
func isOwn(err error) bool {
	return errors.Is(err, keymgr.ErrAccessDenied) || errors.Is(err, keymgr.ErrNotAuthorized) || errors.Is(err, context.Canceled) || errors.Is(err, meta.ErrInvalid)
}

// isRefusal tells a decision from an accident.
func isRefusal(err error) bool { return errors.Is(err, meta.ErrKeyRevoked) }

// worst picks what to report when no wrap opened: as long as one of them might open later it is that one's error, then a refusal, then damage.
func worst(failures []error) error {
	for _, class := range []error{meta.ErrKeyUnavailable, meta.ErrKeyRevoked} {
		for _, err := range failures {
			if errors.Is(err, class) {
				return err
			}
		}
	}
	if len(failures) == 0 {
		return fmt.Errorf("zone without wraps: %w", meta.ErrCorrupt)
	}
	return failures[0]
}
