package superblock

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/blockcrypt"
)

// sample makes a superblock under a fixed key.
func sample(t testing.TB) (*Superblock, *blockcrypt.Key) {
	t.Helper()
	key := &blockcrypt.Key{1, 2, 3}
	s, err := New(blockcrypt.VolumeID{9, 8, 7}, key, [][]byte{[]byte("a blob"), []byte("another")}, time.Unix(1_700_000_000, 5))
	if err != nil {
		t.Fatal(err)
	}
	return s, key
}

func marshal(t testing.TB, s *Superblock) []byte {
	t.Helper()
	data, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestRoundTrip(t *testing.T) {
	s, key := sample(t)
	dir := t.TempDir()
	if _, _, err := Read(dir); !errors.Is(err, ErrMissing) {
		t.Fatalf("empty directory: %v", err)
	}
	for range 2 { // the second time replaces
		if err := Write(dir, marshal(t, s)); err != nil {
			t.Fatal(err)
		}
	}
	got, raw, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(raw, marshal(t, s)) || !bytes.Equal(raw, marshal(t, got)) {
		t.Fatal("bytes differ after a round trip")
	}
	a, err := s.Open(key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := got.Open(key)
	if err != nil {
		t.Fatal(err)
	}
	if *a.Rows != *b.Rows || *a.Objects != *b.Objects || *a.Journal != *b.Journal {
		t.Fatal("secrets differ after a round trip")
	}
	if *a.Rows == *a.Objects || *a.Objects == *a.Journal {
		t.Fatal("secrets are equal")
	}
}

// TestCanonical pins the bytes under the MAC.
func TestCanonical(t *testing.T) {
	s := &Superblock{Volume: blockcrypt.VolumeID{0xaa}, Created: time.Unix(0x01020304, 0), Revision: 0x0506, Features: []string{"f1", "g"},
		Wraps: [][]byte{{1, 2}}, Commitment: [32]byte{0xcc}, Sealed: []byte{5}}
	want := hex.EncodeToString([]byte("kmsfs superblock")) + "01" + "aa" + strings.Repeat("00", 15) + "0000000001020304" + "00000506" +
		"0002" + "0002" + "6631" + "0001" + "67" + "0001" + "0002" + "0102" + "cc" + strings.Repeat("00", 31) + "0001" + "05"
	if got := hex.EncodeToString(s.canonical()); got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

func TestWrongKey(t *testing.T) {
	s, _ := sample(t)
	if _, err := s.Open(&blockcrypt.Key{1, 2, 4}); !errors.Is(err, ErrAuth) {
		t.Fatalf("wrong key: %v", err)
	}
}

// TestEveryFieldAuthentic changes each field in turn; none may open.
func TestEveryFieldAuthentic(t *testing.T) {
	changes := map[string]func(*Superblock){
		"volume":     func(s *Superblock) { s.Volume[0] ^= 1 },
		"created":    func(s *Superblock) { s.Created = s.Created.Add(time.Second) },
		"features":   func(s *Superblock) { s.Features = []string{"x"} },
		"wraps":      func(s *Superblock) { s.Wraps = s.Wraps[:1] },
		"wrap order": func(s *Superblock) { s.Wraps[0], s.Wraps[1] = s.Wraps[1], s.Wraps[0] },
		"commitment": func(s *Superblock) { s.Commitment[31] ^= 1 },
		"secrets":    func(s *Superblock) { s.Sealed[50] ^= 1 },
		"mac":        func(s *Superblock) { s.MAC[0] ^= 1 },
	}
	for name, change := range changes {
		s, key := sample(t)
		change(s)
		if _, err := s.Open(key); !errors.Is(err, ErrAuth) {
			t.Errorf("%s changed: %v", name, err)
		}
	}
}

// TestEveryByte flips every byte of the file; the result is refused by Parse or by Open, or means the same (white space, letter case of a hex digit).
func TestEveryByte(t *testing.T) {
	s, key := sample(t)
	data := marshal(t, s)
	for i := range data {
		for _, bit := range []byte{0x01, 0x20, 0x80} {
			changed := bytes.Clone(data)
			changed[i] ^= bit
			got, err := Parse(changed)
			if err == nil {
				_, err = got.Open(key)
			}
			if err != nil {
				if !isClass(err) {
					t.Fatalf("byte %d: error without class: %v", i, err)
				}
				continue
			}
			if !bytes.Equal(marshal(t, got), data) {
				t.Fatalf("byte %d, bit %#x: opened with another content", i, bit)
			}
		}
	}
}

func isClass(err error) bool {
	for _, class := range []error{ErrDamaged, ErrVersion, ErrFeature, ErrAuth} {
		if errors.Is(err, class) {
			return true
		}
	}
	return false
}

func TestRefused(t *testing.T) {
	s, _ := sample(t)
	edit := func(key string, value any) []byte {
		var m map[string]any
		if err := json.Unmarshal(marshal(t, s), &m); err != nil {
			t.Fatal(err)
		}
		m[key] = value
		out, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"empty":            {nil, ErrDamaged},
		"not json":         {[]byte("kmsfs"), ErrDamaged},
		"truncated":        {marshal(t, s)[:100], ErrDamaged},
		"trailing":         {append(marshal(t, s), "{}"...), ErrDamaged},
		"too large":        {append(marshal(t, s), make([]byte, MaxFile)...), ErrDamaged},
		"other format":     {edit("format", "gocryptfs"), ErrDamaged},
		"unknown field":    {edit("module", "/tmp/evil.so"), ErrDamaged},
		"later version":    {edit("version", 2), ErrVersion},
		"version 0":        {edit("version", 0), ErrVersion},
		"unknown feature":  {edit("features", []string{"compression"}), ErrFeature},
		"double feature":   {edit("features", []string{"a", "a"}), ErrDamaged},
		"no wraps":         {edit("volume_key", []string{}), ErrDamaged},
		"many wraps":       {edit("volume_key", []string{"AA==", "AA==", "AA==", "AA==", "AA==", "AA=="}), ErrDamaged},
		"empty wrap":       {edit("volume_key", []string{""}), ErrDamaged},
		"wrap not base64":  {edit("volume_key", []string{"&"}), ErrDamaged},
		"zero volume":      {edit("volume", strings.Repeat("0", 32)), ErrDamaged},
		"short volume":     {edit("volume", "ab"), ErrDamaged},
		"bad time":         {edit("created", "yesterday"), ErrDamaged},
		"short commitment": {edit("commitment", "00"), ErrDamaged},
		"short secrets":    {edit("secrets", "AA=="), ErrDamaged},
	} {
		if _, err := Parse(c.data); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestReadHostile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	if err := os.Symlink("/etc/passwd", path); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Read(dir); !errors.Is(err, ErrDamaged) {
		t.Fatalf("symbolic link: %v", err)
	}
	os.Remove(path)
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Read(dir); !errors.Is(err, ErrDamaged) {
		t.Fatalf("directory: %v", err)
	}
	for _, special := range []uint32{unix.S_IFIFO, unix.S_IFSOCK} {
		if err := errors.Join(os.Remove(path), unix.Mknod(path, special|0o600, 0)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Read(dir); !errors.Is(err, ErrDamaged) {
			t.Fatalf("file of type %o: %v", special, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	s, _ := sample(f)
	f.Add(marshal(f, s))
	f.Add([]byte(`{"format":"kmsfs volume","version":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse(data)
		if err != nil {
			if !isClass(err) {
				t.Fatalf("error without class: %v", err)
			}
			return
		}
		again, err := Parse(marshal(t, s))
		if err != nil {
			t.Fatalf("own output refused: %v", err)
		}
		if !bytes.Equal(marshal(t, again), marshal(t, s)) {
			t.Fatal("not stable")
		}
	})
}
