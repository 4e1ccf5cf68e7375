package mount

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/hsm/kms"
	"github.com/kmsfs/kmsfs/keymgr/keystore"
	"github.com/kmsfs/kmsfs/meta/kv"
	"github.com/kmsfs/kmsfs/meta/kv/local"
)

// TokenConfig says which token a new key store uses.
type TokenConfig struct {
	Kind   string // hsm.KindSoft or hsm.KindPKCS11; "": soft, or pkcs11 where a module is named
	Module string // of PKCS#11: path of the shared library
	Label  string // of PKCS#11: label of the token

	KeyManager string // "", or another key manager in the place of a token: aws-kms://REGION or kmsfs://HOST:PORT
}

// openedKeyStore is a key store that is there, and what was made of it just now.
type openedKeyStore struct {
	dir         string
	made        bool
	keyFile     string
	madeKeyFile bool
	secretName  string         // for people
	secret      *locked.Buffer // of a key store that was made just now; the caller closes it
}

// openOrMakeKeyStore finds the key store, or makes one where there is none.
func openOrMakeKeyStore(ctx context.Context, cfg InitConfig) (openedKeyStore, error) {
	dir, err := keyStoreDir(cfg.KeyStore)
	if err != nil {
		return openedKeyStore{}, err
	}
	if err := cfg.Secret.absolute(); err != nil {
		return openedKeyStore{}, err
	}
	have, err := keystore.Load(dir)
	switch {
	case errors.Is(err, keystore.ErrNone):
		return makeKeyStore(ctx, dir, cfg)
	case err != nil:
		return openedKeyStore{}, err
	}
	if k := cfg.Token.Kind; k != "" && k != have.Token.Kind {
		return openedKeyStore{}, fmt.Errorf("%w: the key store %s has a %s token already, not %s; name another with --keystore", ErrUsage, dir, have.Token.Kind, k)
	}
	return openedKeyStore{dir: dir, keyFile: have.Unlock.KeyFile, secretName: secretName(have.Unlock)}, nil
}

// InitKeyStore makes a key store without a volume. It fails where there is one.
func InitKeyStore(ctx context.Context, dir string, secret SecretSource, token TokenConfig) (InitResult, error) {
	dir, err := keyStoreDir(dir)
	if err != nil {
		return InitResult{}, err
	}
	if err := secret.absolute(); err != nil {
		return InitResult{}, err
	}
	made, err := makeKeyStore(ctx, dir, InitConfig{KeyStore: dir, Secret: secret, Token: token})
	if err != nil {
		return InitResult{}, err
	}
	made.secret.Close()
	return InitResult{KeyStore: made.dir, NewKeyStore: true, KeyFile: made.keyFile, NewKeyFile: made.madeKeyFile, SecretName: made.secretName}, nil
}

func makeKeyStore(ctx context.Context, dir string, cfg InitConfig) (made openedKeyStore, err error) {
	token, err := cfg.Token.resolve()
	if err != nil {
		return made, err
	}
	unlock, err := unlockConfig(&cfg.Secret, token.Kind)
	if err != nil {
		return made, err
	}
	made = openedKeyStore{dir: dir, made: true, keyFile: unlock.KeyFile, secretName: secretName(unlock)}
	if unlock.KeyFile != "" {
		if within(unlock.KeyFile, dir) {
			return made, fmt.Errorf("%w: the key file %s lies inside the key store that it opens", ErrUsage, unlock.KeyFile)
		}
		if token.Kind != hsm.KindKMS { // an access key comes from elsewhere
			if made.madeKeyFile, err = makeKeyFile(unlock.KeyFile); err != nil {
				return made, err
			}
		}
	}
	if made.secret, err = cfg.Secret.readNew(unlock.Kind); err != nil {
		return made, err
	}
	_, err = keystore.Init(ctx, keystore.InitConfig{
		Dir: dir, Token: token, Unlock: unlock, Secret: made.secret, Options: keyStoreOptions(slog.New(slog.DiscardHandler)),
	})
	if err != nil {
		made.secret.Close()
		if made.madeKeyFile {
			err = errors.Join(err, os.Remove(unlock.KeyFile))
		}
	}
	return made, err
}

// resolve fills in what was left out, and makes the module's path absolute.
func (t TokenConfig) resolve() (keystore.TokenConfig, error) {
	if t.Kind == "" && (t.Module != "" || t.Label != "") {
		t.Kind = hsm.KindPKCS11
	}
	if t.KeyManager != "" && t.KeyManager != "local" {
		if t.Kind != "" {
			return keystore.TokenConfig{}, fmt.Errorf("%w: --keymanager and --token exclude each other", ErrUsage)
		}
		if _, err := kms.ParseLocation(t.KeyManager); err != nil {
			return keystore.TokenConfig{}, fmt.Errorf("%w: %w", ErrUsage, err)
		}
		return keystore.TokenConfig{Kind: hsm.KindKMS, Module: t.KeyManager}, nil
	}
	switch t.Kind {
	case "", hsm.KindSoft:
		if t.Module != "" || t.Label != "" {
			return keystore.TokenConfig{}, fmt.Errorf("%w: an embedded token has no module and no label", ErrUsage)
		}
		return keystore.TokenConfig{Kind: hsm.KindSoft}, nil
	case hsm.KindPKCS11:
		if t.Module == "" || t.Label == "" {
			return keystore.TokenConfig{}, fmt.Errorf("%w: a PKCS#11 token needs --pkcs11-module and --pkcs11-token", ErrUsage)
		}
		module, err := filepath.Abs(t.Module)
		if err != nil {
			return keystore.TokenConfig{}, fmt.Errorf("module %s: %w", t.Module, err)
		}
		return keystore.TokenConfig{Kind: hsm.KindPKCS11, Module: module, Label: t.Label}, nil
	default:
		return keystore.TokenConfig{}, fmt.Errorf("%w: unknown kind of token %q: soft or pkcs11", ErrUsage, t.Kind)
	}
}

// unlockConfig says how a new key store is to be unlocked, from what secret was given.
func unlockConfig(s *SecretSource, tokenKind string) (keystore.UnlockConfig, error) {
	given, err := s.given()
	if err != nil {
		return keystore.UnlockConfig{}, err
	}
	pkcs11 := tokenKind == hsm.KindPKCS11
	if tokenKind == hsm.KindKMS && given != unlockKeyFile && given != unlockCredential {
		return keystore.UnlockConfig{}, fmt.Errorf("%w: --keymanager needs the access key there, as kmsfs identity create --out FILE writes it, in --key-file or --credential", ErrUsage)
	}
	switch given {
	case unlockKeyFile:
		if pkcs11 {
			return keystore.UnlockConfig{}, fmt.Errorf("%w: a PKCS#11 token opens by its PIN (--pin-file), not by a key file", ErrUsage)
		}
		return keystore.UnlockConfig{Kind: keystore.KeyFile, KeyFile: s.KeyFile}, nil
	case unlockCredential:
		return keystore.UnlockConfig{Kind: keystore.Credential, Credential: s.Credential}, nil
	case unlockPIN:
		if !pkcs11 {
			return keystore.UnlockConfig{}, fmt.Errorf("%w: an embedded token has no PIN; use --passphrase-file or --key-file", ErrUsage)
		}
	case unlockPassphrase:
		if pkcs11 {
			return keystore.UnlockConfig{}, fmt.Errorf("%w: a PKCS#11 token opens by its PIN (--pin-file), not by a passphrase", ErrUsage)
		}
	}
	if pkcs11 {
		return keystore.UnlockConfig{Kind: keystore.PIN}, nil
	}
	return keystore.UnlockConfig{Kind: keystore.Passphrase}, nil
}

func secretName(u keystore.UnlockConfig) string {
	switch u.Kind {
	case keystore.KeyFile:
		return "key file " + u.KeyFile
	case keystore.Credential:
		return "systemd credential " + u.Credential
	case keystore.PIN:
		return "token with its PIN"
	default:
		return "passphrase"
	}
}

func keyStoreOptions(log *slog.Logger) keystore.Options {
	return keystore.Options{OpenKV: openTables, Log: log}
}

// openTables opens or makes the tables of a key store: the same store as a volume's, only smaller.
func openTables(ctx context.Context, p keystore.KVParams) (kv.Store, error) {
	opts := local.Options{Dir: p.Dir, Volume: blockcrypt.VolumeID(p.ID), Key: p.Key, SegmentSize: 256 << 10, MaxJournal: 4 << 20, MinFree: 4 << 20, Ballast: true}
	if p.Create {
		if err := local.Create(ctx, opts); err != nil {
			return nil, err
		}
	}
	store, err := local.Open(ctx, opts)
	if err != nil {
		return nil, err // a nil *local.Store must not become a Store
	}
	return store, nil
}

// readNew returns the secret of a key store about to be made: a typed one is asked for twice.
func (s *SecretSource) readNew(kind string) (*locked.Buffer, error) {
	if given, err := s.given(); err != nil || given != "" {
		return s.read(kind)
	}
	return s.ask(kind, kind == unlockPassphrase)
}
