package server

import (
	"bytes"
	"context"
	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/hsm/soft"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/client"
)

// slowToken takes so many calls at once, as the worker does, and is not done with some of them before their time is over.
type slowToken struct {
	*soft.Token // with all that it can beside
	places      chan struct{}
	entered     chan struct{}
}

var hangs = []byte("this call hangs")

func (s *slowToken) Encrypt(ctx context.Context, id hsm.KeyID, plaintext, aad []byte) (hsm.Sealed, error) {
	select {
	case s.places <- struct{}{}:
		defer func() { <-s.places }()
	case <-ctx.Done():
		return hsm.Sealed{}, hsm.ErrTokenAway
	}
	if bytes.Equal(plaintext, hangs) {
		s.entered <- struct{}{}
		<-ctx.Done()
		return hsm.Sealed{}, hsm.ErrTokenAway
	}
	return s.Token.Encrypt(ctx, id, plaintext, aad)
}

// TestPrincipalsDoNotWaitForEachOther: a direct client has more calls of a slow token under way than the token takes at once. A user for whom a front end asks gets
// his answers all the same, and so does the front end itself for what needs no token.
func TestPrincipalsDoNotWaitForEachOther(t *testing.T) {
	dir, volume := newKeyStore(t, false), blockcrypt.VolumeID{7}
	slow := &slowToken{places: make(chan struct{}, maxTokenCalls), entered: make(chan struct{}, 1000)}
	cfg := RunConfig{Dir: dir, Options: options}
	cfg.Through = func(t hsm.Token) hsm.Token {
		slow.Token = t.(*soft.Token)
		return slow
	}
	serve(t, cfg)
	greedy := dial(t, dir, client.Options{})
	md, err := greedy.CreateKey(t.Context(), self, keymgr.CreateKeyInput{})
	if err == nil {
		err = greedy.PutKeyPolicy(t.Context(), self, md.ARN, "", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}]}`, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	daemon := front(t, dir, volume)

	hang, end := context.WithCancel(t.Context())
	defer end()
	const calls = 2 * maxTokenCalls
	ended := make(chan error, calls)
	for range calls {
		go func() {
			_, err := greedy.Encrypt(hang, self, keymgr.EncryptInput{KeyID: md.ARN, Plaintext: hangs})
			ended <- err
		}()
	}
	for range maxPrincipalTokenCalls {
		<-slow.entered
	}
	alice := keymgr.Caller{UID: 4711, GID: 4711, PID: 1, Via: keymgr.ViaFileDaemon}
	for range 20 {
		if _, err := daemon.Encrypt(t.Context(), alice, keymgr.EncryptInput{KeyID: md.ARN, Plaintext: []byte("p"), Context: keymgr.Context{keymgr.ContextVolume: volume.String()}}); err != nil {
			t.Fatalf("another user's call: %v", err)
		}
	}
	if _, err := daemon.GetVolume(t.Context(), self, volume); err != nil {
		t.Errorf("without the token: %v", err)
	}
	end()
	for range calls {
		if err := <-ended; err == nil {
			t.Error("a call that hangs has succeeded")
		}
	}
}
