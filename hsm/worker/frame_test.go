package worker

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/hsm"
)

func frame(t testing.TB, h head, secret []byte) []byte {
	t.Helper()
	b, err := appendFrame(nil, h, secret)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// readFrame reads the first of the frames that one read gives.
func readFrame(r io.Reader, h head) ([]byte, error) {
	f := frames{r: r}
	return f.next(h)
}

func TestFrames(t *testing.T) {
	req := request{ID: 7, Op: opDecrypt, Key: hsm.NewKeyID(), AAD: bytes.Repeat([]byte{1}, hsm.MaxAAD),
		Sealed: &hsm.Sealed{Mechanism: hsm.AESGCM, IV: make([]byte, hsm.MaxIV), Ciphertext: make([]byte, hsm.MaxCiphertext)}}
	secret := bytes.Repeat([]byte{9}, hsm.MaxPlaintext)
	data := frame(t, &req, secret)
	var got request
	back, err := readFrame(bytes.NewReader(data), &got)
	if err != nil || !bytes.Equal(back, secret) {
		t.Fatalf("secret of %d bytes, %v", len(back), err)
	}
	a, _ := json.Marshal(req)
	b, _ := json.Marshal(got)
	if !bytes.Equal(a, b) {
		t.Errorf("got %s, want %s", b, a)
	}
	for n := range len(data) {
		if n > 200 && n < len(data)-200 {
			continue
		}
		_, err := readFrame(bytes.NewReader(data[:n]), new(request))
		if n == 0 && err != io.EOF || n > 0 && err == nil {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
	}
}

// TestFrameLimits: lengths are looked at before anything is allocated.
func TestFrameLimits(t *testing.T) {
	for _, lens := range [][2]uint32{{maxHead + 1, 0}, {0, maxSecret + 1}, {1 << 31, 1 << 31}, {^uint32(0), ^uint32(0)}} {
		data := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, lens[0]), lens[1])
		allocs := testing.AllocsPerRun(10, func() {
			if _, err := readFrame(bytes.NewReader(data), new(request)); !errors.Is(err, errFrame) {
				t.Errorf("lengths %v: %v, want %v", lens, err, errFrame)
			}
		})
		if allocs > 20 {
			t.Errorf("lengths %v: %v allocations", lens, allocs)
		}
	}
	if _, err := appendFrame(nil, &reply{}, make([]byte, maxSecret+1)); !errors.Is(err, errFrame) {
		t.Errorf("too long a secret is sent: %v", err)
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(frame(f, &request{Op: opInfo}, []byte("secret")))
	f.Add([]byte{0, 0, 0, 2, 0, 0, 0, 0, '{', '}'})
	f.Add(frame(f, &request{Op: opDecrypt, Sealed: &hsm.Sealed{Mechanism: hsm.AESGCM, IV: make([]byte, 12), Ciphertext: make([]byte, 20)}}, nil))
	f.Add(frame(f, &reply{Sealed: &hsm.Sealed{Mechanism: hsm.AESGCM}}, nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		var req request
		if secret, err := readFrame(bytes.NewReader(data), &req); err == nil {
			frame(t, &req, secret[:min(len(secret), maxSecret)])
		}
		_, _ = readFrame(bytes.NewReader(data), new(reply))
	})
}

// fake is a token that knows one key and answers anything.
type fake struct {
	hsm.Token
	closed chan struct{}
}

func (f *fake) Info(context.Context) (hsm.Info, error) { return hsm.Info{Kind: "fake"}, nil }
func (f *fake) FindKey(context.Context, hsm.KeyID) (hsm.KeyInfo, error) {
	return hsm.KeyInfo{}, hsm.ErrKeyMismatch
}
func (f *fake) Close() error { close(f.closed); return nil }

// serve runs Serve over a pipe; wait ends it and gives its error.
func serve(t *testing.T, openErr error) (conn net.Conn, f *fake, wait func() error) {
	t.Helper()
	ours, theirs := net.Pipe()
	f = &fake{closed: make(chan struct{})}
	done := make(chan error, 1)
	go func() {
		done <- Serve(context.Background(), theirs, func(_ context.Context, cfg OpenConfig) (hsm.Token, error) {
			if string(cfg.PIN.Bytes()) != "pin" || cfg.TokenLabel != "label" {
				return nil, errors.New("wrong configuration")
			}
			return f, openErr
		})
	}()
	return ours, f, func() error { ours.Close(); return <-done }
}

func ask(t *testing.T, conn net.Conn, req *request, secret []byte) reply {
	t.Helper()
	if _, err := conn.Write(frame(t, req, secret)); err != nil {
		t.Fatal(err)
	}
	var rep reply
	if _, err := readFrame(conn, &rep); err != nil {
		t.Fatal(err)
	}
	if rep.ID != req.ID {
		t.Errorf("reply %d to request %d", rep.ID, req.ID)
	}
	return rep
}

var openReq = &request{ID: 1, Op: opOpen, Open: &openHead{TokenLabel: "label"}}

func TestServe(t *testing.T) {
	conn, f, wait := serve(t, nil)
	if rep := ask(t, conn, openReq, []byte("pin")); rep.Code != "" {
		t.Fatalf("open: %+v", rep)
	}
	if rep := ask(t, conn, &request{ID: 2, Op: opInfo}, nil); rep.Info == nil || rep.Info.Kind != "fake" {
		t.Errorf("info: %+v", rep)
	}
	if rep := ask(t, conn, &request{ID: 3, Op: opFind}, nil); !errors.Is(rep.err(), hsm.ErrKeyMismatch) || !errors.Is(rep.err(), hsm.ErrKeyNotFound) {
		t.Errorf("find: %+v", rep)
	}
	for i, req := range []*request{{Op: "mint"}, {Op: opDecrypt}, {Op: opOpen}} {
		req.ID = uint64(10 + i)
		if rep := ask(t, conn, req, nil); rep.Code != codeOther {
			t.Errorf("%q: %+v", req.Op, rep)
		}
	}
	if err := wait(); err != nil {
		t.Error(err)
	}
	<-f.closed
}

func TestServeRefusals(t *testing.T) {
	conn, _, wait := serve(t, hsm.ErrPIN)
	if rep := ask(t, conn, openReq, []byte("pin")); !errors.Is(rep.err(), hsm.ErrPIN) {
		t.Errorf("open: %+v", rep)
	}
	if err := wait(); !errors.Is(err, hsm.ErrPIN) {
		t.Errorf("serve: %v, want %v", err, hsm.ErrPIN)
	}
	for _, first := range [][]byte{frame(t, &request{Op: opInfo}, nil), frame(t, &request{Op: opOpen}, nil), make([]byte, 8)} {
		conn, _, wait := serve(t, nil)
		if _, err := conn.Write(first); err != nil {
			t.Error(err)
		}
		if err := wait(); !errors.Is(err, errFrame) {
			t.Errorf("first frame %q: %v, want %v", first, err, errFrame)
		}
	}
	conn, f, wait := serve(t, nil)
	ask(t, conn, openReq, []byte("pin"))
	if _, err := conn.Write(bytes.Repeat([]byte{0xff}, 8)); err != nil {
		t.Error(err)
	}
	if err := wait(); !errors.Is(err, errFrame) {
		t.Errorf("garbage: %v, want %v", err, errFrame)
	}
	<-f.closed
}

// TestErrorsTravel: every error of hsm keeps its class over the wire.
func TestErrorsTravel(t *testing.T) {
	for _, want := range []error{hsm.ErrAuth, hsm.ErrKeyNotFound, hsm.ErrKeyMismatch, hsm.ErrExists, hsm.ErrTokenAway, hsm.ErrTimeout,
		hsm.ErrPIN, hsm.ErrLocked, hsm.ErrModule, hsm.ErrUnfit, hsm.ErrDamaged, hsm.ErrClosed, hsm.ErrSize} {
		var rep, back reply
		rep.fail(want)
		if err := json.Unmarshal(frame(t, &rep, nil)[8:], &back); err != nil {
			t.Fatal(err)
		}
		for _, class := range []error{hsm.ErrAuth, hsm.ErrKeyNotFound, hsm.ErrKeyMismatch, hsm.ErrTokenAway, hsm.ErrTimeout, want} {
			if errors.Is(back.err(), class) != errors.Is(want, class) {
				t.Errorf("%v arrives as %v (%s)", want, back.err(), back.Code)
			}
		}
	}
	var rep reply
	rep.fail(errors.New(strings.Repeat("x", 1<<20)))
	if len(rep.Error) > maxError || rep.err() == nil {
		t.Errorf("a long error has %d bytes", len(rep.Error))
	}
	if err := (&reply{Code: "newer"}).err(); err == nil {
		t.Error("an unknown code is taken for success")
	}
}

func TestLogWriter(t *testing.T) {
	var lines []string
	w := &logWriter{log: capture(&lines)}
	for _, s := range []string{"one\ntw", "o\n\n", strings.Repeat("x", 3*maxLine), "\nlast"} {
		if n, err := w.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatal(n, err)
		}
	}
	want := []string{"one", "two", strings.Repeat("x", maxLine)}
	if strings.Join(lines, "|") != strings.Join(want, "|") {
		t.Errorf("logged %q", lines)
	}
}
