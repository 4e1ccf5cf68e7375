package worker

import (
	"context"
	"net"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/kmsfs/kmsfs/hsm"
)

// single is a token that works on one call at a time, and counts those that are in it at once.
type single struct {
	hsm.Token
	inside, most atomic.Int32
}

func (s *single) OneByOne() bool { return true }
func (s *single) Close() error   { return nil }

func (s *single) Encrypt(context.Context, hsm.KeyID, []byte, []byte) (hsm.Sealed, error) {
	n := s.inside.Add(1)
	defer s.inside.Add(-1)
	s.most.Store(max(n, s.most.Load()))
	for range 100 { // others would come in
		runtime.Gosched()
	}
	return hsm.Sealed{Mechanism: hsm.AESGCM, IV: make([]byte, gcmNonce), Ciphertext: make([]byte, 1+hsm.TagSize)}, nil
}

// TestOneByOne: a token that works on one call at a time is given one, and all that come in one piece are answered in their order.
func TestOneByOne(t *testing.T) {
	ours, theirs := net.Pipe()
	token := &single{}
	done := make(chan error, 1)
	go func() {
		done <- Serve(t.Context(), theirs, func(context.Context, OpenConfig) (hsm.Token, error) { return token, nil })
	}()
	if rep := ask(t, ours, openReq, []byte("pin")); rep.Code != "" {
		t.Fatalf("open: %+v", rep)
	}
	const calls = 20
	var all []byte
	for i := range calls {
		all = append(all, frame(t, &request{ID: uint64(10 + i), Op: opEncrypt, Timeout: 60000}, []byte("x"))...)
	}
	sent := make(chan error, 1)
	go func() { _, err := ours.Write(all); sent <- err }()
	in := frames{r: ours}
	for i := range calls {
		var rep reply
		if _, err := in.next(&rep); err != nil || rep.ID != uint64(10+i) || rep.Sealed == nil {
			t.Fatalf("answer %d: %+v, %v", i, rep, err)
		}
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if n := token.most.Load(); n != 1 {
		t.Errorf("%d calls were in the token at once", n)
	}
	ours.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestFrameReady: a frame is ready when all of it is there.
func TestFrameReady(t *testing.T) {
	data := frame(t, &request{ID: 1, Op: opEncrypt, AAD: []byte("aad")}, []byte("secret"))
	for n := range len(data) + 1 {
		f := frames{buf: data, end: n}
		if f.ready() != (n == len(data)) {
			t.Errorf("%d of %d bytes: %v", n, len(data), f.ready())
		}
	}
	f := frames{buf: []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, end: 8}
	if f.ready() {
		t.Error("absurd lengths")
	}
}
