package seal

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

var (
	// ErrSeal: not a seal, or not one by the expected key.
	ErrSeal = errors.New("not a valid seal")
	// ErrFork: a head that does not contain the one before it.
	ErrFork = errors.New("the log does not contain its sealed head")
)

// namePrefix begins the name of every key that seals audit logs, and every origin.
const namePrefix = "kmsfs/audit/"

// maxStream bounds the name of a stream, in bytes.
const maxStream = 64

// Head is a state of one stream.
type Head struct {
	KeyStore string // id of the key store, 32 hex digits
	Stream   string
	Size     int64 // number of records
	Root     tlog.Hash
}

// ValidStream says whether s may name a stream: lower-case letters, digits, '-' and '.', and no '.' in front.
func ValidStream(s string) bool {
	return s != "" && len(s) <= maxStream && s[0] != '.' && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-.") == ""
}

// KeyName is the name under which the key store's key signs.
func KeyName(keyStore string) string { return namePrefix + keyStore }

// Text is what is signed.
func (h Head) Text() string {
	return fmt.Sprintf("%s%s/%s\n%d\n%s\n", namePrefix, h.KeyStore, h.Stream, h.Size, h.Root)
}

// parseHead is the inverse of Text.
func parseHead(text string) (h Head, err error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return h, ErrSeal
	}
	origin, ok := strings.CutPrefix(lines[0], namePrefix)
	if h.KeyStore, h.Stream, _ = strings.Cut(origin, "/"); !ok || !ValidStream(h.Stream) {
		return h, ErrSeal
	}
	if h.Size, err = strconv.ParseInt(lines[1], 10, 64); err != nil || h.Size < 0 {
		return h, ErrSeal
	}
	if h.Root, err = tlog.ParseHash(lines[2]); err != nil || h.Text() != text {
		return h, ErrSeal
	}
	return h, nil
}

// Sign makes a seal; sign is asked for the signature of its argument by key, as hsm.Signer makes them.
func (h Head) Sign(key PublicKey, sign func(message []byte) ([]byte, error)) ([]byte, error) {
	v, err := key.verifier()
	if err != nil {
		return nil, err
	}
	msg, err := note.Sign(&note.Note{Text: h.Text()}, signer{v, sign})
	if err != nil {
		return nil, fmt.Errorf("seal %s at %d: %w", h.Stream, h.Size, err)
	}
	return msg, nil
}

// Open checks a seal and returns its head. ErrSeal if it is not one by key.
func Open(seal []byte, key PublicKey) (Head, error) {
	v, err := key.verifier()
	if err != nil {
		return Head{}, err
	}
	n, err := note.Open(seal, note.VerifierList(v))
	if err != nil {
		return Head{}, fmt.Errorf("%w: %w", ErrSeal, err)
	}
	h, err := parseHead(n.Text)
	if err == nil && KeyName(h.KeyStore) != key.Name {
		err = fmt.Errorf("%w: of key store %.40q, signed by %.40q", ErrSeal, h.KeyStore, key.Name)
	}
	return h, err
}

// Claim says that head New contains head Old, and proves it.
type Claim struct {
	Stream string
	From   int64 // size of the old head
	Size   int64
	Root   tlog.Hash
	Proof  tlog.TreeProof // empty if From is 0 or Size
	Clean  bool           // the stream ends here until it is opened again
}

// Check is nil if the claimed head contains old, which is the zero Head where there is none yet. ErrFork.
func (c Claim) Check(old Head) error {
	switch {
	case !ValidStream(c.Stream) || c.Size < 0 || c.From != old.Size:
		return fmt.Errorf("%w: stream %.40q from %d to %d, the anchored head is at %d", ErrFork, c.Stream, c.From, c.Size, old.Size)
	case old.Size == 0 && len(c.Proof) == 0:
		return nil
	case c.Size == old.Size && c.Root == old.Root && len(c.Proof) == 0:
		return nil
	case c.Size <= old.Size || old.Size == 0:
		return fmt.Errorf("%w: stream %s is at %d, offered is %d", ErrFork, c.Stream, old.Size, c.Size)
	}
	if err := tlog.CheckTree(c.Proof, c.Size, c.Root, old.Size, old.Root); err != nil {
		return fmt.Errorf("%w: stream %s from %d to %d: %w", ErrFork, c.Stream, old.Size, c.Size, err)
	}
	return nil
}

// Anchor is what the key store keeps of a stream, where nobody else can change it: the newest head that it sealed.
type Anchor struct {
	Head
	Clean    bool   // the stream was closed there
	Archived int64  // records before this one were taken away by the owner
	Seal     []byte // of the head
	Accepted []Accepted
}

// Accepted is a sealed head that the owner gave up, because the log did not contain it any more.
type Accepted struct {
	Size   int64
	Root   tlog.Hash
	Time   time.Time
	Reason string
}
