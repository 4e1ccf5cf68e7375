package soft

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/hsm"
)

// TestXAESVectors are the two vectors of C2SP's XAES-256-GCM specification.
func TestXAESVectors(t *testing.T) {
	nonce, plain := []byte("ABCDEFGHIJKLMNOPQRSTUVWX"), []byte("XAES-256-GCM")
	for _, v := range []struct {
		key byte
		aad string
		ct  string
	}{
		{0x01, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{0x03, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		key := bytes.Repeat([]byte{v.key}, 32)
		aead, err := subcipher(key, nonce)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(aead.Seal(nil, nonce[12:], plain, []byte(v.aad))); got != v.ct {
			t.Errorf("key %#x: got %s, want %s", v.key, got, v.ct)
		}
	}
}

// TestNoPlaintextOnDisk looks for the root key and a backing key in the files.
func TestNoPlaintextOnDisk(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "k")
	secret := bytes.Repeat([]byte{7}, 32)
	if err := os.WriteFile(key, secret, 0o600); err != nil {
		t.Fatal(err)
	}
	tok, err := Create(filepath.Join(dir, "token"), KeyFile(key))
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
	id := hsm.NewKeyID()
	if _, err := tok.GenerateKey(t.Context(), id, "label"); err != nil {
		t.Fatal(err)
	}
	raw := tok.mu.slots.key(tok.mu.slots.keys[id].slot)
	err = filepath.WalkDir(filepath.Join(dir, "token"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		for name, s := range map[string][]byte{"secret": secret, "root key": tok.mu.root.Bytes(), "backing key": raw} {
			if bytes.Contains(data, s) || strings.Contains(string(data), hex.EncodeToString(s)) {
				t.Errorf("%s is in %s", name, path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func FuzzHeader(f *testing.F) {
	h := &header{Unlock: newParams(methodPassphrase)}
	good, err := h.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := decodeHeader(data)
		if err != nil {
			return
		}
		again, err := h.encode()
		if err != nil {
			t.Fatal(err)
		}
		if h2, err := decodeHeader(again); err != nil || !bytes.Equal(h2.aad(), h.aad()) || h2.Root != h.Root || h2.Check != h.Check {
			t.Fatalf("%q reads as %+v, writes as %q (%v)", data, h, again, err)
		}
	})
}

func FuzzKeyFile(f *testing.F) {
	k := keyHeader{Magic: keyMagic, ID: hsm.NewKeyID(), Label: "label"}
	f.Add(k.ID[:], append(k.encode(), make([]byte, sealedSize)...))
	f.Add(k.ID[:], []byte(keyMagic))
	f.Fuzz(func(t *testing.T, idb, data []byte) {
		var id hsm.KeyID
		copy(id[:], idb)
		k, head, nonce, sealed, err := parseKeyFile(keyMagic, id, data)
		if err != nil {
			return
		}
		if !bytes.Equal(k.encode(), head) || len(head)+len(nonce)+len(sealed) != len(data) {
			t.Fatalf("%x reads as %+v", data, k)
		}
	})
}
