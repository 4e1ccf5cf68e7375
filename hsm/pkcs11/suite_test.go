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
