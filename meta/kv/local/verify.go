package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"
	"github.com/dgraph-io/ristretto/v2/z"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// verifyBadger reads Badger's tables before Badger does. Badger leaves out a table whose checksum is wrong,
// and goes on without its rows; it panics, in a goroutine of its own, where a damaged one does not look like
// a table; and what it cannot read later is a row that is not there. So a table that the manifest names must
// be whole: its checksums right, its keys ascending. Tables that it does not name are leftovers, which Badger
// removes. The checksums are no secret: this finds damage, not forgery.
//
// Errors: kv.ErrCorrupt, and the system's.
func verifyBadger(bo badger.Options) error {
	f, err := os.Open(filepath.Join(bo.Dir, badger.ManifestFilename))
	if errors.Is(err, fs.ErrNotExist) {
		return noTables(bo.Dir) // a new directory
	}
	if err != nil {
		return err
	}
	defer f.Close()
	var manifest badger.Manifest
	err = guard("manifest", func() (err error) {
		manifest, _, err = badger.ReplayManifestFile(f, 0, bo)
		return err
	})
	if err != nil {
		return err
	}
	for id, entry := range manifest.Tables {
		if int(entry.Level) >= bo.MaxLevels {
			return fmt.Errorf("manifest: table %d in level %d: %w", id, entry.Level, kv.ErrCorrupt)
		}
		name := table.NewFilename(id, bo.Dir)
		err := guard(filepath.Base(name), func() error { return verifyTable(name, entry) })
		if err != nil {
			return err
		}
	}
	return nil
}

// noTables refuses a directory that holds tables: without a manifest, Badger would remove them all.
func noTables(dir string) error {
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err == nil && len(tables) > 0 {
		err = fmt.Errorf("%d tables and no manifest: %w", len(tables), kv.ErrCorrupt)
	}
	return err
}

// guard turns what a damaged file makes Badger's readers do into kv.ErrCorrupt: errors, panics, and faults
// where the disk fails below a mapping. An error of the system stays what it is.
func guard(what string, read func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s cannot be read: %w", what, kv.ErrCorrupt)
		}
	}()
	if err = read(); err != nil && !errors.Is(err, fs.ErrPermission) && !isResource(err) {
		err = fmt.Errorf("%s: %w: %w", what, kv.ErrCorrupt, err)
	}
	return err
}

// verifyTable reads one table from end to end.
func verifyTable(name string, entry badger.TableManifest) error {
	if entry.Compression != options.None || entry.KeyID != 0 {
		return errors.New("compressed or encrypted")
	}
	f, err := z.OpenMmapFile(name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close(-1) // -1: leave its length alone
	t, err := table.OpenTable(f, table.Options{ReadOnly: true, ChkMode: options.OnTableAndBlockRead})
	if err != nil {
		return err
	}
	it := t.NewIterator(0)
	defer it.Close()
	var last []byte
	for it.Rewind(); it.Valid(); it.Next() {
		k := it.Key()
		if len(k) <= 8 || last != nil && y.CompareKeys(last, k) >= 0 {
			return errors.New("keys out of order")
		}
		_ = it.Value()
		last = append(last[:0], k...)
	}
	return nil
}
