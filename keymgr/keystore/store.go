package keystore

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/hsm/kms"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// KVParams says which tables to open or make.
type KVParams struct {
	Dir    string          // KEYSTORE/db; exists
	ID     [16]byte        // of the key store
	Key    *blockcrypt.Key // for what the tables' driver authenticates itself (its journal); wiped when OpenKV has returned
	Create bool            // make them; they are not there yet
}

// OpenKV opens or makes the tables of a key store.
type OpenKV func(ctx context.Context, p KVParams) (kv.Store, error)

// Options are the surroundings of a key store.
type Options struct {
	OpenKV       OpenKV           // required
	WorkerBinary string           // program for PKCS#11 tokens; "": kmsfs-hsm-worker beside this program
	Now          func() time.Time // nil: time.Now
	Log          *slog.Logger     // nil: silent
	AWSLimits    bool             // keymgr.Config.AWSLimits
	GrantDelay   time.Duration    // keymgr.Config.GrantDelay

	// Through puts something between the key manager and its token, as tests do: one that is slow, or fails. nil: nothing.
	Through func(hsm.Token) hsm.Token

	// AcceptRestore opens a key store that is older than its token knows; that is recorded, in the name of Self.
	AcceptRestore bool
	Self          keymgr.Caller
	Audit         AuditOptions // how the audit log is kept
	KeyUseLog     *KeyUseLog   // of this key store, if the caller has it open; nil: Open opens it. Init does not use it
}

// InitConfig says what key store to make.
type InitConfig struct {
	Dir    string         // made with mode 0700 if it is not there
	Token  TokenConfig    // zero: an embedded token
	Unlock UnlockConfig   // recorded as it is
	Secret *locked.Buffer // of the kind Unlock.Kind; only read
	// AuditDir is the absolute path of the audit log; "": KEYSTORE/audit.
	AuditDir string
	Options
}

// Init makes a key store: its token (or, with PKCS#11, a root key in the token), its store key and empty tables. Nothing is left behind when it
// fails. It takes the lock while it works. Errors: ErrExists, ErrInUse, ErrUnsafe, hsm's (hsm.ErrPIN, hsm.ErrTokenAway, …), the system's.
func Init(ctx context.Context, cfg InitConfig) (Config, error) {
	if cfg.Token.Kind == "" {
		cfg.Token.Kind = hsm.KindSoft
	}
	if cfg.Token.Kind == hsm.KindKMS {
		binding := make([]byte, kms.BindingSize)
		_, _ = rand.Read(binding)
		cfg.Token.Binding = hex.EncodeToString(binding)
	}
	out, err := initialise(ctx, cfg)
	if err != nil {
		return Config{}, fmt.Errorf("make key store %s: %w", cfg.Dir, err)
	}
	return out, nil
}

func initialise(ctx context.Context, cfg InitConfig) (out Config, err error) {
	c := Config{Created: cfg.now().UTC().Truncate(time.Second), Token: cfg.Token, Unlock: cfg.Unlock, RootKey: hsm.NewKeyID(), AuditDir: cfg.AuditDir}
	_, _ = rand.Read(c.ID[:])
	if err := c.check(); err != nil {
		return Config{}, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return Config{}, err
	}
	if _, err := CheckDir(cfg.Dir); err != nil {
		return Config{}, err
	}
	lock, err := Acquire(cfg.Dir)
	if err != nil {
		return Config{}, err
	}
	defer lock.Release()
	if err := checkVacant(cfg.Dir); err != nil {
		return Config{}, err
	}
	defer func() {
		if err != nil {
			for _, name := range madeByInit {
				_ = os.RemoveAll(filepath.Join(cfg.Dir, name))
			}
		}
	}()
	for _, name := range []string{"db", "audit", "run"} {
		if err := os.Mkdir(filepath.Join(cfg.Dir, name), 0o700); err != nil {
			return Config{}, err
		}
	}
	if err := fill(ctx, cfg, &c); err != nil {
		return Config{}, err
	}
	data, err := c.encode()
	if err != nil {
		return Config{}, err
	}
	if err := writeFile(filepath.Join(cfg.Dir, configName), data); err != nil { // last: now it is a key store
		return Config{}, err
	}
	return c, syncDir(filepath.Dir(filepath.Clean(cfg.Dir)))
}

// madeByInit is what Init makes in the directory.
var madeByInit = []string{configName, "token", "db", "audit", "run"}

// checkVacant refuses a directory in which there is a key store or a part of one.
func checkVacant(dir string) error {
	for _, name := range madeByInit {
		_, err := os.Lstat(filepath.Join(dir, name))
		switch {
		case err == nil && name == configName:
			return ErrExists
		case err == nil:
			return fmt.Errorf("%w: %s is there without its %s; if an init was interrupted here and no key was ever used, remove it",
				ErrExists, filepath.Join(dir, name), configName)
		case !errors.Is(err, os.ErrNotExist):
			return err
		}
	}
	return nil
}

// fill makes token, store key and tables.
func fill(ctx context.Context, cfg InitConfig, c *Config) (err error) {
	secret, done, err := c.trim(cfg.Secret)
	if err != nil {
		return err
	}
	defer done()
	token, err := openToken(ctx, cfg.Dir, *c, secret, cfg.Options, true)
	if err != nil {
		return err
	}
	defer token.Close()
	info, err := token.Info(ctx)
	if err != nil {
		return err
	}
	if c.Token.Kind == hsm.KindPKCS11 {
		c.Token.Serial = info.Serial
	}
	if _, err := token.GenerateKey(ctx, c.RootKey, "kmsfs-root"); err != nil {
		return fmt.Errorf("generate root key: %w", err)
	}
	defer func() {
		if err != nil {
			_ = token.DestroyKey(context.WithoutCancel(ctx), c.RootKey)
		}
	}()
	storeKey, err := blockcrypt.NewKey()
	if err != nil {
		return err
	}
	defer storeKey.Wipe()
	if c.StoreKey, err = wrapStoreKey(ctx, token, *c, storeKey); err != nil {
		return err
	}
	store, err := openTables(ctx, cfg.Dir, *c, storeKey, cfg.Options, true)
	if err != nil {
		return err
	}
	err = keymgr.Format(ctx, keymgr.Config{ID: c.ID, Token: token, Store: store, StoreKey: storeKey, Recorder: noLog{}, Now: cfg.Now})
	return errors.Join(err, store.Close())
}

// noLog is the Recorder of a Manager that uses no key.
type noLog struct{}

func (noLog) Record(context.Context, keymgr.Use) error { return errors.New("no key-use log") }

// Store is an unlocked key store.
type Store struct {
	Dir     string
	Config  Config
	Token   hsm.Token
	Manager *keymgr.Manager
	Log     *KeyUseLog

	tables kv.Store
	secret [sha256.Size]byte // digest under salt, to recognise the secret again
	salt   [32]byte
	opts   Options
}

// Open unlocks the key store in dir. The caller holds its lock (Acquire). secret is of the configured kind and only read; nil means that the key store is to
// unlock itself from what is configured (ErrNoSecret if that is nothing). With a passphrase it takes some tenths of a second. Errors: those of Load;
// hsm.ErrPIN (wrong secret), hsm.ErrTokenAway, …; ErrDamaged; the tables' own.
func Open(ctx context.Context, dir string, secret *locked.Buffer, opts Options) (*Store, error) {
	cfg, err := Load(dir)
	if err != nil {
		return nil, err
	}
	if secret == nil {
		if secret, err = cfg.Unlock.read(); err != nil {
			return nil, fmt.Errorf("unlock key store %s: %w", dir, err)
		}
		defer secret.Close()
	}
	secret, done, err := cfg.trim(secret)
	if err != nil {
		return nil, fmt.Errorf("unlock key store %s: %w", dir, err)
	}
	defer done()
	s := &Store{Dir: dir, Config: cfg, opts: opts}
	if err := s.open(ctx, secret); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("unlock key store %s: %w", dir, err)
	}
	_, _ = rand.Read(s.salt[:])
	s.secret = s.digest(secret)
	return s, nil
}

func (s *Store) open(ctx context.Context, secret *locked.Buffer) error {
	if err := s.openUnattached(ctx, secret, true); err != nil {
		return err
	}
	if err := s.Manager.EnsureAuditKey(ctx); err != nil {
		return fmt.Errorf("key for the audit log: %w", err)
	}
	return s.Log.Trail.Attach(ctx, s.Manager)
}

// openUnattached is open up to the audit log's check and seals; without the log nothing can be recorded.
func (s *Store) openUnattached(ctx context.Context, secret *locked.Buffer, withLog bool) (err error) {
	if s.Token, err = openToken(ctx, s.Dir, s.Config, secret, s.opts, false); err != nil {
		return err
	}
	if s.opts.Through != nil {
		s.Token = s.opts.Through(s.Token)
	}
	storeKey, err := unwrapStoreKey(ctx, s.Token, s.Config)
	if err != nil {
		return err
	}
	defer storeKey.Wipe()
	if s.tables, err = openTables(ctx, s.Dir, s.Config, storeKey, s.opts, false); err != nil {
		return err
	}
	if s.Log = s.opts.KeyUseLog; s.Log == nil && withLog {
		if s.Log, err = OpenLog(s.Dir, s.Config, s.opts); err != nil {
			return err
		}
	}
	var recorder keymgr.Recorder = noLog{}
	if s.Log != nil {
		recorder = s.Log
	}
	s.Manager, err = keymgr.Open(ctx, keymgr.Config{ID: s.Config.ID, Token: s.Token, Store: s.tables, StoreKey: storeKey, Recorder: recorder, Now: s.opts.Now,
		AWSLimits: s.opts.AWSLimits, GrantDelay: s.opts.GrantDelay, AcceptRestore: s.opts.AcceptRestore, Self: s.opts.Self})
	return err
}

// Verify is nil if secret is the one that opens the key store, hsm.ErrPIN if not. It does not trouble a PKCS#11 token, which counts wrong PINs.
func (s *Store) Verify(secret *locked.Buffer) error {
	secret, done, err := s.Config.trim(secret)
	if err != nil {
		return err
	}
	defer done()
	if s.Config.Token.Kind != hsm.KindSoft {
		if d := s.digest(secret); subtle.ConstantTimeCompare(d[:], s.secret[:]) != 1 {
			return hsm.ErrPIN
		}
		return nil
	}
	t, err := openSoft(s.Dir, s.Config, secret, false)
	if err != nil {
		return err
	}
	return t.Close()
}

func (s *Store) digest(secret *locked.Buffer) [sha256.Size]byte {
	h := sha256.New()
	h.Write(s.salt[:])
	h.Write(secret.Bytes())
	return [sha256.Size]byte(h.Sum(nil))
}

// Close takes the key store down: tables are made durable, keys are wiped. Calls of the Manager under way fail.
func (s *Store) Close() error {
	var errs []error
	if s.Log != nil && s.Log != s.opts.KeyUseLog {
		errs = append(errs, s.Log.Close()) // it is sealed once more
	}
	if s.tables != nil {
		errs = append(errs, s.tables.Close())
	}
	if s.Token != nil {
		errs = append(errs, s.Token.Close())
	}
	return errors.Join(errs...)
}

func (o Options) now() time.Time {
	if o.Now != nil {
		return o.Now()
	}
	return time.Now()
}
