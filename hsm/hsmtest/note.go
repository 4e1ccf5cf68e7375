package hsmtest

import (
	"bytes"
	"testing"

	"github.com/kmsfs/kmsfs/hsm"
)

// testNote is the part of the suite about hsm.Noter, for tokens that are one: the embedded one is not.
func testNote(t *testing.T, tok hsm.Token) {
	noter, ok := tok.(hsm.Noter)
	if !ok {
		t.Skip("keeps no notes")
	}
	ctx, id, other := Context(t), hsm.NewKeyID(), hsm.NewKeyID()
	read := func(id hsm.KeyID, want []byte) {
		t.Helper()
		if got, err := noter.Note(ctx, id); err != nil || !bytes.Equal(got, want) {
			t.Errorf("note %q %v, want %q", got, err, want)
		}
	}
	read(id, nil)
	for _, note := range [][]byte{{1}, {2, 0}, bytes.Repeat([]byte{3}, hsm.MaxNote), bytes.Repeat([]byte{3}, hsm.MaxNote), {1}} { // the last goes back: it is what was put last
		if err := noter.PutNote(ctx, id, note); err != nil {
			t.Fatal(err)
		}
		read(id, note)
	}
	read(other, nil)
	if err := noter.PutNote(ctx, other, []byte("other")); err != nil {
		t.Fatal(err)
	}
	read(id, []byte{1})
	for _, bad := range [][]byte{nil, bytes.Repeat([]byte{1}, hsm.MaxNote+1)} {
		wantErr(t, "put a note out of range", noter.PutNote(ctx, id, bad), hsm.ErrSize)
	}
	read(id, []byte{1})
}
