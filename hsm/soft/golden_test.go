package soft_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/hsm/hsmtest"
	"github.com/kmsfs/kmsfs/hsm/soft"
)

// hexBytes is a byte string in hexadecimal.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// TestGolden opens tokens of every format version, which testdata/golden.py made
// without our code.
func TestGolden(t *testing.T) {
	cases, err := filepath.Glob("testdata/golden/*.json")
	if err != nil || len(cases) < 2 {
		t.Fatalf("%d golden tokens, %v", len(cases), err)
	}
	for _, path := range cases {
		t.Run(filepath.Base(path), func(t *testing.T) { golden(t, path) })
	}
}

func golden(t *testing.T, path string) {
	var g struct {
		Method                             string
		Secret, Plain, AAD, IV, Ciphertext hexBytes
		Serial, Label                      string
		Key                                hsm.KeyID
		CheckValue                         hexBytes `json:"check_value"`
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	unlock := pass(t, string(g.Secret))
	if g.Method == "key-file" {
		unlock = soft.KeyFile(write(t, filepath.Join(t.TempDir(), "key"), g.Secret, 0o600))
	}
	tok := reopen(t, path[:len(path)-len(".json")], unlock)
	hsmtest.Opens(t, tok, g.Key, hsm.Sealed{Mechanism: hsm.XAES256GCM, IV: g.IV, Ciphertext: g.Ciphertext}, g.Plain, g.AAD)
	key, err := tok.FindKey(t.Context(), g.Key)
	if err != nil {
		t.Fatal(err)
	}
	if key.Label != g.Label || hex.EncodeToString(key.CheckValue) != hex.EncodeToString(g.CheckValue) || key.Created.Unix() != 1767225600 {
		t.Errorf("key %+v, want label %q and check value %x", key, g.Label, g.CheckValue)
	}
	info, err := tok.Info(t.Context())
	if err != nil || info.Serial != g.Serial {
		t.Errorf("serial %q, %v, want %q", info.Serial, err, g.Serial)
	}
}
