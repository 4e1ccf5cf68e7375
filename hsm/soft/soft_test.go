package soft_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/hsm/hsmtest"
	"github.com/kmsfs/kmsfs/hsm/soft"
)

// keyFile makes a key file with content of its own.
func keyFile(t testing.TB) string {
	t.Helper()
	id := hsm.NewKeyID()
	return write(t, filepath.Join(t.TempDir(), "key"), []byte(id.String()+id.String()+"\n"), 0o600)
}

func write(t testing.TB, path string, data []byte, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, data, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // past the umask
		t.Fatal(err)
	}
	return path
}

func create(t *testing.T, u soft.Unlocker) (*soft.Token, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "token")
	tok, err := soft.Create(dir, u)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tok.Close() })
	return tok, dir
}

func reopen(t *testing.T, dir string, u soft.Unlocker) *soft.Token {
	t.Helper()
	tok, err := soft.Open(dir, u)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tok.Close() })
	return tok
}

func refused(t *testing.T, what, dir string, u soft.Unlocker, want error, hint string) {
	t.Helper()
	tok, err := soft.Open(dir, u)
	if err == nil {
		tok.Close()
	}
	if !errors.Is(err, want) || err != nil && !strings.Contains(err.Error(), hint) {
		t.Errorf("%s: got %v, want %v and a hint %q", what, err, want, hint)
	}
}

func pass(t *testing.T, text string) soft.Unlocker { return soft.Passphrase(hsmtest.Secret(t, text)) }

func TestSurvivesReopen(t *testing.T) {
	u := soft.KeyFile(keyFile(t))
	tok, dir := create(t, u)
	id := hsmtest.NewKey(t, tok)
	s := hsmtest.Seal(t, tok, id, []byte("secret"), []byte("aad"))
	info, err := tok.FindKey(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	tok.Close()
	tok = reopen(t, dir, u)
	hsmtest.Opens(t, tok, id, s, []byte("secret"), []byte("aad"))
	again, err := tok.FindKey(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if !again.Created.Equal(info.Created) || again.Label != info.Label || !bytes.Equal(again.CheckValue, info.CheckValue) {
		t.Errorf("after reopening %+v, before %+v", again, info)
	}
}

func TestMoreKeysThanSlots(t *testing.T) {
	tok, _ := create(t, soft.KeyFile(keyFile(t)))
	const n = 140 // more than are held in memory at once
	var ids [n]hsm.KeyID
	var sealed [n]hsm.Sealed
	for i := range n {
		ids[i] = hsmtest.NewKey(t, tok)
		sealed[i] = hsmtest.Seal(t, tok, ids[i], []byte{byte(i), byte(i >> 8)}, nil)
	}
	for i := range n {
		hsmtest.Opens(t, tok, ids[i], sealed[i], []byte{byte(i), byte(i >> 8)}, nil)
	}
}

func TestPassphrase(t *testing.T) {
	tok, dir := create(t, pass(t, "correct horse"))
	id := hsmtest.NewKey(t, tok)
	s := hsmtest.Seal(t, tok, id, []byte("x"), nil)
	tok.Close()
	refused(t, "wrong passphrase", dir, pass(t, "correct horsf"), hsm.ErrPIN, "does not open")
	refused(t, "trailing newline", dir, pass(t, "correct horse\n"), hsm.ErrPIN, "does not open")
	refused(t, "key file", dir, soft.KeyFile(keyFile(t)), hsm.ErrPIN, "passphrase")
	refused(t, "nothing", dir, soft.Unlocker{}, hsm.ErrPIN, "no secret")
	refused(t, "no buffer", dir, soft.Passphrase(nil), hsm.ErrPIN, "empty")

	creds := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", creds)
	write(t, filepath.Join(creds, "pass"), []byte("correct horse\n"), 0o440)
	hsmtest.Opens(t, reopen(t, dir, soft.Credential("pass")), id, s, []byte("x"), nil)
}

func TestKeyFiles(t *testing.T) {
	raw := bytes.Repeat([]byte{0xa5}, 32)
	path := write(t, filepath.Join(t.TempDir(), "key"), []byte(hex.EncodeToString(raw)), 0o600)
	tok, dir := create(t, soft.KeyFile(path))
	tok.Close()
	tmp := t.TempDir()
	file := func(name string, data []byte, mode os.FileMode) soft.Unlocker {
		return soft.KeyFile(write(t, filepath.Join(tmp, name), data, mode))
	}
	reopen(t, dir, file("newline", []byte(hex.EncodeToString(raw)+"\n"), 0o600))
	reopen(t, dir, file("upper", []byte(strings.ToUpper(hex.EncodeToString(raw))), 0o400))
	reopen(t, dir, file("raw", raw, 0o600))
	refused(t, "another key", dir, soft.KeyFile(keyFile(t)), hsm.ErrPIN, "does not open")
	refused(t, "longer", dir, file("longer", append(raw, 0), 0o600), hsm.ErrPIN, "does not open")
	refused(t, "64 bytes, not hexadecimal", dir, file("nohex", bytes.Repeat([]byte("x"), 64), 0o600), hsm.ErrPIN, "does not open")
	refused(t, "short", dir, file("short", raw[:31], 0o600), hsm.ErrPIN, "needs 32")
	refused(t, "empty", dir, file("empty", nil, 0o600), hsm.ErrPIN, "empty")
	refused(t, "too long", dir, file("long", make([]byte, 64<<10+1), 0o600), hsm.ErrPIN, "size")
	refused(t, "group may read", dir, file("group", raw, 0o640), hsm.ErrPIN, "chmod 600")
	refused(t, "others may write", dir, file("others", raw, 0o602), hsm.ErrPIN, "chmod 600")
	refused(t, "missing", dir, soft.KeyFile(filepath.Join(tmp, "none")), hsm.ErrPIN, "no such file")
	refused(t, "directory", dir, soft.KeyFile(tmp), hsm.ErrPIN, "regular file")
	refused(t, "device", dir, soft.KeyFile("/dev/zero"), hsm.ErrPIN, "regular file")
	refused(t, "passphrase", dir, pass(t, "x"), hsm.ErrPIN, "key file")
}

func TestCredential(t *testing.T) {
	creds := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", creds)
	key := keyFile(t)
	data, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(creds, "kmsfs"), data, 0o440) // as systemd shows it under an ACL
	tok, dir := create(t, soft.Credential("kmsfs"))
	tok.Close()
	reopen(t, dir, soft.KeyFile(key)) // the same secret by another way
	refused(t, "missing", dir, soft.Credential("none"), hsm.ErrPIN, "no such file")
	for _, name := range []string{"", ".", "..", "../kmsfs", "a/b"} {
		refused(t, "name "+name, dir, soft.Credential(name), hsm.ErrPIN, "not the name")
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	refused(t, "not a service", dir, soft.Credential("kmsfs"), hsm.ErrPIN, "LoadCredential=kmsfs")
}

func TestChangeSecret(t *testing.T) {
	old, next := soft.KeyFile(keyFile(t)), pass(t, "new")
	tok, dir := create(t, old)
	id := hsmtest.NewKey(t, tok)
	s := hsmtest.Seal(t, tok, id, []byte("x"), nil)
	if err := tok.ChangeSecret(t.Context(), soft.KeyFile("/nonexistent")); !errors.Is(err, hsm.ErrPIN) {
		t.Errorf("change to a missing key file: %v", err)
	}
	reopen(t, dir, old).Close() // nothing has changed
	if err := tok.ChangeSecret(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	hsmtest.Opens(t, tok, id, s, []byte("x"), nil) // it stays open
	tok.Close()
	refused(t, "old secret", dir, old, hsm.ErrPIN, "passphrase")
	tok = reopen(t, dir, next)
	hsmtest.Opens(t, tok, id, s, []byte("x"), nil)
	tok.Close()
	if err := tok.ChangeSecret(t.Context(), old); !errors.Is(err, hsm.ErrClosed) {
		t.Errorf("change the secret of a closed token: %v", err)
	}
}

func TestCreateRefuses(t *testing.T) {
	u := soft.KeyFile(keyFile(t))
	_, dir := create(t, u)
	if _, err := soft.Create(dir, u); !errors.Is(err, hsm.ErrExists) {
		t.Errorf("create over a token: %v, want %v", err, hsm.ErrExists)
	}
	empty := filepath.Join(t.TempDir(), "t")
	if _, err := soft.Create(empty, soft.KeyFile("/nonexistent")); !errors.Is(err, hsm.ErrPIN) {
		t.Errorf("create without a secret: %v, want %v", err, hsm.ErrPIN)
	}
	if _, err := os.Stat(filepath.Join(empty, "token.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a refused create left a header: %v", err)
	}
	refused(t, "no token", empty, u, hsm.ErrTokenAway, "no such file")
}

func TestModes(t *testing.T) {
	tok, dir := create(t, soft.KeyFile(keyFile(t)))
	hsmtest.NewKey(t, tok)
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err == nil && st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, st.Mode())
		}
		if strings.HasPrefix(d.Name(), ".new-") {
			t.Errorf("temporary file %s left behind", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDirectoryAway(t *testing.T) {
	tok, dir := create(t, soft.KeyFile(keyFile(t)))
	id := hsmtest.NewKey(t, tok)
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	_, infoErr := tok.Info(ctx)
	_, findErr := tok.FindKey(ctx, hsm.NewKeyID())
	_, makeErr := tok.GenerateKey(ctx, hsm.NewKeyID(), "x")
	for what, err := range map[string]error{
		"info": infoErr, "find": findErr, "generate": makeErr, "destroy": tok.DestroyKey(ctx, id),
	} {
		if !errors.Is(err, hsm.ErrTokenAway) || errors.Is(err, hsm.ErrKeyNotFound) {
			t.Errorf("%s: %v, want %v", what, err, hsm.ErrTokenAway)
		}
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if _, err := tok.Info(ctx); err != nil {
		t.Errorf("back again: %v", err)
	}
	hsmtest.NewKey(t, tok)
}
