package keystore

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/audit/trail"
	"github.com/kmsfs/kmsfs/meta/kv"
)

func TestInitOpenClose(t *testing.T) {
	s := &shelf{}
	dir, cfg := newKeyStore(t, s)
	loaded, err := Load(dir)
	if err != nil || !reflect.DeepEqual(loaded, cfg) || !cfg.Unlock.Unattended() || cfg.Token.Kind != hsm.KindSoft {
		t.Fatalf("loaded %+v %v\nwant   %+v", loaded, err, cfg)
	}
	store := openStore(t, dir, nil, s) // unattended
	md, err := store.Manager.CreateKey(t.Context(), me, keymgr.CreateKeyInput{Alias: "alias/x"})
	if err != nil {
		t.Fatal(err)
	}
	data, err := store.Manager.GenerateDataKey(t.Context(), me, keymgr.GenerateDataKeyInput{KeyID: "alias/x", Bytes: 32, Context: keymgr.Context{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Manager.Decrypt(t.Context(), me, keymgr.DecryptInput{Blob: data.Blob}); !errors.Is(err, keymgr.ErrKeyUnavailable) {
		t.Errorf("use of a closed key store: %v", err)
	}
	store = openStore(t, dir, buffer(t, strings.ToUpper(strings.TrimSpace(keyText))), s) // the same key, written in another way
	out, err := store.Manager.Decrypt(t.Context(), me, keymgr.DecryptInput{Blob: data.Blob, Context: keymgr.Context{"a": "b"}})
	if err != nil || !bytes.Equal(out.Plaintext, data.Plaintext) || out.KeyID != md.ARN {
		t.Fatalf("after reopening: %v", err)
	}
	if err := store.Verify(buffer(t, keyText)); err != nil {
		t.Errorf("right secret: %v", err)
	}
	if err := store.Verify(buffer(t, strings.Repeat("x", 40))); !errors.Is(err, hsm.ErrPIN) {
		t.Errorf("wrong secret: %v", err)
	}
	checkModes(t, dir)
	checkLog(t, dir, []string{"CreateKey", "GenerateDataKey", "Decrypt"})
}

// checkModes: nothing in a key store is for others.
func checkModes(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err == nil && st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", path, st.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// checkLog: the log holds these operations, in this order, as JSON lines.
func checkLog(t *testing.T, dir string, want []string) {
	t.Helper()
	var got []string
	err := trail.Search(t.Context(), filepath.Join(dir, "audit"), trail.Query{}, func(f trail.Found) error {
		got = append(got, f.Event.Name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("log holds %v, want %v", got, want)
	}
}

// TestPassphrase is the one test here that pays for Argon2id.
func TestPassphrase(t *testing.T) {
	s := &shelf{}
	dir := filepath.Join(t.TempDir(), "ks")
	if _, err := Init(t.Context(), InitConfig{Dir: dir, Unlock: UnlockConfig{Kind: Passphrase}, Secret: buffer(t, "open sesame"), Options: Options{OpenKV: s.open}}); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir, nil, Options{OpenKV: s.open}); !errors.Is(err, ErrNoSecret) {
		t.Errorf("unattended: %v", err)
	}
	if _, err := Open(t.Context(), dir, buffer(t, "open sesame!"), Options{OpenKV: s.open}); !errors.Is(err, hsm.ErrPIN) {
		t.Errorf("wrong passphrase: %v", err)
	}
	openStore(t, dir, buffer(t, "open sesame"), s)
}

func TestInitRefuses(t *testing.T) {
	s := &shelf{}
	dir, _ := newKeyStore(t, s)
	base := InitConfig{Dir: dir, Unlock: UnlockConfig{Kind: KeyFile}, Secret: buffer(t, keyText), Options: Options{OpenKV: s.open}}
	before, err := os.ReadFile(filepath.Join(dir, configName))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Init(t.Context(), base); !errors.Is(err, ErrExists) {
		t.Errorf("init twice: %v", err)
	}
	if after, err := os.ReadFile(filepath.Join(dir, configName)); err != nil || !bytes.Equal(before, after) {
		t.Errorf("configuration changed (%v)", err)
	}
	if err := os.Rename(filepath.Join(dir, configName), filepath.Join(dir, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	if _, err := Init(t.Context(), base); !errors.Is(err, ErrExists) {
		t.Errorf("init over a key store that lost its configuration: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "token")); err != nil {
		t.Errorf("the token is gone: %v", err)
	}
	for name, c := range map[string]func(*InitConfig){
		"others may write":  func(c *InitConfig) { c.Dir = t.TempDir(); _ = os.Chmod(c.Dir, 0o755) },
		"key too short":     func(c *InitConfig) { c.Secret = buffer(t, "short") },
		"no such kind":      func(c *InitConfig) { c.Unlock.Kind = "retina" },
		"PIN for soft":      func(c *InitConfig) { c.Unlock.Kind = PIN },
		"relative key file": func(c *InitConfig) { c.Unlock.KeyFile = "key" },
		"relative module": func(c *InitConfig) {
			c.Token = TokenConfig{Kind: hsm.KindPKCS11, Module: "m.so", Label: "l"}
			c.Unlock.Kind = PIN
		},
		"PKCS11 by key file": func(c *InitConfig) { c.Token = TokenConfig{Kind: hsm.KindPKCS11, Module: "/m.so", Label: "l"} },
		"no worker": func(c *InitConfig) {
			c.Token = TokenConfig{Kind: hsm.KindPKCS11, Module: "/m.so", Label: "l"}
			c.Unlock.Kind = PIN
			c.WorkerBinary = "/nonexistent"
		},
		"tables fail": func(c *InitConfig) { c.OpenKV = (&shelf{fail: kv.ErrNoSpace}).open },
	} {
		cfg := base
		cfg.Dir = filepath.Join(t.TempDir(), "ks")
		c(&cfg)
		if _, err := Init(t.Context(), cfg); err == nil {
			t.Errorf("%s: made", name)
		}
		left, err := os.ReadDir(cfg.Dir)
		for _, e := range left {
			if e.Name() != "lock" {
				t.Errorf("%s: left %s behind (%v)", name, e.Name(), err)
			}
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	s := &shelf{}
	dir, _ := newKeyStore(t, s)
	path := filepath.Join(dir, configName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(data string) func() error { return func() error { return os.WriteFile(path, []byte(data), 0o600) } }
	replace := func(old, new string) func() error {
		if !strings.Contains(string(good), old) {
			t.Fatalf("configuration has no %q", old)
		}
		return write(strings.Replace(string(good), old, new, 1))
	}
	for name, c := range map[string]struct {
		damage func() error
		err    error
	}{
		"missing":         {func() error { return os.Remove(path) }, ErrNone},
		"empty":           {write(""), ErrDamaged},
		"cut":             {write(string(good[:len(good)/2])), ErrDamaged},
		"other file":      {write(`{"format":"x"}`), ErrDamaged},
		"newer":           {replace(`"version": 1`, `"version": 2`), ErrVersion},
		"unknown member":  {replace(`"version": 1`, `"version": 1, "x": 1`), ErrDamaged},
		"bad id":          {replace(`"id": "`, `"id": "z`), ErrDamaged},
		"bad root key":    {replace(`"rootKey": "`, `"rootKey": "z`), ErrDamaged},
		"kind of token":   {replace(`"soft"`, `"hard"`), ErrDamaged},
		"huge":            {write(strings.Repeat(" ", maxConfig+1)), ErrDamaged},
		"others write it": {func() error { return os.Chmod(path, 0o666) }, ErrUnsafe},
		"open directory":  {func() error { return os.Chmod(dir, 0o750) }, ErrUnsafe},
		"symlink":         {func() error { return errors.Join(os.Rename(path, path+"2"), os.Symlink(path+"2", path)) }, nil},
		"directory":       {func() error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) }, ErrUnsafe},
	} {
		if err := c.damage(); err != nil {
			t.Fatal(err)
		}
		_, err := Load(dir)
		if err == nil || c.err != nil && !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", name, err, c.err)
		}
		if err := errors.Join(os.RemoveAll(path), os.WriteFile(path, good, 0o600), os.Chmod(dir, 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Load(filepath.Join(dir, "none")); !errors.Is(err, ErrNone) {
		t.Errorf("no directory: %v", err)
	}
	if _, err := Load(path); !errors.Is(err, ErrNone) {
		t.Errorf("a file: %v", err)
	}
}

// TestEveryByteOfTheConfiguration: no single changed byte makes a key store that works differently.
func TestEveryByteOfTheConfiguration(t *testing.T) {
	s := &shelf{}
	dir, cfg := newKeyStore(t, s)
	path := filepath.Join(dir, configName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	secret := buffer(t, keyText)
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		store, err := Open(t.Context(), dir, secret, Options{OpenKV: s.open})
		if err != nil {
			continue
		}
		// What is left is advice that changes nothing: the time it was made, how it unlocks itself.
		got := store.Config
		got.Created, got.Unlock = cfg.Created, cfg.Unlock
		if !reflect.DeepEqual(got, cfg) {
			t.Errorf("byte %d (%q) changed: opens with %+v", i, good[max(0, i-10):i+1], store.Config)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWrongStoreKeyPlace(t *testing.T) {
	s := &shelf{}
	dir, a := newKeyStore(t, s)
	_, b := newKeyStore(t, s)
	a.StoreKey = b.StoreKey
	data, err := a.encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := writeFile(filepath.Join(dir, configName), data); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir, nil, Options{OpenKV: s.open}); !errors.Is(err, ErrDamaged) {
		t.Errorf("another key store's store key: %v", err)
	}
}

func TestUnattendedSources(t *testing.T) {
	s := &shelf{}
	dir, cfg := newKeyStore(t, s)
	keyFile := cfg.Unlock.KeyFile
	for name, c := range map[string]func() error{
		"gone":            func() error { return os.Remove(keyFile) },
		"readable by all": func() error { return os.Chmod(keyFile, 0o644) },
		"another key":     func() error { return os.WriteFile(keyFile, []byte(strings.Repeat("y", 64)), 0o600) },
		"empty":           func() error { return os.WriteFile(keyFile, nil, 0o600) },
		"directory":       func() error { return errors.Join(os.Remove(keyFile), os.Mkdir(keyFile, 0o700)) },
	} {
		if err := c(); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), dir, nil, Options{OpenKV: s.open}); !errors.Is(err, hsm.ErrPIN) {
			t.Errorf("key file %s: %v", name, err)
		}
		if err := errors.Join(os.RemoveAll(keyFile), os.WriteFile(keyFile, []byte(keyText), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	creds := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", creds)
	if err := os.WriteFile(filepath.Join(creds, "kmsfs"), []byte(keyText), 0o440); err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(t.TempDir(), "ks")
	if _, err := Init(t.Context(), InitConfig{Dir: dir, Unlock: UnlockConfig{Kind: Credential, Credential: "kmsfs"}, Secret: buffer(t, keyText), Options: Options{OpenKV: s.open}}); err != nil {
		t.Fatal(err)
	}
	openStore(t, dir, nil, s)
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if _, err := Open(t.Context(), dir, nil, Options{OpenKV: s.open}); !errors.Is(err, ErrNoSecret) {
		t.Errorf("no credentials: %v", err)
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	a, err := Acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Acquire(dir); !errors.Is(err, ErrInUse) {
		t.Errorf("second: %v", err)
	}
	a.Release()
	a.Release()
	b, err := Acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	b.Release()
}

func TestDefaultDir(t *testing.T) {
	t.Setenv(EnvDir, "/x/y")
	if dir, err := DefaultDir(); err != nil || dir != "/x/y" {
		t.Errorf("%s %v", dir, err)
	}
	t.Setenv(EnvDir, "")
	t.Setenv("XDG_DATA_HOME", "/data")
	want := "/data/kmsfs"
	if os.Geteuid() == 0 {
		want = "/var/lib/kmsfs"
	}
	if dir, err := DefaultDir(); err != nil || dir != want {
		t.Errorf("%s %v, want %s", dir, err, want)
	}
}

func FuzzParseConfig(f *testing.F) {
	c := Config{ID: [16]byte{1}, Token: TokenConfig{Kind: hsm.KindSoft}, Unlock: UnlockConfig{Kind: KeyFile, KeyFile: "/k"}, StoreKey: []byte{1}}
	data, err := c.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"format":"kmsfs key store","version":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := parseConfig(data)
		if err != nil {
			return
		}
		again, err := cfg.encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := parseConfig(again)
		if err != nil || !back.Created.Equal(cfg.Created) {
			t.Fatalf("%q: %v", again, err)
		}
		back.Created = cfg.Created
		if len(back.StoreKey) == 0 && len(cfg.StoreKey) == 0 {
			back.StoreKey = cfg.StoreKey
		}
		if !reflect.DeepEqual(back, cfg) {
			t.Errorf("%+v came back as %+v", cfg, back)
		}
	})
}

func TestTrim(t *testing.T) {
	pin := Config{Token: TokenConfig{Kind: hsm.KindPKCS11}, Unlock: UnlockConfig{Kind: Credential}}
	typed := Config{Token: TokenConfig{Kind: hsm.KindPKCS11}, Unlock: UnlockConfig{Kind: PIN}}
	key := Config{Token: TokenConfig{Kind: hsm.KindSoft}, Unlock: UnlockConfig{Kind: Credential}}
	for _, c := range []struct {
		cfg      Config
		in, want string
	}{
		{pin, "1234\n", "1234"}, {pin, "1234\n\n", "1234\n"}, {pin, "1234", "1234"}, {typed, "1234\n", "1234\n"}, {key, "1234\n", "1234\n"},
	} {
		got, done, err := c.cfg.trim(buffer(t, c.in))
		if err != nil || string(got.Bytes()) != c.want {
			t.Errorf("%s of %s: %q, %v", c.cfg.Unlock.Kind, c.cfg.Token.Kind, c.in, err)
			continue
		}
		done()
	}
	if _, _, err := pin.trim(buffer(t, "\n")); !errors.Is(err, hsm.ErrPIN) {
		t.Errorf("an empty PIN: %v", err)
	}
}
