package hsmtest

import (
	"bytes"
	"crypto/aes"
	"testing"

	"github.com/kmsfs/kmsfs/hsm"
)

// testImport is the part of the suite about hsm.Importer, which every token here implements.
func testImport(t *testing.T, tok hsm.Token) {
	ctx, id := Context(t), hsm.NewKeyID()
	importer, ok := tok.(hsm.Importer)
	info, err := tok.Info(ctx)
	if !ok || err != nil || !info.Imports {
		t.Fatalf("%T takes no keys: %+v %v", tok, info, err)
	}
	key := bytesOf(hsm.KeySize)
	made, err := importer.ImportKey(ctx, id, "from outside", key)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	check := make([]byte, aes.BlockSize)
	block.Encrypt(check, check)
	if made.ID != id || made.Label != "from outside" || made.Local || made.NeverExtractable || !bytes.Equal(made.CheckValue, check[:3]) {
		t.Errorf("%+v, want check value %x", made, check[:3])
	}
	if found, err := tok.FindKey(ctx, id); err != nil || found.Label != made.Label || !bytes.Equal(found.CheckValue, made.CheckValue) {
		t.Errorf("found %+v, %v", found, err)
	}
	plain, aad := []byte("plain"), []byte("aad")
	s := Seal(t, tok, id, plain, aad)
	_, err = importer.ImportKey(ctx, id, "again", key)
	wantErr(t, "import under an id in use", err, hsm.ErrExists)
	_, err = importer.ImportKey(ctx, NewKey(t, tok), "again", key)
	wantErr(t, "import under the id of another key", err, hsm.ErrExists)
	for _, bad := range [][]byte{nil, key[:31], append(bytes.Clone(key), 0)} {
		_, err = importer.ImportKey(ctx, hsm.NewKeyID(), "x", bad)
		wantErr(t, "import a key of another size", err, hsm.ErrSize)
	}
	_, err = importer.ImportKey(ctx, hsm.NewKeyID(), "", key)
	wantErr(t, "import a key without a label", err, hsm.ErrSize)
	if err := tok.DestroyKey(ctx, id); err != nil {
		t.Fatal(err)
	}
	_, err = tok.Decrypt(ctx, id, s, aad)
	wantErr(t, "decrypt after the key was destroyed", err, hsm.ErrKeyNotFound)
	if _, err := importer.ImportKey(ctx, id, "once more", key); err != nil {
		t.Fatal(err)
	}
	Opens(t, tok, id, s, plain, aad) // the same key, so the same blobs
}
