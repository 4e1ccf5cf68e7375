package blockcrypt

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// hexBytes is a byte string written as hexadecimal digits in a vector file.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

func (h hexBytes) key(t *testing.T) *Key {
	t.Helper()
	k, err := KeyFromBytes(h)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// vector is the union of the fields of all classes of vectors.
type vector struct {
	Name, Outcome, Label, Kind string

	Secret, Context, Key, Commitment hexBytes

	DEK       hexBytes
	Volume    hexBytes
	Inode     uint64
	Epoch     uint32
	BlockSize int      `json:"block_size"`
	BlockKey  hexBytes `json:"block_key"`
	Index     uint64

	Plain        hexBytes
	PlainPattern int `json:"plain_pattern"`
	Ciphertext   hexBytes
	CipherSHA256 hexBytes `json:"ciphertext_sha256"`
	Nonce, AAD   hexBytes
	Tag          hexBytes
	CRC          uint32
	Codec        uint8
	StandsFor    uint32 `json:"stands_for"`

	K1, Subkey, Sealed hexBytes
	RowKey             hexBytes `json:"row_key"`
	Value, Wrap        hexBytes
	Zone, Parent       uint64
	NameTag            hexBytes `json:"name_tag"`
}

func (v *vector) volume() VolumeID { return VolumeID(v.Volume) }

// loadVectors reads a class of vectors into cases. A missing or empty class,
// and one that cannot tell success from failure, fails the test.
func loadVectors[T any](t *testing.T, class string) []T {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", class+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []T
	if err := json.Unmarshal(b, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) < 5 {
		t.Fatalf("class %s has only %d vectors", class, len(cases))
	}
	return cases
}

// eachVector runs f, which returns what a reader reports, for every vector of
// a class, and compares that with the expected outcome.
func eachVector(t *testing.T, class string, f func(t *testing.T, v *vector) error) {
	for _, v := range loadVectors[vector](t, class) {
		t.Run(v.Name, func(t *testing.T) {
			checkOutcome(t, f(t, &v), v.Outcome)
		})
	}
}

func checkOutcome(t *testing.T, err error, want string) {
	t.Helper()
	got := "other: "
	switch {
	case err == nil:
		got = "ok"
	case errors.Is(err, ErrCommitment):
		got = "commitment"
	case errors.Is(err, ErrAuth):
		got = "auth"
	case errors.Is(err, ErrShort):
		got = "short"
	case errors.Is(err, ErrFormat):
		got = "format"
	case errors.Is(err, ErrSize):
		got = "size"
	}
	if got != want {
		t.Errorf("outcome %s (%v), want %s", got, err, want)
	}
}

func same(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s:\n got %x\nwant %x", what, got, want)
	}
}

// TestVectorsReproduce runs the independent script again, where its library is
// installed, and compares: the files must be what the script writes.
func TestVectorsReproduce(t *testing.T) {
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import cryptography").Run(); err != nil {
		t.Skip("python3-cryptography is not installed: vectors are not written anew")
	}
	dir := t.TempDir()
	if out, err := exec.Command(python, "testdata/vectors.py", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) != 11 {
		t.Fatalf("%d vector files, %v", len(files), err)
	}
	for _, file := range files {
		old, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		fresh, err := os.ReadFile(filepath.Join(dir, filepath.Base(file)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(old, fresh) {
			t.Errorf("%s is not what vectors.py writes", file)
		}
	}
}

func TestVectorsDerive(t *testing.T) {
	eachVector(t, "derive", func(t *testing.T, v *vector) error {
		k, err := DeriveKey(v.Secret.key(t), v.Label, v.Context)
		if err == nil {
			same(t, "key", k[:], v.Key)
		}
		return err
	})
}

func TestVectorsCommitment(t *testing.T) {
	eachVector(t, "commitment", func(t *testing.T, v *vector) error {
		return VerifyCommitment(v.Key.key(t), v.Label, v.Context, [CommitmentSize]byte(v.Commitment))
	})
}

// TestHierarchy ties the named derivations to the labels of the vectors.
func TestHierarchy(t *testing.T) {
	byName := map[string]vector{}
	for _, v := range append(loadVectors[vector](t, "derive"), loadVectors[vector](t, "commitment")...) {
		byName[v.Name] = v
	}
	volume := VolumeID(byName["superblock mac key"].Context)
	derived := map[string]func(*Key) (*Key, error){
		"superblock mac key":            func(k *Key) (*Key, error) { return SuperblockMACKey(k, volume) },
		"volume seal key":               func(k *Key) (*Key, error) { return VolumeSealKey(k, volume) },
		"zone wrap key":                 func(k *Key) (*Key, error) { return ZoneWrapKey(k, volume, 1) },
		"zone wrap key of another zone": func(k *Key) (*Key, error) { return ZoneWrapKey(k, volume, 1<<64-1) },
		"names seal key":                func(k *Key) (*Key, error) { return NamesSealKey(k, volume, 1) },
		"names hash key":                func(k *Key) (*Key, error) { return NamesHashKey(k, volume, 1) },
		"journal segment key": func(k *Key) (*Key, error) {
			salt := [16]byte(byName["journal segment key"].Context[16:])
			return JournalSegmentKey(k, volume, salt, 7)
		},
	}
	for name, derive := range derived {
		v := byName[name]
		k, err := derive(v.Secret.key(t))
		if err != nil {
			t.Fatal(err)
		}
		same(t, name, k[:], v.Key)
	}
	v := byName["volume key"]
	c := VolumeCommitment(v.Key.key(t), volume)
	same(t, v.Name, c[:], v.Commitment)
	v = byName["zone key"]
	c = ZoneCommitment(v.Key.key(t), volume, 1)
	same(t, v.Name, c[:], v.Commitment)
}

// cipherOf builds the cipher of a vector and checks the commitment.
func cipherOf(t *testing.T, v *vector) (*BlockCipher, error) {
	t.Helper()
	id := FileID{Volume: v.volume(), Inode: v.Inode, Epoch: v.Epoch}
	c, err := NewBlockCipher(v.DEK.key(t), id, v.BlockSize, SuiteAES256GCM)
	if err != nil {
		return nil, err
	}
	if v.Outcome == "ok" {
		key, _, err := deriveBlockKey(v.DEK.key(t), id, SuiteAES256GCM)
		if err != nil {
			return nil, err
		}
		same(t, "block key", key[:], v.BlockKey)
	}
	return c, c.Verify([CommitmentSize]byte(v.Commitment))
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(7*i + i/256)
	}
	return b
}

func TestVectorsBlock(t *testing.T) {
	eachVector(t, "block", func(t *testing.T, v *vector) error {
		c, err := cipherOf(t, v)
		if err != nil {
			return err
		}
		plain, ciphertext := []byte(v.Plain), []byte(v.Ciphertext)
		if v.PlainPattern > 0 {
			plain = pattern(v.PlainPattern)
		}
		if v.Outcome == "ok" {
			same(t, "aad", c.aad(nil, kindBlock, v.Index, len(plain)), v.AAD)
			out := NewBuffer(len(plain))
			sealed := c.seal(new(blockScratch), out, plain, v.Nonce, c.aad(nil, kindBlock, v.Index, len(plain)))
			same(t, "tag", sealed.Tag[:], v.Tag)
			if sealed.CRC != v.CRC {
				t.Errorf("crc %08x, want %08x", sealed.CRC, v.CRC)
			}
			if v.PlainPattern > 0 {
				sum := sha256.Sum256(out)
				same(t, "hash of the ciphertext", sum[:], v.CipherSHA256)
				ciphertext = out
			}
			same(t, "ciphertext", out, ciphertext)
		}
		got := make([]byte, len(ciphertext))
		sealed := Sealed{Nonce: [NonceSize]byte(v.Nonce), Tag: [TagSize]byte(v.Tag), CRC: v.CRC}
		if err := c.Open(got, ciphertext, v.Index, sealed); err != nil {
			return err
		}
		same(t, "plaintext", got, plain)
		return nil
	})
}

func TestVectorsInline(t *testing.T) {
	eachVector(t, "inline", func(t *testing.T, v *vector) error {
		c, err := cipherOf(t, v)
		if err != nil {
			return err
		}
		if v.Outcome == "ok" {
			same(t, "aad", c.aad(nil, kindInline, 0, len(v.Plain)), v.AAD)
			same(t, "sealed", c.sealInline(append([]byte(nil), v.Sealed[:NonceSize]...), v.Plain), v.Sealed)
		}
		got, err := c.OpenInline(nil, v.Sealed)
		if err == nil {
			same(t, "plaintext", got, v.Plain)
		}
		return err
	})
}

func TestVectorsCoded(t *testing.T) {
	eachVector(t, "coded", func(t *testing.T, v *vector) error {
		c, err := cipherOf(t, v)
		if err != nil {
			return err
		}
		kind, coding := byte(kindCodedBlock), Coding{v.Codec, v.StandsFor}
		if v.Kind == "inline" {
			kind = kindCodedInline
		}
		if v.Outcome == "ok" {
			aad := c.codedAAD(nil, kind, v.Index, len(v.Plain), coding)
			same(t, "aad", aad, v.AAD)
			out := NewBuffer(len(v.Plain))
			sealed := c.seal(new(blockScratch), out, v.Plain, v.Nonce, aad)
			same(t, "ciphertext and tag", append(out, sealed.Tag[:]...), append(v.Ciphertext, v.Tag...))
			if sealed.CRC != v.CRC {
				t.Errorf("crc %08x, want %08x", sealed.CRC, v.CRC)
			}
		}
		var got []byte
		if kind == kindCodedInline {
			got, err = c.OpenInlineCoded(nil, append(append(append([]byte(nil), v.Nonce...), v.Ciphertext...), v.Tag...), coding)
		} else {
			got = make([]byte, len(v.Ciphertext))
			err = c.OpenCoded(got, v.Ciphertext, v.Index, Sealed{Nonce: [NonceSize]byte(v.Nonce), Tag: [TagSize]byte(v.Tag)}, coding)
		}
		if err == nil {
			same(t, "plaintext", got, v.Plain)
		}
		return err
	})
}

// TestCoded: what is sealed as compressed opens as such, in place too, and as nothing else.
func TestCoded(t *testing.T) {
	dek, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewBlockCipher(dek, FileID{Inode: 3, Epoch: 1}, 65536, SuiteAES256GCM)
	if err != nil {
		t.Fatal(err)
	}
	coded, coding := pattern(5000), Coding{2, 65536}
	stored := make([]byte, len(coded))
	sealed, err := c.SealCoded(stored, coded, 4, coding)
	if err != nil {
		t.Fatal(err)
	}
	checkOutcome(t, c.Open(make([]byte, len(coded)), stored, 4, sealed), "auth")
	checkOutcome(t, c.OpenCoded(make([]byte, len(coded)), stored, 4, sealed, Coding{2, 65535}), "auth")
	checkOutcome(t, c.OpenCoded(stored, stored, 4, sealed, coding), "ok")
	same(t, "in place", stored, coded)
	in, err := c.SealInlineCoded(coded, coding)
	checkOutcome(t, err, "ok")
	_, err = c.OpenInline(nil, in)
	checkOutcome(t, err, "auth")
	out, err := c.OpenInlineCoded([]byte("x"), in, coding)
	checkOutcome(t, err, "ok")
	same(t, "inline", out, append([]byte("x"), coded...))
	for _, bad := range []Coding{{0, 65536}, {1, 5000}, {1, 65537}} {
		_, err := c.SealCoded(stored, coded, 4, bad)
		checkOutcome(t, err, "size")
		_, err = c.SealInlineCoded(coded, bad)
		checkOutcome(t, err, "size")
	}
}

func TestVectorsXAES(t *testing.T) {
	eachVector(t, "xaes", func(t *testing.T, v *vector) error {
		s, err := NewSealer(v.Key.key(t))
		if err != nil {
			return err
		}
		if v.Outcome == "ok" {
			same(t, "k1", s.k1[:], v.K1)
			nonce := [SealNonceSize]byte(v.Sealed)
			same(t, "sealed", sealWith(t, s, nonce, v.Plain, v.AAD), v.Sealed)
		}
		got, err := s.Open(nil, v.Sealed, v.AAD)
		if err == nil {
			same(t, "plaintext", got, v.Plain)
		}
		return err
	})
}

func TestVectorsRow(t *testing.T) {
	eachVector(t, "row", func(t *testing.T, v *vector) error {
		s, err := NewSealer(v.Key.key(t))
		if err != nil {
			return err
		}
		aad := RowAAD(v.volume(), v.RowKey)
		if v.Outcome == "ok" {
			same(t, "aad", aad, v.AAD)
		}
		got, err := s.Open(nil, v.Sealed, aad)
		if err == nil {
			same(t, "value", got, v.Value)
		}
		return err
	})
}

func TestVectorsWrap(t *testing.T) {
	eachVector(t, "wrap", func(t *testing.T, v *vector) error {
		s, err := NewSealer(v.Key.key(t))
		if err != nil {
			return err
		}
		aad := NamesKeyAAD(v.volume(), v.Zone)
		if v.Kind == "dek" {
			aad = Place{v.volume(), v.Zone, v.Parent, [16]byte(v.NameTag), v.Inode, v.Epoch}.AAD()
		}
		if v.Outcome == "ok" {
			same(t, "aad", aad, v.AAD)
		}
		k, err := s.Unwrap(v.Wrap, aad)
		if err == nil {
			same(t, "key", k[:], v.Secret)
		}
		return err
	})
}

func TestVectorsName(t *testing.T) {
	type nameVector struct {
		Name, Outcome  string
		Key, Text, Tag hexBytes
		Kind           byte
		Parent         uint64
	}
	for _, v := range loadVectors[nameVector](t, "name") {
		tag := NewNameHasher(v.Key.key(t)).Tag(v.Kind, v.Parent, v.Text)
		same(t, v.Name, tag[:], v.Tag)
	}
}

func TestVectorsObjectID(t *testing.T) {
	type idVector struct {
		Name, Outcome, ID string
		Key               hexBytes
		Inode, Serial     uint64
	}
	for _, v := range loadVectors[idVector](t, "objectid") {
		t.Run(v.Name, func(t *testing.T) {
			namer, err := NewObjectNamer(v.Key.key(t))
			if err != nil {
				t.Fatal(err)
			}
			id, err := ParseObjectID(v.ID)
			checkOutcome(t, err, v.Outcome)
			if err != nil {
				return
			}
			if got := namer.ID(v.Inode, v.Serial); got != id || got.String() != v.ID {
				t.Errorf("id %s, want %s", got, v.ID)
			}
			if inode, serial := namer.Parse(id); inode != v.Inode || serial != v.Serial {
				t.Errorf("parsed inode %d serial %d", inode, serial)
			}
		})
	}
}

func TestVectorsContext(t *testing.T) {
	type contextVector struct {
		Name, Outcome string
		Context       map[string]string
		Encoding      hexBytes
	}
	for _, v := range loadVectors[contextVector](t, "context") {
		t.Run(v.Name, func(t *testing.T) {
			parsed, err := ParseContext(v.Encoding)
			checkOutcome(t, err, v.Outcome)
			if v.Outcome != "ok" {
				return
			}
			got, err := EncodeContext(v.Context)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "encoding", got, v.Encoding)
			if len(parsed) != len(v.Context) {
				t.Errorf("parsed %q", parsed)
			}
			for k, want := range v.Context {
				if got, ok := parsed[k]; !ok || got != want {
					t.Errorf("parsed %q", parsed)
				}
			}
		})
	}
}
