package worker

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"testing"

	"github.com/kmsfs/kmsfs/hsm"
)

// TestBinaryHeads: what every use of a key needs is binary and says the same; all else is JSON.
func TestBinaryHeads(t *testing.T) {
	sealed := &hsm.Sealed{Mechanism: hsm.AESGCM, IV: []byte("twelve bytes"), Ciphertext: bytes.Repeat([]byte{7}, 48)}
	remote := &hsm.Sealed{Mechanism: hsm.RemoteKMS, Ciphertext: []byte("x")}
	for name, c := range map[string]struct {
		head, back head
		binary     bool
	}{
		"encrypt":         {&request{ID: 1 << 40, Op: opEncrypt, Timeout: 9999, Key: hsm.NewKeyID(), AAD: []byte("aad")}, &request{}, true},
		"encrypt, bare":   {&request{Op: opEncrypt}, &request{}, true},
		"decrypt":         {&request{ID: 2, Op: opDecrypt, Timeout: 1, Key: hsm.NewKeyID(), AAD: bytes.Repeat([]byte{1}, hsm.MaxAAD), Sealed: sealed}, &request{}, true},
		"decrypt nothing": {&request{ID: 3, Op: opDecrypt}, &request{}, false},
		"remote":          {&request{ID: 4, Op: opDecrypt, Sealed: remote}, &request{}, false},
		"find":            {&request{ID: 5, Op: opFind}, &request{}, false},
		"no time":         {&request{ID: 6, Op: opEncrypt, Timeout: -1}, &request{}, false},
		"sealed":          {&reply{ID: 7, Sealed: sealed}, &reply{}, true},
		"done":            {&reply{ID: 8}, &reply{}, true},
		"failed":          {&reply{ID: 9, Code: "auth", Error: "no"}, &reply{}, false},
		"signed":          {&reply{ID: 10, Signature: []byte("x")}, &reply{}, false},
	} {
		data := frame(t, c.head, []byte("secret"))
		if got := data[8] != '{'; got != c.binary {
			t.Errorf("%s: binary is %t", name, got)
		}
		if n := c.head.binarySize(); n > 0 && n != len(c.head.appendBinary(nil)) {
			t.Errorf("%s: size %d, length %d", name, n, len(c.head.appendBinary(nil)))
		}
		secret, err := readFrame(bytes.NewReader(data), c.back)
		a, _ := json.Marshal(c.head)
		b, _ := json.Marshal(c.back)
		if err != nil || string(secret) != "secret" || !bytes.Equal(a, b) {
			t.Errorf("%s: %s became %s, %v", name, a, b, err)
		}
	}
}

// TestBinaryMalformed: a binary head that is cut, has something behind it, or another kind or length, is refused.
func TestBinaryMalformed(t *testing.T) {
	good := (&request{ID: 1, Op: opDecrypt, AAD: []byte("a"), Sealed: &hsm.Sealed{Mechanism: hsm.XAES256GCM, IV: make([]byte, 24), Ciphertext: make([]byte, 17)}}).appendBinary(nil)
	if err := new(request).parseBinary(good); err != nil {
		t.Fatal(err)
	}
	for n := range good {
		if err := new(request).parseBinary(good[:n]); !errors.Is(err, errFrame) {
			t.Errorf("cut after %d: %v", n, err)
		}
	}
	for at, c := range map[int]byte{0: 9, 29: 0xff, 34: 3, 35: 200} { // kind, length of the AAD, mechanism, length of the IV
		bad := bytes.Clone(good)
		bad[at] = c
		if err := new(request).parseBinary(bad); !errors.Is(err, errFrame) {
			t.Errorf("byte %d is %d: %v", at, c, err)
		}
	}
	if err := new(request).parseBinary(append(good, 0)); !errors.Is(err, errFrame) {
		t.Errorf("one byte more: %v", err)
	}
	if err := new(reply).parseBinary(good); !errors.Is(err, errFrame) {
		t.Errorf("a request as a reply: %v", err)
	}
}

// TestFramesWiped: what was read or is to be sent does not stay in buffers, whether they move or grow.
func TestFramesWiped(t *testing.T) {
	secret := bytes.Repeat([]byte("secret!"), 700)
	var all []byte
	for i := range 9 { // more than one buffer takes
		all = append(all, frame(t, &reply{ID: uint64(i)}, secret)...)
	}
	in := frames{r: bytes.NewReader(all)}
	var buffers [][]byte
	for i := range 9 {
		var rep reply
		got, err := in.next(&rep)
		if err != nil || rep.ID != uint64(i) || !bytes.Equal(got, secret) {
			t.Fatalf("frame %d: %d, %v", i, rep.ID, err)
		}
		buffers = append(buffers, in.buf)
	}
	first, err := appendFrame(nil, &reply{}, secret)
	if err != nil {
		t.Fatal(err)
	}
	second, err := appendFrame(first, &reply{}, bytes.Repeat(secret, 1))
	if err != nil {
		t.Fatal(err)
	}
	if &first[0] != &second[0] {
		buffers = append(buffers, first)
	}
	for i, b := range buffers {
		if i != 8 && bytes.Contains(b, []byte("secret!")) && &b[0] != &in.buf[0] {
			t.Errorf("buffer %d holds a secret", i)
		}
	}
	if bytes.Contains(in.buf, []byte("secret!")) {
		t.Error("the last buffer holds a secret")
	}
}

// TestHeldReplies: a reply that waits for the next one goes with it, in one write, or by itself when that does not come.
func TestHeldReplies(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	r := replies{conn: theirs}
	r.hold(&reply{ID: 1}, []byte("one"))
	r.hold(&reply{ID: 2}, nil)
	in := frames{r: ours}
	for want := range uint64(2) {
		var rep reply
		if _, err := in.next(&rep); err != nil || rep.ID != want+1 {
			t.Fatalf("reply %d, %v", rep.ID, err)
		}
	}
	r.hold(&reply{ID: 3}, nil)
	done := make(chan error, 1)
	go func() { done <- r.send(&reply{ID: 4}, nil) }()
	for want := range uint64(2) {
		var rep reply
		if _, err := in.next(&rep); err != nil || rep.ID != want+3 {
			t.Fatalf("reply %d, %v", rep.ID, err)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
