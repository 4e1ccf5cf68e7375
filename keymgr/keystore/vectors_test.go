package keystore

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/hsm"
)

// rootToken is a token with the root key of a vector, for decrypting alone.
type rootToken struct {
	hsm.Token
	mechanism string
	root      []byte
}

func (r rootToken) Decrypt(_ context.Context, _ hsm.KeyID, s hsm.Sealed, aad []byte) ([]byte, error) {
	if s.Mechanism != r.mechanism {
		return nil, hsm.ErrAuth
	}
	if s.Mechanism == hsm.XAES256GCM {
		sealer, err := blockcrypt.NewSealer((*blockcrypt.Key)(r.root))
		if err != nil {
			return nil, err
		}
		return sealer.Open(nil, append(append([]byte{}, s.IV...), s.Ciphertext...), aad)
	}
	block, err := aes.NewCipher(r.root)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return aead.Open(nil, s.IV, s.Ciphertext, aad)
}

// TestStoreKeyVectors unwraps store keys that testdata/vectors.py wrapped.
func TestStoreKeyVectors(t *testing.T) {
	data, err := os.ReadFile("../testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		StoreKey  string                                           `json:"store_key"`
		ID        string                                           `json:"id"`
		StoreKeys []struct{ Name, Mechanism, Root, Sealed string } `json:"store_keys"`
	}
	if err := json.Unmarshal(data, &v); err != nil || len(v.StoreKeys) == 0 {
		t.Fatalf("%d vectors, %v", len(v.StoreKeys), err)
	}
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, c := range v.StoreKeys {
		cfg := Config{ID: [16]byte(unhex(v.ID)), StoreKey: unhex(c.Sealed)}
		key, err := unwrapStoreKey(t.Context(), rootToken{mechanism: c.Mechanism, root: unhex(c.Root)}, cfg)
		if err != nil || hex.EncodeToString(key[:]) != v.StoreKey {
			t.Errorf("%s: %v", c.Name, err)
		}
		cfg.ID[0] ^= 1
		if _, err := unwrapStoreKey(t.Context(), rootToken{mechanism: c.Mechanism, root: unhex(c.Root)}, cfg); err == nil || c.Mechanism == hsm.XAES256GCM && !errors.Is(err, blockcrypt.ErrAuth) {
			t.Errorf("%s in another key store: %v", c.Name, err)
		}
	}
}
