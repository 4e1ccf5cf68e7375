package keymgr

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/kmsfs/kmsfs/hsm"
)

// TestBlobLayout pins the layout of docs/FORMAT.md, section 10.
func TestBlobLayout(t *testing.T) {
	material := materialID(bytes.Repeat([]byte{0xaa}, 32))
	for _, c := range []struct {
		sealed hsm.Sealed
		want   string
	}{
		{hsm.Sealed{Mechanism: hsm.AESGCM, IV: bytes.Repeat([]byte{0xbb}, 12), Ciphertext: bytes.Repeat([]byte{0xcc}, 17)}, "01" + hex.EncodeToString(bytes.Repeat([]byte{0xbb}, 12))},
		{hsm.Sealed{Mechanism: hsm.XAES256GCM, IV: bytes.Repeat([]byte{0xbb}, 24), Ciphertext: bytes.Repeat([]byte{0xcc}, 17)}, "02" + hex.EncodeToString(bytes.Repeat([]byte{0xbb}, 24))},
	} {
		got, err := encodeBlob(blob{material, c.sealed})
		want := "01" + material.String() + c.want + hex.EncodeToString(bytes.Repeat([]byte{0xcc}, 17))
		if err != nil || hex.EncodeToString(got) != want {
			t.Errorf("blob %x %v\nwant %s", got, err, want)
		}
	}
	aad, err := blobAAD(material, Context{"user": "bob", "a": "1"})
	want := hex.EncodeToString([]byte("kmsfs blob")) + "01" + material.String() + "00000013" + "00020001610001310004757365720003626f62"
	if err != nil || hex.EncodeToString(aad) != want {
		t.Errorf("aad %x %v", aad, err)
	}
}

func FuzzParseBlob(f *testing.F) {
	for _, n := range []int{0, 1, 33, 34, 33 + 1 + 12 + 17, 33 + 1 + 24 + 17, 200} {
		b := bytes.Repeat([]byte{1}, n)
		f.Add(b)
		if n > 34 {
			c := bytes.Clone(b)
			c[33] = 2
			f.Add(c)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		parsed, err := parseBlob(b)
		if err != nil {
			return
		}
		again, err := encodeBlob(parsed)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x parsed and encoded gives %x, %v", b, again, err)
		}
	})
}
