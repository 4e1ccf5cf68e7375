package soft_test

import (
	"path/filepath"
	"testing"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/hsm/hsmtest"
	"github.com/kmsfs/kmsfs/hsm/soft"
)

func TestSuite(t *testing.T) {
	hsmtest.Run(t, func(t *testing.T) hsm.Token {
		dir, key := filepath.Join(t.TempDir(), "token"), keyFile(t)
		tok, err := soft.Create(dir, soft.KeyFile(key))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { tok.Close() })
		return tok
	})
}

func BenchmarkDecrypt(b *testing.B) {
	tok, err := soft.Create(filepath.Join(b.TempDir(), "token"), soft.KeyFile(keyFile(b)))
	if err != nil {
		b.Fatal(err)
	}
	defer tok.Close()
	hsmtest.Bench(b, tok)
}
