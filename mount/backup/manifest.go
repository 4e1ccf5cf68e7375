package backup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/blockcrypt"
)

// Names in a backup's directory.
const (
	manifestName = "backup.json"
	unfinished   = "backup.unfinished" // there while a run is under way
	lockName     = "lock"
	rowsName     = "export"
	objectsName  = "objects"

	manifestFormat  = "kmsfs backup"
	manifestVersion = 1
	manifestLimit   = 1 << 20
)

// Manifest says what a finished backup consists of.
type Manifest struct {
	Format     string    `json:"format"`
	Version    int       `json:"version"`
	Volume     string    `json:"volume"`
	Run        uint64    `json:"run"` // how often it was brought up to date
	Time       time.Time `json:"time"`
	Sequence   uint64    `json:"sequence"` // last record that is in it
	Superblock []byte    `json:"superblock"`
	Rows       []string  `json:"rows"`           // files below export/, in order
	Pack       string    `json:"pack,omitempty"` // blocks that are to be put into objects/ yet
	PackSize   int64     `json:"pack_size,omitempty"`
}

// ReadManifest reads the manifest of a backup. Errors: ErrNotBackup, ErrDamaged, the system's.
func ReadManifest(dir string) (*Manifest, error) {
	f, err := os.OpenFile(filepath.Join(dir, manifestName), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s has no %s", ErrNotBackup, dir, manifestName)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, manifestLimit+1))
	if err != nil {
		return nil, err
	}
	m := &Manifest{}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(m); err != nil || len(raw) > manifestLimit {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, manifestName), errors.Join(ErrDamaged, err))
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", filepath.Join(dir, manifestName), ErrDamaged, err)
	}
	return m, nil
}

func (m *Manifest) check() error {
	if m.Format != manifestFormat || m.Version != manifestVersion {
		return fmt.Errorf("format %q, version %d", m.Format, m.Version)
	}
	if _, err := blockcrypt.ParseVolumeID(m.Volume); err != nil {
		return err
	}
	if m.Pack != "" && (filepath.Base(m.Pack) != m.Pack || !strings.HasSuffix(m.Pack, packSuffix)) {
		return fmt.Errorf("pack %q", m.Pack)
	}
	for i, name := range m.Rows { // the manifest is not authenticated: they are opened, made and removed by these names
		if !rowsFile.MatchString(name) || slices.Contains(m.Rows[:i], name) {
			return fmt.Errorf("file of rows %q", name)
		}
	}
	return nil
}

// rowsFile is what files of rows may be called.
var rowsFile = regexp.MustCompile(`^[0-9A-Za-z-]{1,128}\.rows$`)

// write puts the manifest in place, durably: the backup is another one from then on.
func (m *Manifest) write(dir string) error {
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, manifestName)
	if err := writeSynced(path+".new", append(raw, '\n')); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncDir(dir)
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
