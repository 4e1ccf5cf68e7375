package worker

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/kmsfs/kmsfs/hsm"
)

// Limits of a frame, in bytes. The largest head is a request with an AAD of
// hsm.MaxAAD and a ciphertext of hsm.MaxCiphertext in base64.
const (
	maxHead   = 64 << 10
	maxSecret = 8 << 10
	maxError  = 2 << 10 // of an error's text
)

var errFrame = errors.New("malformed frame")

// Operations.
const (
	opOpen     = "open" // first request of a process, secret: the PIN
	opGenerate = "generate"
	opFind     = "find"
	opEncrypt  = "encrypt" // secret: the plaintext
	opDecrypt  = "decrypt" // secret of the reply: the plaintext
	opDestroy  = "destroy"
	opInfo     = "info"
	opImport   = "import" // secret: the key

	opNote    = "note"
	opPutNote = "putNote" // message: the note

	opGenerateSigning = "generateSigning"
	opFindSigning     = "findSigning"
	opSign            = "sign"
	opDestroySigning  = "destroySigning"
)

// request is the head of a frame to the worker.
type request struct {
	ID      uint64
	Op      string
	Timeout int64 // milliseconds
	Key     hsm.KeyID
	Label   string      `json:",omitempty"`
	AAD     []byte      `json:",omitempty"`
	Sealed  *hsm.Sealed `json:",omitempty"`
	Open    *openHead   `json:",omitempty"`
	Message []byte      `json:",omitempty"` // to be signed, or the note
}

// openHead is OpenConfig as it travels: the PIN is the frame's secret.
type openHead struct {
	Module, TokenLabel, Serial string
	Initialize                 bool
	MaxSessions                int
	CallTimeout, OpenTimeout   int64 // milliseconds
}

// reply is the head of a frame from the worker.
type reply struct {
	ID     uint64
	Code   string       `json:",omitempty"` // "" is success
	Error  string       `json:",omitempty"`
	Key    *hsm.KeyInfo `json:",omitempty"`
	Sealed *hsm.Sealed  `json:",omitempty"`
	Info   *hsm.Info    `json:",omitempty"`

	Note []byte `json:",omitempty"`

	Signing   *hsm.SigningKey `json:",omitempty"`
	Signature []byte          `json:",omitempty"`
}

// head is what a frame says beside its secret: a request or a reply. It is JSON, but for what every use of a key needs.
type head interface {
	// binarySize is the length of the binary form; 0 if there is none of what the head says.
	binarySize() int
	appendBinary(b []byte) []byte
	// parseBinary reads it; what it keeps is copied.
	parseBinary(data []byte) error
}

// appendFrame appends one frame: u32 length of the head, u32 length of the secret,
// head, secret. The caller wipes it when it is sent.
func appendFrame(b []byte, h head, secret []byte) ([]byte, error) {
	var text []byte
	n := h.binarySize()
	if n == 0 {
		var err error
		if text, err = json.Marshal(h); err != nil {
			return b, fmt.Errorf("encode a frame: %w", err)
		}
		n = len(text)
	}
	if n > maxHead || len(secret) > maxSecret {
		return b, fmt.Errorf("%w: head of %d and secret of %d bytes", errFrame, n, len(secret))
	}
	b = room(b, 8+n+len(secret))
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	b = binary.BigEndian.AppendUint32(b, uint32(len(secret)))
	if text != nil {
		b = append(b, text...)
	} else {
		b = h.appendBinary(b)
	}
	return append(b, secret...), nil
}

// room makes room for n bytes behind b. What it moves is wiped where it was.
func room(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	grown := append(make([]byte, 0, 2*(len(b)+n)), b...)
	clear(b)
	return grown
}

// frames reads frames from a connection, all that are there at once. What is read is wiped here when it is taken.
type frames struct {
	r       io.Reader
	buf     []byte
	at, end int // what is read and not taken
}

const framesBuffer = 16 << 10

// next reads one frame into h and returns its secret, which the caller
// wipes. io.EOF if there is no further frame.
func (f *frames) next(h head) (secret []byte, err error) {
	lens, err := f.peek(8)
	if err != nil {
		return nil, err
	}
	nh, ns := binary.BigEndian.Uint32(lens), binary.BigEndian.Uint32(lens[4:])
	if nh > maxHead || ns > maxSecret {
		return nil, fmt.Errorf("%w: head of %d and secret of %d bytes", errFrame, nh, ns)
	}
	frame, err := f.peek(8 + int(nh) + int(ns))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errFrame, err)
	}
	defer clear(frame)
	f.at += len(frame)
	text := frame[8 : 8+nh]
	if len(text) > 0 && text[0] != '{' {
		err = h.parseBinary(text)
	} else {
		err = json.Unmarshal(text, h)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errFrame, err)
	}
	if ns == 0 {
		return nil, nil
	}
	return bytes.Clone(frame[8+nh:]), nil
}

// peek gives the next n bytes without taking them. io.EOF if there is not one of them.
func (f *frames) peek(n int) ([]byte, error) {
	if f.at+n > len(f.buf) {
		f.makeRoom(n)
	}
	for f.end-f.at < n {
		got, err := f.r.Read(f.buf[f.end:])
		f.end += got
		if err != nil && f.end-f.at < n {
			if f.end > f.at && errors.Is(err, io.EOF) {
				err = fmt.Errorf("%w: %w", errFrame, io.ErrUnexpectedEOF)
			}
			return nil, err
		}
	}
	return f.buf[f.at : f.at+n], nil
}

// makeRoom moves what is not taken to the start of the buffer, or of one in which n bytes have room.
func (f *frames) makeRoom(n int) {
	old, buf := f.buf, f.buf
	if n > len(buf) {
		buf = make([]byte, max(n, framesBuffer))
	}
	at, end := f.at, f.end
	f.at, f.end = 0, copy(buf, old[at:end])
	f.buf = buf
	if n > len(old) {
		clear(old)
	} else {
		clear(buf[f.end:end])
	}
}
