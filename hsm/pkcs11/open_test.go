//go:build cgo

package pkcs11_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/hsm/hsmtest"
	"github.com/kmsfs/kmsfs/hsm/pkcs11"
)

// refused checks how Open fails and what the message tells the user.
func refused(t *testing.T, cfg pkcs11.Config, want error, hints ...string) {
	t.Helper()
	tok, err := pkcs11.Open(hsmtest.Context(t), cfg)
	if err == nil {
		tok.Close()
		t.Fatalf("opened, want %v", want)
	}
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
	for _, h := range hints {
		if !strings.Contains(err.Error(), h) {
			t.Errorf("the message does not say %q: %v", h, err)
		}
	}
}

func TestOpen(t *testing.T) {
	s := hsmtest.NewSoftHSM(t)
	s.AddToken(t, "", "somebody else's")
	s.AddToken(t, "", "twice")
	s.AddToken(t, "", "twice")
	good := config(t, s)
	tok := open(t, good)
	info, err := tok.Info(hsmtest.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Run("InUse", func(t *testing.T) { refused(t, good, hsm.ErrModule, "in use") })
	tok.Close()
	text := filepath.Join(t.TempDir(), "text.so")
	if err := os.WriteFile(text, []byte("not a library"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		edit  func(*pkcs11.Config)
		want  error
		hints []string
	}{
		"WrongPIN":      {func(c *pkcs11.Config) { c.PIN = hsmtest.Secret(t, "00000000") }, hsm.ErrPIN, []string{"PIN file", "not tried again"}},
		"ShortPIN":      {func(c *pkcs11.Config) { c.PIN = hsmtest.Secret(t, "1") }, hsm.ErrPIN, []string{"PIN file"}},
		"NoPIN":         {func(c *pkcs11.Config) { c.PIN = nil }, hsm.ErrPIN, []string{"no PIN"}},
		"MissingToken":  {func(c *pkcs11.Config) { c.TokenLabel = "nowhere" }, hsm.ErrTokenAway, []string{`"nowhere"`, `"kmsfs test"`, `"somebody else's"`, s.Conf}},
		"OtherSerial":   {func(c *pkcs11.Config) { c.Serial = "0123" }, hsm.ErrTokenAway, []string{"0123", info.Serial}},
		"TwoOfOneLabel": {func(c *pkcs11.Config) { c.TokenLabel = "twice" }, hsm.ErrUnfit, []string{"2 tokens"}},
		"MissingModule": {func(c *pkcs11.Config) { c.Module = "/usr/lib/none.so" }, hsm.ErrModule, []string{"/usr/lib/none.so", "apt-get install softhsm2"}},
		"NotALibrary":   {func(c *pkcs11.Config) { c.Module = text }, hsm.ErrModule, []string{text}},
		"NotAModule":    {func(c *pkcs11.Config) { c.Module = "/lib/x86_64-linux-gnu/libc.so.6" }, hsm.ErrModule, []string{"libc"}},
		"Directory":     {func(c *pkcs11.Config) { c.Module = "/usr/lib" }, hsm.ErrModule, []string{"not a file"}},
		"NeverPrepared": {func(c *pkcs11.Config) { c.TokenLabel = "somebody else's"; c.Initialize = false }, hsm.ErrUnfit, []string{"kmsfs-sentinel", "another token"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			c.edit(&cfg)
			refused(t, cfg, c.want, c.hints...)
		})
	}
	t.Run("Good", func(t *testing.T) {
		cfg := good
		cfg.Serial, cfg.Initialize = info.Serial, false // the sentinel is there by now
		open(t, cfg)
	})
}

// TestNoTokens: SoftHSM without its directory, and with an empty one.
func TestNoTokens(t *testing.T) {
	s := hsmtest.NewSoftHSM(t)
	cfg := config(t, s)
	s.Away(t)
	refused(t, cfg, hsm.ErrTokenAway, s.Conf)
	if err := os.Mkdir(s.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	refused(t, cfg, hsm.ErrTokenAway, "no token at all", s.Conf)
	if err := os.Remove(s.Dir); err != nil {
		t.Fatal(err)
	}
	s.Back(t)
	open(t, cfg)
}

func TestUnfit(t *testing.T) {
	f := hsmtest.NewFaulty(t)
	cfg := config(t, f.SoftHSM)
	open(t, cfg).Close() // works in principle
	for _, c := range []struct{ function, behaviour, hint string }{
		{"generate", "readable", "sensitive=false"},
		{"aad", "ignored", "accepts another AAD"},
		{"decrypt", "5", "known answer"},
	} {
		f.Fail(t, c.function, c.behaviour)
		tok, err := pkcs11.Open(hsmtest.Context(t), cfg)
		if err == nil {
			tok.Close()
		}
		if !errors.Is(err, hsm.ErrUnfit) || !strings.Contains(err.Error(), c.hint) {
			t.Errorf("%s %s: %v, want %v and a hint %q", c.function, c.behaviour, err, hsm.ErrUnfit, c.hint)
		}
		f.Heal(t)
	}
	open(t, cfg)
}

// TestReadableKey: a token that starts to make readable keys after the probe.
func TestReadableKey(t *testing.T) {
	f := hsmtest.NewFaulty(t)
	tok, id := open(t, config(t, f.SoftHSM)), hsm.NewKeyID()
	f.Fail(t, "generate", "readable")
	if _, err := tok.GenerateKey(hsmtest.Context(t), id, "x"); !errors.Is(err, hsm.ErrUnfit) {
		t.Errorf("generate: %v, want %v", err, hsm.ErrUnfit)
	}
	f.Heal(t)
	if _, err := tok.FindKey(hsmtest.Context(t), id); !errors.Is(err, hsm.ErrKeyNotFound) {
		t.Errorf("the readable key is still there: %v", err)
	}
}

func TestOpenTimeout(t *testing.T) {
	f := hsmtest.NewFaulty(t)
	cfg := config(t, f.SoftHSM)
	cfg.OpenTimeout = 50 * time.Millisecond
	f.Fail(t, "login", "hang")
	if _, err := pkcs11.Open(context.Background(), cfg); !errors.Is(err, hsm.ErrTimeout) {
		t.Errorf("open with a login that hangs: %v, want %v", err, hsm.ErrTimeout)
	}
	f.Heal(t)
	cfg.OpenTimeout = 0
	// The first attempt closes what it opened when the login returns.
	deadline := time.Now().Add(10 * time.Second)
	for {
		tok, err := pkcs11.Open(hsmtest.Context(t), cfg)
		if err == nil {
			tok.Close()
			return
		}
		if !errors.Is(err, hsm.ErrModule) || time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond) // there is no event to wait for
	}
}
