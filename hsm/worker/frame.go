package worker

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"

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

// writeFrame sends one frame: u32 length of the head, u32 length of the secret,
// head, secret. The secret is sent from where it is, without a copy.
func writeFrame(w io.Writer, head any, secret []byte) error {
	h, err := json.Marshal(head)
	if err != nil {
		return fmt.Errorf("encode a frame: %w", err)
	}
	if len(h) > maxHead || len(secret) > maxSecret {
		return fmt.Errorf("%w: head of %d and secret of %d bytes", errFrame, len(h), len(secret))
	}
	start := make([]byte, 8, 8+len(h))
	binary.BigEndian.PutUint32(start, uint32(len(h)))
	binary.BigEndian.PutUint32(start[4:], uint32(len(secret)))
	bufs := net.Buffers{append(start, h...)}
	if len(secret) > 0 {
		bufs = append(bufs, secret)
	}
	_, err = bufs.WriteTo(w)
	return err
}

// readFrame reads one frame into head and returns its secret, which the caller
// wipes. io.EOF if there is no further frame.
func readFrame(r io.Reader, head any) (secret []byte, err error) {
	var lens [8]byte
	if _, err := io.ReadFull(r, lens[:]); err != nil {
		return nil, err
	}
	nh, ns := binary.BigEndian.Uint32(lens[:]), binary.BigEndian.Uint32(lens[4:])
	if nh > maxHead || ns > maxSecret {
		return nil, fmt.Errorf("%w: head of %d and secret of %d bytes", errFrame, nh, ns)
	}
	buf := make([]byte, nh)
	if _, err := io.ReadFull(r, buf); err != nil {
		return nil, fmt.Errorf("%w: %w", errFrame, err)
	}
	if err := json.Unmarshal(buf, head); err != nil {
		return nil, fmt.Errorf("%w: %w", errFrame, err)
	}
	if ns == 0 {
		return nil, nil
	}
	secret = make([]byte, ns)
	if _, err := io.ReadFull(r, secret); err != nil {
		clear(secret)
		return nil, fmt.Errorf("%w: %w", errFrame, err)
	}
	return secret, nil
}
