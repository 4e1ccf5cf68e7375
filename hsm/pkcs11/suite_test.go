//go:build cgo

package pkcs11_test

import (
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/hsm/hsmtest"
	"github.com/kmsfs/kmsfs/hsm/pkcs11"
)

func TestSuite(t *testing.T) {
	hsmtest.Run(t, func(t *testing.T) hsm.Token {
		return open(t, config(t, hsmtest.NewSoftHSM(t)))
	})
}

// TestSuiteSessions is the suite with several calls in the module at once, as
// with modules that are not SoftHSM.
func TestSuiteSessions(t *testing.T) {
	hsmtest.Run(t, func(t *testing.T) hsm.Token {
		cfg := config(t, hsmtest.NewSoftHSM(t))
		cfg.MaxSessions = 4
		return open(t, cfg)
	})
}

// TestSignP256: a token without Ed25519 signs by P-256.
func TestSignP256(t *testing.T) {
	tok := open(t, pkcs11.WithoutEd25519(config(t, hsmtest.NewSoftHSM(t))))
	key, err := tok.GenerateSigningKey(hsmtest.Context(t), hsm.NewKeyID(), "p256")
	if err != nil || key.Algorithm != hsm.ECDSAP256 {
		t.Fatalf("made %+v, %v", key, err)
	}
	hsmtest.Signing(t, tok)
}

func config(t testing.TB, s *hsmtest.SoftHSM) pkcs11.Config {
	return pkcs11.Config{Module: s.Module, TokenLabel: s.Label, PIN: s.Secret(t), Initialize: true,
		CallTimeout: 30 * time.Second} // the machine may be busy with other tests
}

func open(t testing.TB, cfg pkcs11.Config) *pkcs11.Token {
	t.Helper()
	tok, err := pkcs11.Open(hsmtest.Context(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tok.Close() })
	return tok
}

func BenchmarkDecrypt(b *testing.B) { hsmtest.Bench(b, open(b, config(b, hsmtest.NewSoftHSM(b)))) }
