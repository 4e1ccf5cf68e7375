package keymgr

import (
	"context"
	"errors"
	"testing"

	"github.com/kmsfs/kmsfs/hsm"
)

// notedToken is a token that keeps notes in memory.
type notedToken struct {
	hsm.Token
	notes map[hsm.KeyID][]byte
	away  bool
}

func (t *notedToken) Note(_ context.Context, id hsm.KeyID) ([]byte, error) {
	if t.away {
		return nil, hsm.ErrTokenAway
	}
	return t.notes[id], nil
}

func (t *notedToken) PutNote(_ context.Context, id hsm.KeyID, note []byte) error {
	if t.away {
		return hsm.ErrTokenAway
	}
	t.notes[id] = note
	return nil
}

// TestGeneration: the token knows every change before it is answered, later if it is away, and an older state and another one of the same number are refused.
func TestGeneration(t *testing.T) {
	f := newFixture(t)
	ctx, token := t.Context(), &notedToken{Token: f.token, notes: map[hsm.KeyID][]byte{}}
	cfg := f.cfg
	cfg.Token = token
	m, err := Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	known := func() generation {
		t.Helper()
		g, err := parseNote(token.notes[m.noteID])
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	md, err := m.CreateKey(ctx, me, CreateKeyInput{})
	if err != nil || known().number != 1 {
		t.Fatalf("after one change: %+v %v", known(), err)
	}
	token.away = true
	if err := m.DisableKey(ctx, me, md.KeyID); err != nil { // works, the token is told later
		t.Fatal(err)
	}
	if err := m.Observe(ctx, me); !errors.Is(err, hsm.ErrTokenAway) || known().number != 1 {
		t.Errorf("token away: %v, %+v", err, known())
	}
	if _, err := Open(ctx, cfg); !errors.Is(err, ErrKeyUnavailable) {
		t.Errorf("opened while the token is away: %v", err)
	}
	token.away = false
	if err := m.Observe(ctx, me); err != nil || known().number != 2 {
		t.Errorf("token back: %v, %+v", err, known())
	}
	for name, newer := range map[string]generation{"newer": {number: 3}, "another of the same number": {number: 2, tag: [16]byte{1}}} {
		token.notes[m.noteID] = newer.note()
		if _, err := Open(ctx, cfg); !errors.Is(err, ErrRollback) {
			t.Errorf("%s: %v", name, err)
		}
	}
	token.notes[m.noteID] = []byte("garbage")
	if _, err := Open(ctx, cfg); err == nil {
		t.Error("opened with garbage in the token")
	}
	token.notes[m.noteID] = generation{number: 7}.note()
	cfg.AcceptRestore, cfg.Self = true, me
	if m, err = Open(ctx, cfg); err != nil || known().number != 8 {
		t.Fatalf("accepted: %v, %+v", err, known())
	}
	if u := f.tape.last(1)[0]; u.Operation != "RestoreKeyStore" || u.Principal != me.Principal {
		t.Errorf("recorded %+v", u)
	}
	cfg.AcceptRestore = false
	if _, err := Open(ctx, cfg); err != nil || known().number != 8 {
		t.Errorf("afterwards: %v, %+v", err, known())
	}
}
