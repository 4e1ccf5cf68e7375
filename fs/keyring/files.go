package keyring

import (
	"context"
	"fmt"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/hsm/awake"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/fair"
	"github.com/kmsfs/kmsfs/meta"
)

// fileKeys is the meta.FileKeys of a zone: each call is one of the key manager, in its turn, in the name of keymgr.CallerOf, at most for Config.Timeout.
type fileKeys struct {
	k    *Keyring
	zone meta.ZoneID
	cmk  string
}

var _ meta.FileKeys = (*fileKeys)(nil)

// TTL is that of the zone.
func (f *fileKeys) TTL() time.Duration { return f.k.ttl(f.zone) }

// Make has the CMK generate a key for a place.
func (f *fileKeys) Make(ctx context.Context, at blockcrypt.Place) (key *blockcrypt.Key, blob string, err error) {
	err = f.call(ctx, func(ctx context.Context) error {
		in := keymgr.GenerateDataKeyInput{KeyID: f.cmk, Bytes: blockcrypt.KeySize, Context: meta.FileContext(at)}
		out, err := f.k.cfg.Keys.GenerateDataKey(ctx, keymgr.CallerOf(ctx), in)
		defer clear(out.Plaintext)
		if err != nil {
			return err
		}
		if key, err = blockcrypt.KeyFromBytes(out.Plaintext); err != nil {
			return fmt.Errorf("%w: %w", meta.ErrAuth, err)
		}
		if blob, err = fileBlob(out.Blob); err != nil {
			key.Wipe()
		}
		return err
	})
	if err != nil {
		return nil, "", err
	}
	return key, blob, nil
}

// Open has the CMK open a blob.
func (f *fileKeys) Open(ctx context.Context, at blockcrypt.Place, blob string) (key *blockcrypt.Key, err error) {
	err = f.call(ctx, func(ctx context.Context) error {
		in := keymgr.DecryptInput{Blob: []byte(blob), Context: meta.FileContext(at), KeyID: f.cmk}
		out, err := f.k.cfg.Keys.Decrypt(ctx, keymgr.CallerOf(ctx), in)
		defer clear(out.Plaintext)
		if err != nil {
			return err
		}
		if key, err = blockcrypt.KeyFromBytes(out.Plaintext); err != nil {
			err = fmt.Errorf("%w: %w", meta.ErrAuth, err)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return key, nil
}

// Move has the CMK make the blob for another place.
func (f *fileKeys) Move(ctx context.Context, from, to blockcrypt.Place, blob string) (moved string, err error) {
	err = f.call(ctx, func(ctx context.Context) error {
		in := keymgr.ReEncryptInput{Blob: []byte(blob), SourceKeyID: f.cmk, SourceContext: meta.FileContext(from), DestinationKeyID: f.cmk, DestinationContext: meta.FileContext(to)}
		out, err := f.k.cfg.Keys.ReEncrypt(ctx, keymgr.CallerOf(ctx), in)
		if err != nil {
			return err
		}
		moved, err = fileBlob(out.Blob)
		return err
	})
	return moved, err
}

// fileBlob checks what the key manager gave.
func fileBlob(b []byte) (string, error) {
	if len(b) == 0 || len(b) > meta.MaxFileBlob {
		return "", fmt.Errorf("the key manager's blob has %d bytes, a file's row takes 1 to %d: %w", len(b), meta.MaxFileBlob, meta.ErrInvalid)
	}
	return string(b), nil
}

// call makes one call when its user's turn has come.
func (f *fileKeys) call(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := awake.WithTimeout(ctx, f.k.cfg.Timeout)
	defer cancel()
	uid, some := keymgr.UserOf(ctx)
	turn := fair.NewTurn[user]()
	f.k.fair.Want(turn, user{uid, some})
	if err := f.k.fair.Wait(ctx, turn); err != nil {
		return fmt.Errorf("%s: other calls of the key manager do not end: %w: %w", f.cmk, meta.ErrKeyUnavailable, err)
	}
	defer f.k.fair.Done(turn)
	if err := do(ctx); err != nil {
		return fmt.Errorf("%s: %w", f.cmk, classifyFile(err))
	}
	return nil
}

// classifyFile is classify, but that what says something of the caller and not of the key stays what it is: a refusal, an interruption.
func classifyFile(err error) error {
	if isOwn(err) {
		return err
	}
	return classify(err)
}
