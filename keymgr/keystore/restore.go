package keystore

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// ErrBackup: what was given is not a whole backup of a key store, or was changed.
var ErrBackup = errors.New("not an intact backup of a key store")

// RestoreConfig says what to restore where.
type RestoreConfig struct {
	Dir    string         // made if it is not there; holds no key store
	Secret *locked.Buffer // of the key store when it was backed up; nil: from where its configuration says
	Unlock *UnlockConfig  // recorded instead of the backup's, if it is of the same kind; nil: the backup's

	// Options.AcceptRestore accepts a backup that is older than the token knows, and volumes that have gone on since it was made; both are recorded.
	Options
}

// Restore makes a key store out of a backup. Nothing is left behind when it fails, and nothing in it is believed before it was authenticated. Errors: ErrBackup, ErrExists, ErrInUse,
// ErrUnsafe; hsm.ErrPIN (not its secret); keymgr.ErrRollback (older than the token knows); the system's.
func Restore(ctx context.Context, cfg RestoreConfig, backup io.Reader) (err error) {
	in := &backupReader{r: bufio.NewReader(backup), sum: sha256.New()}
	config, files, err := in.head()
	if err == nil {
		err = restore(ctx, cfg, in, config, files)
	}
	if err != nil {
		return fmt.Errorf("restore key store %s: %w", cfg.Dir, err)
	}
	return nil
}

func restore(ctx context.Context, cfg RestoreConfig, in *backupReader, c Config, files []tokenFile) (err error) {
	if cfg.Unlock != nil {
		if cfg.Unlock.Kind != c.Unlock.Kind {
			return fmt.Errorf("%w: it opens by a %s", ErrOtherKind, c.Unlock.Kind)
		}
		c.Unlock = *cfg.Unlock
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return err
	}
	if _, err := CheckDir(cfg.Dir); err != nil {
		return err
	}
	lock, err := Acquire(cfg.Dir)
	if err != nil {
		return err
	}
	defer lock.Release()
	if err := checkVacant(cfg.Dir); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			for _, name := range madeByInit {
				_ = os.RemoveAll(filepath.Join(cfg.Dir, name))
			}
		}
	}()
	if err := makeDirs(cfg.Dir, files); err != nil {
		return err
	}
	if err := fillFrom(ctx, cfg, in, c); err != nil {
		return err
	}
	data, err := c.encode()
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(cfg.Dir, configName), data); err != nil { // last: now it is a key store
		return err
	}
	return syncDir(filepath.Dir(filepath.Clean(cfg.Dir)))
}

func makeDirs(dir string, files []tokenFile) error {
	names := []string{"db", "audit", "run"}
	if len(files) > 0 {
		names = append(names, "token")
	}
	for _, name := range names {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			return err
		}
	}
	for _, f := range files {
		path := filepath.Join(dir, "token", f.name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := writeFile(path, f.content); err != nil {
			return err
		}
	}
	return nil
}

// fillFrom opens the token and fills the tables from the backup.
func fillFrom(ctx context.Context, cfg RestoreConfig, in *backupReader, c Config) (err error) {
	secret := cfg.Secret
	if secret == nil {
		read, err := c.Unlock.read()
		if err != nil {
			return err
		}
		defer read.Close()
		secret = read
	}
	secret, done, err := c.trim(secret)
	if err != nil {
		return err
	}
	defer done()
	token, err := openToken(ctx, cfg.Dir, c, secret, cfg.Options, false)
	if err != nil {
		return err
	}
	defer token.Close()
	storeKey, err := unwrapStoreKey(ctx, token, c)
	if err != nil {
		return err
	}
	defer storeKey.Wipe()
	sealer, err := backupSealer(c.ID, storeKey)
	if err != nil {
		return err
	}
	tables, err := openTables(ctx, cfg.Dir, c, storeKey, cfg.Options, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tables.Close()) }()
	if err := in.rows(ctx, sealer, tables); err != nil {
		return err
	}
	return settle(ctx, cfg, c, token, tables, storeKey)
}

// settle has the key manager look at what was restored, and puts right what it cannot know.
func settle(ctx context.Context, cfg RestoreConfig, c Config, token hsm.Token, tables kv.Store, storeKey *blockcrypt.Key) error {
	entries, err := os.ReadDir(AuditDir(cfg.Dir, c))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	log, err := OpenLog(cfg.Dir, c, cfg.Options)
	if err != nil {
		return err
	}
	defer log.Close()
	self := keymgr.Owner(os.Geteuid(), os.Getegid(), os.Getpid())
	m, err := keymgr.Open(ctx, keymgr.Config{ID: c.ID, Token: token, Store: tables, StoreKey: storeKey, Recorder: log, Now: cfg.Now, AcceptRestore: cfg.AcceptRestore, Self: self})
	if err != nil {
		return err
	}
	return m.Restored(ctx, self, cfg.AcceptRestore, len(entries) == 0, fmt.Sprintf("key store %x, from a backup", c.ID))
}

// tokenFile is a file of an embedded token.
type tokenFile struct {
	name    string
	content []byte
}

// backupReader reads a backup.
type backupReader struct {
	r   *bufio.Reader
	sum hash.Hash // of the head
}

// take reads n bytes of the head.
func (b *backupReader) take(n int) ([]byte, error) {
	p := make([]byte, n)
	if _, err := io.ReadFull(b.r, p); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBackup, err)
	}
	b.sum.Write(p)
	return p, nil
}

// counted reads a length and so many bytes of the head, at most limit.
func (b *backupReader) counted(width, limit int) ([]byte, error) {
	p, err := b.take(width)
	if err != nil {
		return nil, err
	}
	n := 0
	for _, c := range p {
		n = n<<8 | int(c)
	}
	if n > limit {
		return nil, fmt.Errorf("%w: %d bytes where there are %d at most", ErrBackup, n, limit)
	}
	return b.take(n)
}

func (b *backupReader) head() (c Config, files []tokenFile, err error) {
	magic, err := b.take(len(backupMagic) + 1)
	switch {
	case err != nil:
		return c, nil, err
	case !bytes.HasPrefix(magic, []byte(backupMagic)):
		return c, nil, ErrBackup
	case magic[len(backupMagic)] != backupVersion:
		return c, nil, fmt.Errorf("%w: of a backup: %d", ErrVersion, magic[len(backupMagic)])
	}
	config, err := b.counted(4, maxConfig)
	if err != nil {
		return c, nil, err
	}
	if c, err = parseConfig(config); err != nil {
		return c, nil, err
	}
	count, err := b.take(4)
	if err != nil {
		return c, nil, err
	}
	n := binary.BigEndian.Uint32(count)
	if n > maxTokenFiles || n > 0 != (c.Token.Kind == hsm.KindSoft) {
		return c, nil, fmt.Errorf("%w: %d files of a token", ErrBackup, n)
	}
	for range n {
		name, err := b.counted(2, 255)
		if err != nil {
			return c, nil, err
		}
		if !filepath.IsLocal(string(name)) || filepath.Clean(string(name)) != string(name) || string(name) == "." {
			return c, nil, fmt.Errorf("%w: a file %q of the token", ErrBackup, name)
		}
		content, err := b.counted(4, maxTokenFile)
		if err != nil {
			return c, nil, err
		}
		files = append(files, tokenFile{string(name), content})
	}
	return c, files, nil
}

// rows puts all rows into the tables. What it has put before it finds that the backup is not intact is thrown away with the tables.
func (b *backupReader) rows(ctx context.Context, sealer *blockcrypt.Sealer, tables kv.Store) error {
	digest := [sha256.Size]byte(b.sum.Sum(nil))
	for number := uint32(0); ; number++ {
		sealed, err := b.counted(4, maxPiece)
		if err != nil {
			return err
		}
		last := false
		piece, err := sealer.Open(nil, sealed, pieceAAD(digest, number, false))
		if err != nil {
			last = true
			piece, err = sealer.Open(nil, sealed, pieceAAD(digest, number, true))
		}
		if err != nil {
			return fmt.Errorf("%w: piece %d: %w", ErrBackup, number, err)
		}
		if err := putRows(ctx, tables, piece); err != nil {
			return err
		}
		if !last {
			continue
		}
		if _, err := b.r.ReadByte(); !errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: something follows its end", ErrBackup)
		}
		return nil
	}
}

// putRows puts the rows of a piece, in transactions that are not too long.
func putRows(ctx context.Context, tables kv.Store, piece []byte) error {
	const atOnce = 128
	var keys, values [][]byte
	next := func() ([]byte, error) {
		if len(piece) < 4 || uint64(binary.BigEndian.Uint32(piece)) > uint64(len(piece)-4) {
			return nil, fmt.Errorf("%w: rows", ErrBackup)
		}
		n := binary.BigEndian.Uint32(piece)
		p := piece[4 : 4+n]
		piece = piece[4+n:]
		return p, nil
	}
	for len(piece) > 0 {
		k, err := next()
		if err != nil {
			return err
		}
		v, err := next()
		if err != nil {
			return err
		}
		keys, values = append(keys, k), append(values, v)
		if len(keys) < atOnce && len(piece) > 0 {
			continue
		}
		rev, err := tables.Update(ctx, kv.OpID{}, func(tx kv.Txn) error {
			for i := range keys {
				tx.Put(bytes.Clone(keys[i]), bytes.Clone(values[i]))
			}
			return nil
		})
		if err == nil {
			err = tables.Sync(ctx, rev)
		}
		if err != nil {
			return fmt.Errorf("fill tables: %w", err)
		}
		keys, values = nil, nil
	}
	return nil
}
