package backup

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestHostileManifest: whoever can write to a backup names files outside of it, to have them made where they are put back. Refused, and nothing is touched.
func TestHostileManifest(t *testing.T) {
	good := Manifest{Format: manifestFormat, Version: manifestVersion, Volume: strings.Repeat("01", 16), Rows: []string{"0000000000000000-0000000000000001.rows"}}
	read := func(m Manifest) (dir string, got *Manifest, err error) {
		t.Helper()
		dir = filepath.Join(t.TempDir(), "a", "backup")
		raw, err := json.Marshal(m)
		if err == nil {
			err = os.MkdirAll(filepath.Join(dir, rowsName), 0o700)
		}
		if err == nil {
			err = os.Mkdir(filepath.Join(dir, objectsName), 0o700)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, manifestName), raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err = ReadManifest(dir)
		return dir, got, err
	}
	if _, _, err := read(good); err != nil {
		t.Fatalf("a good one: %v", err)
	}
	for _, name := range []string{"../../planted", "..", ".", "", "a/b", "/etc/passwd", "x\x00y"} {
		m := good
		m.Rows = []string{name}
		dir, got, err := read(m)
		if err == nil {
			planted := filepath.Join(dir, rowsName, name)
			_ = os.WriteFile(planted, []byte("planted"), 0o600)
			volume := filepath.Join(filepath.Dir(filepath.Dir(dir)), "b", "volume")
			if err := os.MkdirAll(volume, 0o700); err != nil {
				t.Fatal(err)
			}
			t.Logf("unpacked: %v", Unpack(context.Background(), dir, got, volume, func(uint64) {}))
			if b, err := os.ReadFile(filepath.Join(volume, rowsName, name)); err == nil {
				t.Errorf("%q has put %q outside of the volume", name, b)
			}
		}
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("rows in %q: %v", name, err)
		}
	}
	m := good
	m.Rows = []string{good.Rows[0], good.Rows[0]}
	if _, _, err := read(m); !errors.Is(err, ErrDamaged) {
		t.Errorf("one file twice: %v", err)
	}
	for _, name := range []string{"../x" + packSuffix, ".." + packSuffix + "/", "a/b" + packSuffix} {
		m := good
		m.Pack = name
		if _, _, err := read(m); !errors.Is(err, ErrDamaged) {
			t.Errorf("pack %q: %v", name, err)
		}
	}
}
