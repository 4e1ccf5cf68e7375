package auditor

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hpke"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"sync"
)

// What HPKE and its exporter are told, so that nothing else can be made of the same keys.
const (
	info       = "kmsfs/audit/auditor/1"
	exportName = "event key"
)

const (
	version   = 1
	nonceSize = 12
	headSize  = 1 + idSize + keySize + nonceSize
	maxEvents = 1 << 32 // of one session
)

// suite is the rest of HPKE's: nothing is sealed by itself, its exporter gives the key.
func suite() (hpke.KDF, hpke.AEAD) { return hpke.HKDFSHA256(), hpke.ExportOnly() }

func gcm(key []byte) (cipher.AEAD, error) {
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// newSession makes a key that only the auditor can find out from enc.
func newSession(to PublicKey) (enc []byte, aead cipher.AEAD, err error) {
	pub, err := to.hpke()
	if err != nil {
		return nil, nil, err
	}
	kdf, mode := suite()
	enc, sender, err := hpke.NewSender(pub, kdf, mode, []byte(info))
	if err != nil {
		return nil, nil, fmt.Errorf("seal to an auditor: %w", err)
	}
	key, err := sender.Export(exportName, keySize)
	if err != nil {
		return nil, nil, fmt.Errorf("seal to an auditor: %w", err)
	}
	aead, err = gcm(key)
	return enc, aead, err
}

// Sealer seals events to one auditor.
type Sealer struct {
	to PublicKey
	mu struct {
		sync.Mutex
		enc  []byte
		aead cipher.AEAD
		next uint64 // nonce
	}
}

// NewSealer begins a session.
func NewSealer(to PublicKey) (*Sealer, error) {
	s := &Sealer{to: to}
	return s, s.begin()
}

// begin begins a session. The caller holds mu, or is alone.
func (s *Sealer) begin() (err error) {
	s.mu.enc, s.mu.aead, err = newSession(s.to)
	s.mu.next = 0
	return err
}

// Seal appends body, sealed and in base64, to b. id is the event's, and has to be given to open it.
func (s *Sealer) Seal(b []byte, id string, body []byte) ([]byte, error) {
	s.mu.Lock()
	if s.mu.next == maxEvents {
		if err := s.begin(); err != nil {
			s.mu.Unlock()
			return b, err
		}
	}
	enc, aead, n := s.mu.enc, s.mu.aead, s.mu.next
	s.mu.next++
	s.mu.Unlock()
	box := make([]byte, 0, headSize+len(body)+aead.Overhead())
	box = append(box, version)
	box = append(box, s.to.id[:]...)
	box = append(box, enc...)
	box = binary.BigEndian.AppendUint64(append(box, 0, 0, 0, 0), n)
	box = aead.Seal(box, box[headSize-nonceSize:headSize], body, []byte(id))
	return base64.StdEncoding.AppendEncode(b, box), nil
}

// Opener opens what was sealed to one auditor. It remembers the keys of sessions.
type Opener struct {
	key *SecretKey
	mu  struct {
		sync.Mutex
		sessions map[[keySize]byte]cipher.AEAD
	}
}

// maxSessions bounds the keys that an opener remembers.
const maxSessions = 1024

// NewOpener makes an opener.
func NewOpener(key *SecretKey) *Opener { return &Opener{key: key} }

// Open gives the body of a sealed event. ErrSealed.
func (o *Opener) Open(id, text string) ([]byte, error) {
	box, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(box) < headSize || box[0] != version {
		return nil, fmt.Errorf("%w: event %.40q", ErrSealed, id)
	}
	rest := box[1:]
	if to := keyID(rest[:idSize]); to != o.key.id {
		return nil, fmt.Errorf("%w: event %.40q is sealed to the key %x, this is %x", ErrSealed, id, to, o.key.id)
	}
	aead, err := o.session([keySize]byte(rest[idSize : idSize+keySize]))
	if err != nil {
		return nil, fmt.Errorf("%w: event %.40q: %w", ErrSealed, id, err)
	}
	body, err := aead.Open(nil, box[headSize-nonceSize:headSize], box[headSize:], []byte(id))
	if err != nil {
		return nil, fmt.Errorf("%w: event %.40q", ErrSealed, id)
	}
	return body, nil
}

// session is the key of a session.
func (o *Opener) session(enc [keySize]byte) (cipher.AEAD, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if aead := o.mu.sessions[enc]; aead != nil {
		return aead, nil
	}
	priv, err := hpke.NewDHKEMPrivateKey(o.key.key)
	if err != nil {
		return nil, err
	}
	kdf, mode := suite()
	r, err := hpke.NewRecipient(enc[:], priv, kdf, mode, []byte(info))
	if err != nil {
		return nil, err
	}
	key, err := r.Export(exportName, keySize)
	if err != nil {
		return nil, err
	}
	aead, err := gcm(key)
	if err != nil {
		return nil, err
	}
	if o.mu.sessions == nil || len(o.mu.sessions) >= maxSessions {
		o.mu.sessions = map[[keySize]byte]cipher.AEAD{}
	}
	o.mu.sessions[enc] = aead
	return aead, nil
}
