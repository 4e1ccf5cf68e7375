package keystore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/hsm/kms"
	"github.com/kmsfs/kmsfs/hsm/soft"
	"github.com/kmsfs/kmsfs/hsm/worker"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// openToken opens the key store's token with a secret of the configured kind; create makes an embedded one, and prepares a PKCS#11 one.
func openToken(ctx context.Context, dir string, cfg Config, secret *locked.Buffer, opts Options, create bool) (hsm.Token, error) {
	if cfg.Token.Kind == hsm.KindSoft {
		return openSoft(dir, cfg, secret, create)
	}
	if cfg.Token.Kind == hsm.KindKMS {
		return openKMS(ctx, cfg, secret)
	}
	binary := opts.WorkerBinary
	if binary == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find the token's worker program: %w", err)
		}
		binary = filepath.Join(filepath.Dir(self), "kmsfs-hsm-worker")
	}
	t, err := worker.Start(ctx, worker.Config{Binary: binary, Module: cfg.Token.Module, TokenLabel: cfg.Token.Label, Serial: cfg.Token.Serial,
		PIN: secret, Initialize: create, Log: opts.Log})
	if err != nil {
		return nil, err // a nil *worker.Client must not become a Token
	}
	return t, nil
}

func openKMS(ctx context.Context, cfg Config, secret *locked.Buffer) (hsm.Token, error) {
	location, err := kms.ParseLocation(cfg.Token.Module)
	if err != nil {
		return nil, err
	}
	binding, err := hex.DecodeString(cfg.Token.Binding)
	if err != nil {
		return nil, fmt.Errorf("%w: binding: %w", ErrDamaged, err)
	}
	t, err := kms.Open(ctx, kms.Config{Location: location, Secret: secret, Binding: binding})
	if err != nil {
		return nil, err // a nil *kms.Token must not become a Token
	}
	return t, nil
}

func openSoft(dir string, cfg Config, secret *locked.Buffer, create bool) (hsm.Token, error) {
	unlock := soft.KeyBytes(secret)
	if cfg.Unlock.Kind == Passphrase {
		unlock = soft.Passphrase(secret)
	}
	open := soft.Open
	if create {
		open = soft.Create
	}
	t, err := open(filepath.Join(dir, "token"), unlock)
	if err != nil {
		return nil, err
	}
	return t, nil
}

func openTables(ctx context.Context, dir string, cfg Config, storeKey *blockcrypt.Key, opts Options, create bool) (kv.Store, error) {
	key, err := blockcrypt.DeriveKey(storeKey, "keystore journal", cfg.ID[:])
	if err != nil {
		return nil, fmt.Errorf("derive journal key: %w", err)
	}
	defer key.Wipe()
	store, err := opts.OpenKV(ctx, KVParams{Dir: filepath.Join(dir, "db"), ID: cfg.ID, Key: key, Create: create})
	if err != nil {
		return nil, fmt.Errorf("open tables: %w", err)
	}
	return store, nil
}

// storeKeyAAD binds the wrapped store key to its key store: "kmsfs store key" || version u8 || encoded context {kmsfs:keystore: id}.
func storeKeyAAD(cfg Config) ([]byte, error) {
	c, err := blockcrypt.EncodeContext(map[string]string{"kmsfs:keystore": hex.EncodeToString(cfg.ID[:])})
	if err != nil {
		return nil, err
	}
	return append(append([]byte("kmsfs store key"), configVersion), c...), nil
}

func wrapStoreKey(ctx context.Context, token hsm.Token, cfg Config, storeKey *blockcrypt.Key) ([]byte, error) {
	aad, err := storeKeyAAD(cfg)
	if err != nil {
		return nil, err
	}
	sealed, err := token.Encrypt(ctx, cfg.RootKey, storeKey[:], aad)
	if err != nil {
		return nil, fmt.Errorf("wrap store key: %w", err)
	}
	return keymgr.EncodeSealed(sealed)
}

// unwrapStoreKey is the inverse of wrapStoreKey. ErrDamaged if what is stored was not made by it.
func unwrapStoreKey(ctx context.Context, token hsm.Token, cfg Config) (*blockcrypt.Key, error) {
	sealed, err := keymgr.DecodeSealed(cfg.StoreKey)
	if err != nil {
		return nil, fmt.Errorf("%w: store key: %w", ErrDamaged, err)
	}
	aad, err := storeKeyAAD(cfg)
	if err != nil {
		return nil, err
	}
	plain, err := token.Decrypt(ctx, cfg.RootKey, sealed, aad)
	defer locked.Wipe(plain)
	switch {
	case errors.Is(err, hsm.ErrAuth):
		return nil, fmt.Errorf("%w: store key: %w", ErrDamaged, err)
	case errors.Is(err, hsm.ErrKeyNotFound):
		return nil, fmt.Errorf("%w: the token has no root key of this key store: %w", ErrDamaged, err)
	case err != nil:
		return nil, fmt.Errorf("unwrap store key: %w", err)
	}
	key, err := blockcrypt.KeyFromBytes(plain)
	if err != nil {
		return nil, fmt.Errorf("%w: store key: %w", ErrDamaged, err)
	}
	return key, nil
}
