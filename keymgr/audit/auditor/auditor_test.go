package auditor

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

func pair(t *testing.T) (*SecretKey, *Sealer) {
	t.Helper()
	k, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSealer(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return k, s
}

// TestSealAndOpen: what was sealed opens with the secret key, as it is written down, and with nothing else; no bit of it may be changed, nor the event that it belongs to.
func TestSealAndOpen(t *testing.T) {
	k, s := pair(t)
	again, err := ParseSecret(string(k.Text()) + "\n")
	if err != nil {
		t.Fatal(err)
	}
	o := NewOpener(again)
	body := []byte(`{"path":"/secret/name"`)
	text, err := s.Seal([]byte("x"), "id", body)
	if err != nil || text[0] != 'x' || bytes.Contains(text, body) {
		t.Fatalf("%q %v", text, err)
	}
	sealed := string(text[1:])
	if got, err := o.Open("id", sealed); err != nil || !bytes.Equal(got, body) {
		t.Fatalf("%q %v", got, err)
	}
	if _, err := o.Open("di", sealed); !errors.Is(err, ErrSealed) {
		t.Errorf("in another event: %v", err)
	}
	box, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 * len(box) {
		box[i/8] ^= 1 << (i % 8)
		if _, err := o.Open("id", base64.StdEncoding.EncodeToString(box)); !errors.Is(err, ErrSealed) {
			t.Fatalf("bit %d: %v", i, err)
		}
		box[i/8] ^= 1 << (i % 8)
	}
	for n := range len(box) {
		if _, err := o.Open("id", base64.StdEncoding.EncodeToString(box[:n])); !errors.Is(err, ErrSealed) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	other, _ := pair(t)
	if _, err := NewOpener(other).Open("id", sealed); !errors.Is(err, ErrSealed) {
		t.Errorf("with another key: %v", err)
	}
}

// TestSessions: no nonce comes twice, and a session that has sealed as much as it may is followed by another; an opener knows both.
func TestSessions(t *testing.T) {
	k, s := pair(t)
	o := NewOpener(k)
	seen := map[string]bool{}
	s.mu.next = maxEvents - 2
	for range 5 {
		text, err := s.Seal(nil, "id", []byte("body"))
		if err != nil {
			t.Fatal(err)
		}
		box, err := base64.StdEncoding.DecodeString(string(text))
		if err != nil {
			t.Fatal(err)
		}
		if head := string(box[:headSize]); seen[head] {
			t.Error("a session and nonce came twice")
		} else {
			seen[head] = true
		}
		if body, err := o.Open("id", string(text)); err != nil || string(body) != "body" {
			t.Errorf("%q %v", body, err)
		}
	}
	if n := len(o.mu.sessions); n != 2 {
		t.Errorf("%d sessions", n)
	}
}

// Of a key that is used nowhere else.
const (
	vectorSecret = "KMSFS-AUDITOR-SECRET-X25519:k8+oL3Xca52qn/1VysElKr5Db5Eq0lBnRUFpHWaluSo="
	vectorPublic = "kmsfs-auditor-x25519:kHbabsoKlUReAn4Bbo2oJ9nfV84i1VQajFydvt7x5EA="
	vectorSealed = "AfwHBCzqWM74E0hn4reo+YhihN/OUqESwZeEz8OhpbhRrSVxRuelahkAAAAAAAAAAAAAAAAQbYInUy58IW3g2c7moL/p+9kngSrFsnE="
)

// TestVector: what docs/FORMAT.md, section 14, says is what this program reads.
func TestVector(t *testing.T) {
	k, err := ParseSecret(vectorSecret)
	if err != nil || k.Public().String() != vectorPublic {
		t.Fatalf("%v", err)
	}
	if body, err := NewOpener(k).Open("0123", vectorSealed); err != nil || string(body) != "an event" {
		t.Errorf("%q %v", body, err)
	}
}

func TestParse(t *testing.T) {
	k, _ := pair(t)
	public, secret := k.Public().String(), string(k.Text())
	if p, err := ParsePublic(" " + public + "\n"); err != nil || p.String() != public {
		t.Errorf("%v %v", p, err)
	}
	for _, text := range []string{"", secret, public[1:], public[:len(public)-4], public + "AAAA", strings.ToUpper(public), publicPrefix + base64.StdEncoding.EncodeToString(make([]byte, keySize))} {
		if _, err := ParsePublic(text); !errors.Is(err, ErrKey) {
			t.Errorf("public %q: %v", text, err)
		}
	}
	for _, text := range []string{"", public, secret[1:], secret[:len(secret)-4]} {
		_, err := ParseSecret(text)
		if !errors.Is(err, ErrKey) || strings.Contains(err.Error(), secret[len(secret)-20:]) {
			t.Errorf("secret: %v", err)
		}
	}
}
