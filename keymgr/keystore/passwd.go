package keystore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/hsm/soft"
	"github.com/kmsfs/kmsfs/keymgr"
)

// ErrOtherKind: the secret of a key store can be replaced by one of the same kind only, and a PKCS#11 token's PIN by its own tools only.
var ErrOtherKind = errors.New("the secret cannot be replaced by this")

// ChangeSecret makes the key store in dir, whose embedded token old opens, open by fresh instead. unlock is recorded; it is of the kind there was. It is written to
// the audit log before it is done. It is durable when it returns; if it is cut short, fresh may already be the one that opens. Errors: ErrInUse (a keyd runs),
// ErrOtherKind, hsm.ErrPIN (old is wrong), those of Load.
func ChangeSecret(ctx context.Context, dir string, old, fresh *locked.Buffer, unlock UnlockConfig, opts Options) error {
	lock, err := Acquire(dir)
	if err != nil {
		return err
	}
	defer lock.Release()
	cfg, err := Load(dir)
	if err != nil {
		return err
	}
	if cfg.Token.Kind != hsm.KindSoft || unlock.Kind != cfg.Unlock.Kind {
		return fmt.Errorf("change the secret of key store %s: %w: it opens by a %s", dir, ErrOtherKind, cfg.Unlock.Kind)
	}
	token, err := openSoft(dir, cfg, old, false)
	if err != nil {
		return fmt.Errorf("change the secret of key store %s: %w", dir, err)
	}
	defer token.Close()
	if err := recordChange(ctx, dir, cfg, opts); err != nil {
		return err
	}
	by := soft.KeyBytes(fresh)
	if unlock.Kind == Passphrase {
		by = soft.Passphrase(fresh)
	}
	if err := token.(*soft.Token).ChangeSecret(ctx, by); err != nil {
		return fmt.Errorf("change the secret of key store %s: %w", dir, err)
	}
	cfg.Unlock = unlock
	data, err := cfg.encode()
	if err == nil {
		err = writeFile(filepath.Join(dir, configName), data)
	}
	if err != nil {
		return fmt.Errorf("record the new secret's place in key store %s: %w", dir, err)
	}
	return nil
}

func recordChange(ctx context.Context, dir string, cfg Config, opts Options) error {
	log, err := OpenLog(dir, cfg, opts)
	if err != nil {
		return err
	}
	uid := os.Geteuid()
	err = log.Record(ctx, keymgr.Use{
		Time: opts.now().UTC(), Operation: "ChangeSecret", UID: uid, GID: os.Getegid(), PID: os.Getpid(), Decision: keymgr.Allow,
	})
	return errors.Join(err, log.Close())
}
