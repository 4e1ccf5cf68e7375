package soft_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/hsm/hsmtest"
	"github.com/kmsfs/kmsfs/hsm/soft"
)

// TestEveryByteOfHeader: a change anywhere in token.json is refused, with the
// exception of bytes that mean nothing (case of hexadecimal digits, white space).
func TestEveryByteOfHeader(t *testing.T) {
	u := soft.KeyFile(keyFile(t))
	tok, dir := create(t, u)
	tok.Close()
	path := filepath.Join(dir, "token.json")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		write(t, path, bad, 0o600)
		tok, err := soft.Open(dir, u)
		if err == nil {
			tok.Close()
			t.Errorf("byte %d changed from %q to %q: still opens", i, good[i], bad[i])
		} else if !errors.Is(err, hsm.ErrDamaged) && !errors.Is(err, hsm.ErrPIN) && !errors.Is(err, soft.ErrVersion) {
			t.Errorf("byte %d: %v", i, err)
		}
	}
	write(t, path, good, 0o600)
	reopen(t, dir, u)
}

func TestHeaderCases(t *testing.T) {
	u := pass(t, "p")
	tok, dir := create(t, u)
	tok.Close()
	path := filepath.Join(dir, "token.json")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	edit := func(field, key string, v any) []byte {
		var m map[string]any
		if err := json.Unmarshal(good, &m); err != nil {
			t.Fatal(err)
		}
		if key == "" {
			m[field] = v
		} else {
			m[field].(map[string]any)[key] = v
		}
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, c := range []struct {
		name string
		data []byte
		want error
	}{
		{"empty", nil, hsm.ErrDamaged},
		{"cut", good[:len(good)/2], hsm.ErrDamaged},
		{"something behind", append(bytes.Clone(good), "{}"...), hsm.ErrDamaged},
		{"huge", append(bytes.Clone(good), make([]byte, 20<<10)...), nil},
		{"unknown field", edit("extra", "", 1), hsm.ErrDamaged},
		{"newer version", edit("version", "", 2), soft.ErrVersion},
		{"other format", edit("format", "", "x"), hsm.ErrDamaged},
		{"weak memory", edit("unlock", "memoryKiB", 8), hsm.ErrDamaged},
		{"weak passes", edit("unlock", "passes", 1), hsm.ErrDamaged},
		{"no lanes", edit("unlock", "lanes", 0), hsm.ErrDamaged},
		{"too much memory", edit("unlock", "memoryKiB", 1<<30), hsm.ErrDamaged},
		{"too many passes", edit("unlock", "passes", 1<<20), hsm.ErrDamaged},
		{"too many lanes", edit("unlock", "lanes", 200), hsm.ErrDamaged},
		{"another kdf", edit("unlock", "kdf", "hkdf-sha512"), hsm.ErrDamaged},
		{"another salt", edit("unlock", "salt", fmt.Sprintf("%032x", 1)), hsm.ErrPIN},
		{"more passes", edit("unlock", "passes", 4), hsm.ErrPIN},
		{"another serial", edit("serial", "", fmt.Sprintf("%032x", 1)), hsm.ErrDamaged},
		{"another date", edit("created", "", "2020-01-01T00:00:00Z"), hsm.ErrDamaged},
		{"another root", edit("root", "", fmt.Sprintf("%0144x", 1)), hsm.ErrDamaged},
		{"another check value", edit("check", "", "0000000000000000"), hsm.ErrDamaged},
	} {
		write(t, path, c.data, 0o600)
		tok, err := soft.Open(dir, u)
		if err == nil {
			tok.Close()
			t.Errorf("%s: opens", c.name)
		} else if c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
}

func TestEveryByteOfKeyFile(t *testing.T) {
	u := soft.KeyFile(keyFile(t))
	tok, dir := create(t, u)
	id := hsmtest.NewKey(t, tok)
	tok.Close()
	path := filepath.Join(dir, "keys", id.String()+".key")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tok = reopen(t, dir, u)
	bad := [][]byte{nil, good[:1], good[:len(good)-1], append(bytes.Clone(good), 0)}
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 0x10
		bad = append(bad, b)
	}
	for i, b := range bad {
		write(t, path, b, 0o600)
		_, err := tok.FindKey(t.Context(), id)
		if !errors.Is(err, hsm.ErrDamaged) && !errors.Is(err, soft.ErrVersion) {
			t.Errorf("case %d: %v", i, err)
		}
	}
	write(t, path, good, 0o600)
	if _, err := tok.FindKey(t.Context(), id); err != nil {
		t.Error(err)
	}
}

// TestSwappedKeyFiles: a key file under another key's name, or in another token,
// is not that key.
func TestSwappedKeyFiles(t *testing.T) {
	u := soft.KeyFile(keyFile(t))
	tok, dir := create(t, u)
	a, b := hsmtest.NewKey(t, tok), hsmtest.NewKey(t, tok)
	other, otherDir := create(t, u) // the same secret, another root key
	c := hsmtest.NewKey(t, other)
	tok.Close()
	path := func(dir string, id hsm.KeyID) string { return filepath.Join(dir, "keys", id.String()+".key") }
	if err := os.Rename(path(dir, a), path(dir, b)); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path(otherDir, c), path(dir, c)); err != nil {
		t.Fatal(err)
	}
	tok = reopen(t, dir, u)
	for _, id := range []hsm.KeyID{b, c} {
		if _, err := tok.Encrypt(t.Context(), id, []byte("x"), nil); !errors.Is(err, hsm.ErrDamaged) {
			t.Errorf("encrypt under a planted key file: %v, want %v", err, hsm.ErrDamaged)
		}
	}
	if _, err := tok.FindKey(t.Context(), a); !errors.Is(err, hsm.ErrKeyNotFound) {
		t.Errorf("find the moved key: %v", err)
	}
}

// TestSwappedHeader: another token put in the place of an open one is noticed.
func TestSwappedHeader(t *testing.T) {
	u := soft.KeyFile(keyFile(t))
	tok, dir := create(t, u)
	_, otherDir := create(t, u)
	if err := os.Rename(filepath.Join(otherDir, "token.json"), filepath.Join(dir, "token.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := tok.Info(t.Context()); !errors.Is(err, hsm.ErrDamaged) {
		t.Errorf("info: %v, want %v", err, hsm.ErrDamaged)
	}
}
