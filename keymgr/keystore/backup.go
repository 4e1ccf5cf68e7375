package keystore

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/keymgr"
)

// A backup is one file: a head in clear (the configuration, and the sealed files of an embedded token), which opens with the key store's secret, and its rows in
// sealed pieces, each bound to the head, to its number, and to being the last one. docs/FORMAT.md, section 10.
const (
	backupMagic   = "kmsfs key store backup\n"
	backupVersion = 1
	maxTokenFiles = 1 << 20
	maxTokenFile  = 64 << 10
	pieceSize     = 256 << 10 // a piece is closed when it is longer
	maxPiece      = 4 << 20
)

// Backup writes a backup of the key store to w. It is recorded; changes wait until it is written. Errors: keymgr.ErrAccessDenied (for the owner alone), keymgr.ErrRecord, w's, and
// those of the tables and the token.
func (s *Store) Backup(ctx context.Context, by keymgr.Caller, w io.Writer) error {
	_, err := s.backup(ctx, by, w)
	return err
}

// backup is Backup, and tells the generation that it has.
func (s *Store) backup(ctx context.Context, by keymgr.Caller, w io.Writer) (generation uint64, err error) {
	storeKey, err := unwrapStoreKey(ctx, s.Token, s.Config)
	if err != nil {
		return 0, fmt.Errorf("back up key store %s: %w", s.Dir, err)
	}
	defer storeKey.Wipe()
	sealer, err := backupSealer(s.Config.ID, storeKey)
	if err != nil {
		return 0, fmt.Errorf("back up key store %s: %w", s.Dir, err)
	}
	out := &backupWriter{w: bufio.NewWriter(w), sealer: sealer}
	begin := func(g uint64) error {
		generation = g
		return out.head(s.Dir, s.Config)
	}
	if err = s.Manager.Backup(ctx, by, begin, out.row); err == nil {
		err = out.close()
	}
	if err != nil {
		return 0, fmt.Errorf("back up key store %s: %w", s.Dir, err)
	}
	return generation, nil
}

// BackupFile is Backup into a new file of mode 0600, outside the key store. It is durable when it returns, and noted as the last backup (keymgr.Manager.LastBackup) where that can be written; it is not there when it fails.
func (s *Store) BackupFile(ctx context.Context, by keymgr.Caller, path string) (err error) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return &keymgr.Fault{Class: keymgr.ErrValidation, Message: "the path of a backup is absolute"}
	}
	if rel, rerr := filepath.Rel(s.Dir, path); rerr == nil && filepath.IsLocal(rel) {
		return &keymgr.Fault{Class: keymgr.ErrValidation, Message: "a backup in the key store would be lost with it"}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return &keymgr.Fault{Class: keymgr.ErrValidation, Message: "the backup cannot be made: " + err.Error(), Cause: err}
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			_ = os.Remove(path)
		}
	}()
	generation, err := s.backup(ctx, by, f)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), syncDir(filepath.Dir(path))); err != nil {
		return fmt.Errorf("back up key store %s: %w", s.Dir, err)
	}
	if err := s.Manager.NoteBackup(ctx, generation); err != nil && s.opts.Log != nil { // it is good all the same
		s.opts.Log.Warn("the backup of the key store is not noted", "generation", generation, "error", err)
	}
	return nil
}

func backupSealer(id [16]byte, storeKey *blockcrypt.Key) (*blockcrypt.Sealer, error) {
	k, err := blockcrypt.DeriveKey(storeKey, "keystore backup", id[:])
	if err != nil {
		return nil, fmt.Errorf("derive backup key: %w", err)
	}
	defer k.Wipe()
	return blockcrypt.NewSealer(k)
}

// backupWriter writes a backup.
type backupWriter struct {
	w      *bufio.Writer
	sealer *blockcrypt.Sealer
	digest [sha256.Size]byte // of the head
	piece  []byte
	number uint32
}

// head writes what is needed to open the rest: magic || version u8 || length u32 || configuration || files u32 || that many times (length u16 || name || length u32 || content).
func (b *backupWriter) head(dir string, cfg Config) error {
	config, err := cfg.encode()
	if err != nil {
		return err
	}
	head := append([]byte(backupMagic), backupVersion)
	head = binary.BigEndian.AppendUint32(head, uint32(len(config)))
	head = append(head, config...)
	var names []string
	if cfg.Token.Kind == hsm.KindSoft {
		if names, err = filesBelow(filepath.Join(dir, "token")); err != nil {
			return err
		}
	}
	head = binary.BigEndian.AppendUint32(head, uint32(len(names)))
	for _, name := range names {
		content, err := readTokenFile(filepath.Join(dir, "token", name))
		if err != nil {
			return err
		}
		head = binary.BigEndian.AppendUint16(head, uint16(len(name)))
		head = append(head, name...)
		head = binary.BigEndian.AppendUint32(head, uint32(len(content)))
		head = append(head, content...)
	}
	b.digest = sha256.Sum256(head)
	_, err = b.w.Write(head)
	return err
}

// filesBelow lists the files in a directory and its directories, by their paths in it.
func filesBelow(dir string) (names []string, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		names = append(names, name)
		return err
	})
	return names, err
}

func readTokenFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is no file", ErrDamaged, path)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxTokenFile+1))
	if err == nil && len(content) > maxTokenFile {
		err = fmt.Errorf("%w: %s is too long", ErrDamaged, path)
	}
	return content, err
}

// row adds a row: length u32 || key || length u32 || value.
func (b *backupWriter) row(key, value []byte) error {
	b.piece = binary.BigEndian.AppendUint32(b.piece, uint32(len(key)))
	b.piece = append(b.piece, key...)
	b.piece = binary.BigEndian.AppendUint32(b.piece, uint32(len(value)))
	b.piece = append(b.piece, value...)
	if len(b.piece) < pieceSize {
		return nil
	}
	return b.flush(false)
}

// flush writes a piece: length u32 || XAES-256-GCM(rows).
func (b *backupWriter) flush(last bool) error {
	sealed, err := b.sealer.Seal(nil, b.piece, pieceAAD(b.digest, b.number, last))
	if err != nil {
		return err
	}
	b.piece = b.piece[:0]
	b.number++
	if _, err := b.w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(sealed)))); err != nil {
		return err
	}
	_, err = b.w.Write(sealed)
	return err
}

func (b *backupWriter) close() error {
	if err := b.flush(true); err != nil {
		return err
	}
	return b.w.Flush()
}

// pieceAAD is "kmsfs key store backup" || version u8 || SHA-256 of the head || number u32 || last u8.
func pieceAAD(digest [sha256.Size]byte, number uint32, last bool) []byte {
	aad := append([]byte("kmsfs key store backup"), backupVersion)
	aad = append(aad, digest[:]...)
	aad = binary.BigEndian.AppendUint32(aad, number)
	if last {
		return append(aad, 1)
	}
	return append(aad, 0)
}
