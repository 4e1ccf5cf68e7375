package keystore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// ErrUnmovable: the backing keys cannot come into the token that was named.
var ErrUnmovable = errors.New("the backing keys cannot be moved there")

// ErrNewLog: the audit log of the key store to come cannot begin where it would.
var ErrNewLog = errors.New("the new key store needs an audit log of its own")

// Names beside the key store's directory: what a migration makes until its switch, and what was there before it. The marker is a file in the first, and in the directory of an audit log that is not in it, until it is done.
const (
	migrating = ".migrating"
	before    = ".before-migration"
	marker    = "migration"
)

// MigrateConfig says to which token a key store moves.
type MigrateConfig struct {
	Dir    string
	Secret *locked.Buffer // of the key store as it is; nil: from where its configuration says
	Token  TokenConfig    // a PKCS#11 token
	Unlock UnlockConfig   // of the new token; PIN or Credential
	PIN    *locked.Buffer // of the new token

	// AuditDir is the absolute path of the directory, new or empty, in which the new key store's audit log begins; "": in the key store, if the old one's is.
	AuditDir string
	Options

	after func(step string) error // called between steps; a test's
}

// Migrated says what a migration did.
type Migrated struct {
	Old   string // where the key store as it was lies now
	Keys  int    // backing keys
	Moved bool   // they were taken out of an embedded token; false: the new token had them
	Log   string // where the old audit log lies now
}

// Migrate moves a key store to another token: with an embedded token every backing key is imported there; with a PKCS#11 token, whose keys cannot be read, the new token has to have the same keys already (by its vendor's
// means of copying, or because it is the same token by another module). The key store keeps its id, rows and blobs. Everything is made beside it and tried out; then both directories change their names in one step. What
// was interrupted before that has changed nothing but the new token, and the next Migrate goes on. The caller's process is the only one that uses the key store. Errors: ErrInUse, ErrUnmovable, ErrNewLog, ErrExists, those of Open, of the new
// token, and the system's.
func Migrate(ctx context.Context, cfg MigrateConfig) (Migrated, error) {
	cfg.Dir = filepath.Clean(cfg.Dir)
	out, err := migrate(ctx, cfg)
	if err != nil {
		return out, fmt.Errorf("migrate key store %s: %w", cfg.Dir, err)
	}
	return out, nil
}

func migrate(ctx context.Context, cfg MigrateConfig) (out Migrated, err error) {
	lock, err := Acquire(cfg.Dir)
	if err != nil {
		return out, err
	}
	defer lock.Release()
	was, err := Load(cfg.Dir)
	if err != nil {
		return out, err
	}
	if err := checkMove(was, cfg); err != nil {
		return out, err
	}
	fresh := cfg.Dir + migrating
	if err := errors.Join(removeMarker(cfg.Dir), clearMigration(fresh)); err != nil {
		return out, err
	}
	mark := newMarker(cfg.AuditDir)
	if out.Keys, out.Moved, err = buildMigrated(ctx, cfg, fresh, mark); err != nil {
		return out, err
	}
	if err := cfg.reached("built"); err != nil {
		return out, err
	}
	if err := unix.Renameat2(unix.AT_FDCWD, fresh, unix.AT_FDCWD, cfg.Dir, unix.RENAME_EXCHANGE); err != nil {
		return out, fmt.Errorf("change the names of %s and %s: %w", fresh, cfg.Dir, err)
	}
	if err := errors.Join(syncDir(filepath.Dir(cfg.Dir)), cfg.reached("switched")); err != nil {
		return out, err
	}
	out.Old, err = setAside(fresh, cfg.Dir)
	out.Log = AuditDir(out.Old, was)
	err = errors.Join(err, removeMarker(cfg.Dir))
	if cfg.AuditDir != "" {
		err = errors.Join(err, removeMarker(cfg.AuditDir))
	}
	return out, err
}

// removeMarker says that a directory is no migration under way.
func removeMarker(dir string) error {
	if err := os.Remove(filepath.Join(dir, marker)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return syncDir(dir)
}

func (cfg *MigrateConfig) reached(step string) error {
	if cfg.after == nil {
		return nil
	}
	return cfg.after(step)
}

// checkMove refuses moves that there are none of.
func checkMove(was Config, cfg MigrateConfig) error {
	switch {
	case cfg.Token.Kind != hsm.KindPKCS11:
		return fmt.Errorf("%w: a key store moves to a PKCS#11 token only; keys do not leave one", ErrUnmovable)
	case was.Token.Kind == hsm.KindKMS:
		return fmt.Errorf("%w: they are in another key manager, which gives none away; make a key store with the token and add wraps under its keys (kmsfs rewrap --add KEY --keystore DIR)", ErrUnmovable)
	case was.Token.Kind == hsm.KindPKCS11 && was.Token.Module == cfg.Token.Module && was.Token.Label == cfg.Token.Label:
		return fmt.Errorf("%w: the key store uses that token already", ErrUnmovable)
	}
	return checkNewLog(was, cfg)
}

// clearMigration removes what an interrupted migration left. Without the marker it is the key store from before a migration that was interrupted after its switch, or another thing, and nobody's to remove.
func clearMigration(fresh string) error {
	if _, err := os.Lstat(fresh); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	mark, err := os.ReadFile(filepath.Join(fresh, marker))
	if err != nil {
		return fmt.Errorf("%w: %s is the key store from before a migration, or something else; move it away, and keep it", ErrExists, fresh)
	}
	if err := clearLog(mark); err != nil {
		return err
	}
	return os.RemoveAll(fresh)
}

// setAside gives the old key store its lasting name.
func setAside(fresh, dir string) (string, error) {
	name := dir + before
	for n := 2; ; n++ {
		err := unix.Renameat2(unix.AT_FDCWD, fresh, unix.AT_FDCWD, name, unix.RENAME_NOREPLACE)
		if err == nil {
			return name, syncDir(filepath.Dir(dir))
		}
		if !errors.Is(err, unix.EEXIST) || n > 100 {
			return fresh, fmt.Errorf("the migration is done, the old key store stays at %s: %w", fresh, err)
		}
		name = fmt.Sprintf("%s%s-%d", dir, before, n)
	}
}

// buildMigrated makes the new key store in its directory, complete.
func buildMigrated(ctx context.Context, cfg MigrateConfig, fresh string, mark []byte) (keys int, moved bool, err error) {
	old, err := Open(ctx, cfg.Dir, cfg.Secret, cfg.Options)
	if err != nil {
		return 0, false, err
	}
	defer func() { err = errors.Join(err, old.Close()) }()
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return 0, false, err
	}
	if err := writeFile(filepath.Join(fresh, marker), mark); err != nil {
		return 0, false, err
	}
	if err := takeLogDir(mark); err != nil {
		return 0, false, err
	}
	for _, name := range []string{"db", "audit", "run"} {
		if err := os.Mkdir(filepath.Join(fresh, name), 0o700); err != nil {
			return 0, false, err
		}
	}
	c := old.Config
	c.Token, c.Unlock, c.RootKey, c.AuditDir = cfg.Token, cfg.Unlock, hsm.NewKeyID(), cfg.AuditDir
	pin, done, err := c.trim(cfg.PIN)
	if err != nil {
		return 0, false, err
	}
	defer done()
	token, err := openToken(ctx, fresh, c, pin, cfg.Options, true)
	if err != nil {
		return 0, false, fmt.Errorf("the new token: %w", err)
	}
	defer token.Close()
	m := mover{cfg: cfg, old: old, token: token, dir: fresh, config: c}
	if err := m.move(ctx); err != nil {
		return 0, false, errors.Join(err, m.takeBack(context.WithoutCancel(ctx)))
	}
	return len(m.keys), m.exporter != nil, nil
}

// mover fills the new key store.
type mover struct {
	cfg    MigrateConfig
	old    *Store
	token  hsm.Token
	dir    string
	config Config // of the new key store

	exporter hsm.Exporter // nil: the keys cannot be read
	keys     []keymgr.BackingKey
	rooted   bool
}

// takeBack destroys the root key, which protects nothing yet. Imported keys stay: the next try finds them.
func (m *mover) takeBack(ctx context.Context) error {
	if !m.rooted {
		return nil
	}
	return m.token.DestroyKey(ctx, m.config.RootKey)
}

func (m *mover) move(ctx context.Context) error {
	info, err := m.token.Info(ctx)
	if err != nil {
		return fmt.Errorf("the new token: %w", err)
	}
	m.config.Token.Serial = info.Serial
	m.exporter, _ = m.old.Token.(hsm.Exporter)
	if m.exporter != nil && !info.Imports {
		return fmt.Errorf("%w: the token %q takes no keys from outside (FIPS mode?); make a key store with it and add wraps under its keys (kmsfs rewrap --add KEY --keystore DIR)", ErrUnmovable, info.Label)
	}
	storeKey, err := unwrapStoreKey(ctx, m.old.Token, m.old.Config)
	if err != nil {
		return err
	}
	defer storeKey.Wipe()
	tables, err := openTables(ctx, m.dir, m.config, storeKey, m.cfg.Options, true)
	if err != nil {
		return err
	}
	err = m.fill(ctx, tables, storeKey)
	return errors.Join(err, tables.Close())
}

func (m *mover) fill(ctx context.Context, tables kv.Store, storeKey *blockcrypt.Key) error {
	self := keymgr.Owner(os.Geteuid(), os.Getegid(), os.Getpid())
	rows := rowCopier{ctx: ctx, to: tables}
	detail := fmt.Sprintf("from a %s token to %s token %q, serial %s", m.old.Config.Token.Kind, m.config.Token.Kind, m.config.Token.Label, m.config.Token.Serial)
	if m.config.AuditDir != "" {
		detail += ", audit log from then on at " + m.config.AuditDir
	}
	var err error
	if m.keys, err = m.old.Manager.ExportRows(ctx, self, detail, rows.put); err != nil {
		return err
	}
	if err := errors.Join(rows.flush(), m.cfg.reached("copied")); err != nil {
		return err
	}
	for _, k := range m.keys {
		if err := m.bring(ctx, k); err != nil {
			return fmt.Errorf("backing key %s (%s): %w", k.Token, k.Label, err)
		}
	}
	if err := m.cfg.reached("imported"); err != nil {
		return err
	}
	if _, err := m.token.GenerateKey(ctx, m.config.RootKey, "kmsfs-root"); err != nil {
		return fmt.Errorf("generate root key: %w", err)
	}
	m.rooted = true
	if m.config.StoreKey, err = wrapStoreKey(ctx, m.token, m.config, storeKey); err != nil {
		return err
	}
	return m.settle(ctx, tables, storeKey, self, detail)
}

// bring imports a backing key, or finds it, and tries whether the new token opens what the old one seals.
func (m *mover) bring(ctx context.Context, k keymgr.BackingKey) error {
	if m.exporter != nil {
		err := m.exporter.ExportKey(ctx, k.Token, func(key []byte) error {
			_, err := m.token.(hsm.Importer).ImportKey(ctx, k.Token, k.Label, key)
			return err
		})
		if err != nil && !errors.Is(err, hsm.ErrExists) {
			return err
		}
	}
	info, err := m.token.FindKey(ctx, k.Token)
	if errors.Is(err, hsm.ErrKeyNotFound) {
		return fmt.Errorf("%w: a PKCS#11 token's keys cannot be read, and the new token does not have this one: copy the token by its vendor's means, or make a key store with the new token and add wraps under its keys "+
			"(kmsfs rewrap VOLUME --add KEY --keystore DIR), then drop the old ones", ErrUnmovable)
	}
	if err != nil {
		return err
	}
	if !bytes.Equal(info.CheckValue, k.Check) {
		return fmt.Errorf("%w: the new token has another key of this id", ErrUnmovable)
	}
	const probe = "kmsfs migration probe"
	sealed, err := m.old.Token.Encrypt(ctx, k.Token, []byte(probe), []byte(k.Label))
	if err != nil {
		return fmt.Errorf("probe in the old token: %w", err)
	}
	got, err := m.token.Decrypt(ctx, k.Token, sealed, []byte(k.Label))
	if err != nil || string(got) != probe {
		return fmt.Errorf("%w: the new token does not open what the old one made: %w", ErrUnmovable, err)
	}
	return nil
}

// settle has the key manager put right what is different now, and writes the configuration last.
func (m *mover) settle(ctx context.Context, tables kv.Store, storeKey *blockcrypt.Key, self keymgr.Caller, detail string) error {
	log, err := OpenLog(m.dir, m.config, m.cfg.Options)
	if err != nil {
		return err
	}
	manager, err := keymgr.Open(ctx, keymgr.Config{ID: m.config.ID, Token: m.token, Store: tables, StoreKey: storeKey, Recorder: log, Now: m.cfg.Now, AcceptRestore: true, Self: self})
	if err == nil {
		from := ""
		if m.exporter != nil {
			from = m.old.Config.Token.Kind
		}
		err = manager.Migrated(ctx, self, from, detail)
	}
	if err = errors.Join(err, log.Close()); err != nil {
		return err
	}
	data, err := m.config.encode()
	if err != nil {
		return err
	}
	return errors.Join(writeFile(filepath.Join(m.dir, configName), data), m.cfg.reached("settled"))
}

// rowCopier puts rows into other tables, many at a time.
type rowCopier struct {
	ctx  context.Context
	to   kv.Store
	rows [][2][]byte
}

func (c *rowCopier) put(k, v []byte) error {
	c.rows = append(c.rows, [2][]byte{bytes.Clone(k), bytes.Clone(v)})
	if len(c.rows) < 128 {
		return nil
	}
	return c.flush()
}

func (c *rowCopier) flush() error {
	rev, err := c.to.Update(c.ctx, kv.OpID{}, func(tx kv.Txn) error {
		for _, r := range c.rows {
			tx.Put(r[0], r[1])
		}
		return nil
	})
	if err == nil {
		err = c.to.Sync(c.ctx, rev)
	}
	if err != nil {
		return fmt.Errorf("fill tables: %w", err)
	}
	c.rows = nil
	return nil
}
