package e2e

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestImportCommands: a key of origin EXTERNAL gets its material in one step and, wrapped elsewhere by openssl, in two; without it nothing opens, and only the same brings it back.
func TestImportCommands(t *testing.T) {
	r := keyRig(t)
	at := []string{"--keystore", r.Store}
	do := func(args ...string) { t.Helper(); r.Must(append(args, at...)...) }
	raw := []byte("a key of 32 bytes, made elsewhere")[:32]
	material := r.secretFile("material", string(raw))
	other := r.secretFile("other", strings.Repeat("5a", 32)+"\n")
	key := jsonOf[keyJSON](r, "key", "create", "--alias", "alias/x", "--origin", "EXTERNAL")
	if key.State != "PendingImport" || key.Origin != "EXTERNAL" {
		t.Errorf("key create: %+v", key)
	}
	state := func(want string) {
		t.Helper()
		if k := jsonOf[keyJSON](r, "key", "describe", "alias/x"); k.State != want {
			t.Errorf("the key is %s, want %s", k.State, want)
		}
	}
	r.Refused(exitUsage, []string{"--material-file"}, append([]string{"key", "import", "alias/x"}, at...)...)
	r.Refused(exitNoSecret, []string{"32 bytes"}, append([]string{"key", "import", "alias/x", "--material-file", r.secretFile("short", "short")}, at...)...)
	open := filepath.Join(r.Dir, "open")
	write(t, open, raw) // for everybody to read
	r.Refused(exitNoSecret, []string{"chmod 600"}, append([]string{"key", "import", "alias/x", "--material-file", open}, at...)...)
	state("PendingImport")
	made := jsonOf[struct {
		Material string `json:"material_id"`
		ValidTo  string `json:"valid_to"`
	}](r, "key", "import", "alias/x", "--spec", "RSA_2048", "--material-file", material, "--valid-for", "48h")
	if len(made.Material) != 64 || made.ValidTo == "" {
		t.Errorf("key import: %+v", made)
	}
	state("Enabled")
	do("key", "delete-material", "alias/x")
	state("PendingImport")
	r.Refused(exitKeyRefused, []string{"material"}, append([]string{"key", "import", "alias/x", "--material-file", other, "--spec", "RSA_2048"}, at...)...)
	state("PendingImport")

	in := func(name string) string { return filepath.Join(r.Dir, name) }
	do("key", "import-parameters", "alias/x", "--spec", "RSA_2048", "--public-key", in("wrapping.der"), "--token-file", in("token"))
	r.Refused(exitUsage, []string{"exists"}, append([]string{"key", "import-parameters", "alias/x", "--spec", "RSA_2048", "--public-key", in("wrapping.der"), "--token-file", in("token2")}, at...)...)
	sh(t, r.Dir, `openssl pkeyutl -encrypt -pubin -keyform DER -inkey wrapping.der -in material -out wrapped -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256`)
	do("key", "import", "alias/x", "--wrapped-file", in("wrapped"), "--token-file", in("token"))
	state("Enabled")
	if log := r.Must("audit", "query", "--json", "--keystore", r.Store); strings.Contains(log, hex.EncodeToString(raw)) || strings.Contains(log, string(raw)) || !strings.Contains(log, "ImportKeyMaterial") {
		t.Error("the audit log tells the material, or nothing")
	}
	if _, err := os.Stat(in("token2")); !os.IsNotExist(err) {
		t.Errorf("a refused command wrote a token: %v", err)
	}
}
