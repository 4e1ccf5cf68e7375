package keymgr

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// hexBytes is a byte string in hexadecimal.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// vectors is testdata/vectors.json, written by vectors.py beside it.
type vectors struct {
	StoreKey   hexBytes `json:"store_key"`
	ID         hexBytes `json:"id"`
	JournalKey hexBytes `json:"journal_key"`
	Rows       []struct {
		Name            string
		Key, AAD, Value hexBytes
		Plain           string
	}
	Aliases []struct {
		Alias string
		Key   hexBytes
	}
	Blobs []struct {
		Name, Mechanism                 string
		Key, Material, AAD, Plain, Blob hexBytes
		TokenKey                        hexBytes `json:"token_key"`
		Context                         Context
	}
}

func loadVectors(t *testing.T) vectors {
	t.Helper()
	data, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Rows) == 0 || len(v.Blobs) == 0 || len(v.Aliases) == 0 {
		t.Fatal("no vectors")
	}
	return v
}

func TestRowVectors(t *testing.T) {
	v := loadVectors(t)
	r, err := newRows([16]byte(v.ID), (*blockcrypt.Key)(v.StoreKey))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range v.Rows {
		var got, want map[string]any
		if err := r.open(c.Key, c.Value, &got); err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		if err := json.Unmarshal([]byte(c.Plain), &want); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", c.Name, got, want)
		}
		if !bytes.Equal(r.aad(c.Key), c.AAD) {
			t.Errorf("%s: aad %x", c.Name, r.aad(c.Key))
		}
	}
	for _, c := range v.Aliases {
		if got := r.aliasKey(c.Alias); !bytes.Equal(got, c.Key) {
			t.Errorf("row key of %s is %x, want %x", c.Alias, got, c.Key)
		}
	}
	journal, err := blockcrypt.DeriveKey((*blockcrypt.Key)(v.StoreKey), "keystore journal", v.ID)
	if err != nil || !bytes.Equal(journal[:], v.JournalKey) {
		t.Errorf("journal key differs (%v)", err)
	}
}

// TestBlobVectors opens blobs through the whole service, with backing keys from the vectors put into the token and the key store.
func TestBlobVectors(t *testing.T) {
	for _, c := range loadVectors(t).Blobs {
		f := newFixture(t)
		id := keyUUID{4}
		f.token.keys[hsm.KeyID(c.TokenKey)] = openerOf(t, c.Mechanism, c.Key)
		f.token.mechanism = c.Mechanism
		k, err := newCMK(id, keyRecord{State: StateEnabled, Versions: []versionRecord{{Number: 1, Material: hex.EncodeToString(c.Material), TokenKey: hex.EncodeToString(c.TokenKey)}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.update(t.Context(), func(tx kv.Txn) error { return f.putNewKey(t.Context(), tx, k, CreateKeyInput{}) }); err != nil {
			t.Fatal(err)
		}
		if aad, err := blobAAD(materialID(c.Material), c.Context); err != nil || !bytes.Equal(aad, c.AAD) {
			t.Errorf("%s: aad %x, %v", c.Name, aad, err)
		}
		out, err := f.Decrypt(t.Context(), me, DecryptInput{Blob: c.Blob, Context: c.Context})
		if err != nil || !bytes.Equal(out.Plaintext, c.Plain) || out.KeyID != id.ARN() {
			t.Errorf("%s: %v", c.Name, err)
		}
		if _, err := f.Decrypt(t.Context(), me, DecryptInput{Blob: c.Blob, Context: Context{"other": "x"}}); !errors.Is(err, ErrInvalidCiphertext) {
			t.Errorf("%s with another context: %v", c.Name, err)
		}
	}
}

// openerOf is what a token does with a backing key, as a cipher.AEAD.
func openerOf(t *testing.T, mechanism string, raw []byte) cipher.AEAD {
	t.Helper()
	if mechanism == hsm.XAES256GCM {
		s, err := blockcrypt.NewSealer((*blockcrypt.Key)(raw))
		if err != nil {
			t.Fatal(err)
		}
		return xaesAEAD{s}
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return aead
}

// xaesAEAD opens with a blockcrypt.Sealer.
type xaesAEAD struct{ *blockcrypt.Sealer }

func (x xaesAEAD) NonceSize() int                { return 24 }
func (x xaesAEAD) Overhead() int                 { return 16 }
func (x xaesAEAD) Seal(_, _, _, _ []byte) []byte { panic("not for sealing") }
func (x xaesAEAD) Open(dst, nonce, ct, aad []byte) ([]byte, error) {
	return x.Sealer.Open(dst, append(bytes.Clone(nonce), ct...), aad)
}
