package mount

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt/locked"
)

func writeFile(t *testing.T, name, content string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestSecretSources(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	pass := writeFile(t, filepath.Join(dir, "pass"), "open sesame\n", 0o600)
	key := writeFile(t, filepath.Join(dir, "key"), strings.Repeat("k", 31)+"\n", 0o400)
	prompt := func(what string, confirm bool) (*locked.Buffer, error) {
		return locked.FromBytes([]byte("typed " + what))
	}
	for name, c := range map[string]struct {
		source SecretSource
		kind   string
		want   string
		err    error
	}{
		"passphrase file":        {SecretSource{PassphraseFile: pass}, unlockPassphrase, "open sesame", nil},
		"pin file":               {SecretSource{PINFile: pass}, unlockPIN, "open sesame", nil},
		"key file":               {SecretSource{KeyFile: key}, unlockKeyFile, strings.Repeat("k", 31) + "\n", nil},
		"key file of credential": {SecretSource{KeyFile: key}, unlockCredential, strings.Repeat("k", 31) + "\n", nil},
		"credential":             {SecretSource{Credential: "key"}, unlockCredential, strings.Repeat("k", 31) + "\n", nil},
		"credential as pin":      {SecretSource{Credential: "pass"}, unlockPIN, "open sesame", nil},
		"credential elsewhere":   {SecretSource{Credential: "../pass"}, unlockPIN, "", ErrUsage},
		"prompt":                 {SecretSource{Prompt: prompt}, unlockPIN, "typed pin", nil},
		"no prompt":              {SecretSource{}, unlockPassphrase, "", ErrNoSecret},
		"nobody types a key":     {SecretSource{Prompt: prompt}, unlockKeyFile, "", ErrNoSecret},
		"other kind":             {SecretSource{KeyFile: key}, unlockPassphrase, "", ErrUsage},
		"two":                    {SecretSource{KeyFile: key, PINFile: pass}, unlockPIN, "", ErrUsage},
		"missing":                {SecretSource{PINFile: pass + "x"}, unlockPIN, "", ErrNoSecret},
		"closed descriptor":      {SecretSource{FD: 987}, unlockPIN, "", ErrNoSecret},
	} {
		got, err := c.source.read(c.kind)
		if !errors.Is(err, c.err) || err == nil && string(got.Bytes()) != c.want {
			t.Errorf("%s: %v", name, err)
		}
		got.Close()
	}
}

func TestSecretFileModes(t *testing.T) {
	dir := t.TempDir()
	path := writeFile(t, filepath.Join(dir, "s"), "secret\n", 0o600)
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	_, err := readSecretFile(path, true)
	if !errors.Is(err, ErrNoSecret) || NextOf(err) == "" {
		t.Fatalf("file that the group can read: %v", err)
	}
	empty := writeFile(t, filepath.Join(dir, "e"), "\n", 0o600)
	if _, err := readSecretFile(empty, true); !errors.Is(err, ErrNoSecret) {
		t.Fatalf("empty file: %v", err)
	}
}

func TestSecretFD(t *testing.T) {
	r, err := inputPipe([]byte("through a pipe\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	// The reader takes the descriptor over, so it gets one of its own.
	fd := must(dupFD(r))(t)
	b, err := readSecretFD(fd, true)
	if err != nil || string(b.Bytes()) != "through a pipe" {
		t.Fatalf("%v", err)
	}
	b.Close()
}

func TestMakeKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	made, err := makeKeyFile(path)
	if err != nil || !made {
		t.Fatalf("%v %v", made, err)
	}
	first := must(os.ReadFile(path))(t)
	if st := must(os.Stat(path))(t); st.Mode().Perm() != 0o600 || len(first) != 65 {
		t.Fatalf("mode %v, %d bytes", st.Mode(), len(first))
	}
	if made, err = makeKeyFile(path); err != nil || made {
		t.Fatalf("second time: %v %v", made, err)
	}
	if string(must(os.ReadFile(path))(t)) != string(first) {
		t.Fatal("an existing key file was changed")
	}
}
