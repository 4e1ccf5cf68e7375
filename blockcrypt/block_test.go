package blockcrypt

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
)

// newTestCipher returns the cipher of a fixed key.
func newTestCipher(t testing.TB, blockSize int) *BlockCipher {
	t.Helper()
	c, err := NewBlockCipher(&Key{1, 2, 3}, FileID{Volume: VolumeID{4}, Inode: 5, Epoch: 6}, blockSize, SuiteAES256GCM)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// randomBytes is deterministic in (seed, n).
func randomBytes(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(n), byte(n >> 8)})
	_, _ = r.Read(b)
	return b
}

var blockSizes = []int{MinBlockSize, 16 << 10, 64 << 10, MaxBlockSize}

func TestBlockEdgeSizes(t *testing.T) {
	for _, bs := range blockSizes {
		c := newTestCipher(t, bs)
		for _, n := range []int{1, 2, TagSize - 1, TagSize, TagSize + 1, bs/2 + 1, bs - 1, bs} {
			t.Run(fmt.Sprintf("%d of %d", n, bs), func(t *testing.T) {
				plain := randomBytes(1, n)
				before := bytes.Clone(plain)
				exact, roomy := make([]byte, n), NewBuffer(n)
				for _, dst := range [][]byte{exact, roomy} {
					sealed, err := c.Seal(dst, plain, 9)
					if err != nil {
						t.Fatal(err)
					}
					same(t, "input", plain, before)
					if n >= TagSize && bytes.Equal(dst, plain) {
						t.Error("not encrypted")
					}
					if sealed.CRC != Checksum(dst) {
						t.Error("crc is not the ciphertext's")
					}
					ciphertext := bytes.Clone(dst)
					got := make([]byte, n)
					if err := c.Open(got, dst, 9, sealed); err != nil {
						t.Fatal(err)
					}
					same(t, "plaintext", got, plain)
					same(t, "ciphertext after Open", dst, ciphertext)
					if err := c.Open(dst, dst, 9, sealed); err != nil {
						t.Fatal("in place:", err)
					}
					same(t, "plaintext in place", dst, plain)
				}
			})
		}
	}
}

func TestBlockRefusesSizes(t *testing.T) {
	const bs = MinBlockSize
	c := newTestCipher(t, bs)
	for _, n := range [][2]int{{0, 0}, {1, 2}, {2, 1}, {bs + 1, bs + 1}, {0, 1}, {1, 0}} {
		dst, src := make([]byte, n[0]), make([]byte, n[1])
		if _, err := c.Seal(dst, src, 0); !errors.Is(err, ErrSize) {
			t.Errorf("seal %v: %v", n, err)
		}
		if err := c.Open(dst, src, 0, Sealed{}); !errors.Is(err, ErrSize) {
			t.Errorf("open %v: %v", n, err)
		}
	}
	if _, err := c.OpenRun(make([]byte, bs+1), make([]byte, bs+1), 0, make([]Sealed, 1)); !errors.Is(err, ErrSize) {
		t.Errorf("too few entries: %v", err)
	}
	for _, bad := range []int{0, -4096, 1, 4095, 4097, 6000, 2 << 20} {
		if _, err := NewBlockCipher(&Key{}, FileID{}, bad, SuiteAES256GCM); !errors.Is(err, ErrSize) {
			t.Errorf("block size %d: %v", bad, err)
		}
	}
	for _, bad := range []Suite{0, 2, 255} {
		if _, err := NewBlockCipher(&Key{}, FileID{}, bs, bad); !errors.Is(err, ErrFormat) {
			t.Errorf("suite %d: %v", bad, err)
		}
	}
}

// runLengths are the edges of runs in bytes: below, at and above multiples of
// the block size, and more blocks than one batch of nonces.
func runLengths(bs int) []int {
	lengths := []int{1, bs - 1, bs, bs + 1, bs + TagSize - 1, bs + TagSize, 2*bs - 1, 2 * bs, 2*bs + 1, 7*bs + 5}
	if bs == MinBlockSize {
		lengths = append(lengths, 64*bs, 64*bs+1, 130*bs-1)
	}
	return lengths
}

func TestBlockRuns(t *testing.T) {
	for _, bs := range []int{MinBlockSize, 16 << 10, 64 << 10} {
		c := newTestCipher(t, bs)
		for _, n := range runLengths(bs) {
			t.Run(fmt.Sprintf("%d of %d", n, bs), func(t *testing.T) {
				plain := randomBytes(2, n)
				before := bytes.Clone(plain)
				for _, dst := range [][]byte{make([]byte, n), NewBuffer(n)} {
					sealed, err := c.SealRun(dst, plain, 3, nil)
					if err != nil {
						t.Fatal(err)
					}
					same(t, "input", plain, before)
					checkRun(t, c, dst, plain, sealed)
				}
			})
		}
	}
}

// checkRun opens a run that begins at block 3 in every supported way.
func checkRun(t *testing.T, c *BlockCipher, ciphertext, plain []byte, sealed []Sealed) {
	t.Helper()
	n, bs := len(plain), c.BlockSize()
	if want := int(BlockCount(uint64(n), bs)); len(sealed) != want {
		t.Fatalf("%d entries, want %d", len(sealed), want)
	}
	seen := map[[NonceSize]byte]bool{}
	for i, s := range sealed {
		if seen[s.Nonce] {
			t.Fatal("nonce used twice")
		}
		seen[s.Nonce] = true
		block := ciphertext[i*bs : min(n, (i+1)*bs)]
		if s.CRC != Checksum(block) {
			t.Fatalf("crc of block %d", i)
		}
		got := make([]byte, len(block))
		if err := c.Open(got, block, 3+uint64(i), s); err != nil {
			t.Fatal(err)
		}
		same(t, "block", got, plain[i*bs:min(n, (i+1)*bs)])
	}
	saved := bytes.Clone(ciphertext)
	got := make([]byte, n)
	if opened, err := c.OpenRun(got, ciphertext, 3, sealed); err != nil || opened != len(sealed) {
		t.Fatal(opened, err)
	}
	same(t, "plaintext", got, plain)
	same(t, "ciphertext after OpenRun", ciphertext, saved)
	if opened, err := c.OpenRun(ciphertext, ciphertext, 3, sealed); err != nil || opened != len(sealed) {
		t.Fatal(opened, err)
	}
	same(t, "plaintext in place", ciphertext, plain)
}

// TestBlockRunFailure damages one block of a run: the ones before it are
// delivered, the rest is wiped.
func TestBlockRunFailure(t *testing.T) {
	const bs, blocks = MinBlockSize, 4
	c := newTestCipher(t, bs)
	plain := randomBytes(3, blocks*bs-7)
	for bad := range blocks {
		ciphertext := NewBuffer(len(plain))
		sealed, err := c.SealRun(ciphertext, plain, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		ciphertext[bad*bs] ^= 1
		got := bytes.Repeat([]byte{0xee}, len(plain))
		opened, err := c.OpenRun(got, ciphertext, 0, sealed)
		if opened != bad || !errors.Is(err, ErrAuth) {
			t.Fatalf("block %d damaged: %d opened, %v", bad, opened, err)
		}
		same(t, "blocks before", got[:bad*bs], plain[:bad*bs])
		same(t, "the rest", got[bad*bs:], make([]byte, len(plain)-bad*bs))
	}
}

// TestBlockSpareCapacity: nothing beyond TagSize bytes of spare capacity is
// written, and nothing at all without spare capacity.
func TestBlockSpareCapacity(t *testing.T) {
	const bs = MinBlockSize
	c := newTestCipher(t, bs)
	backing := bytes.Repeat([]byte{0xaa}, 2*bs)
	if _, err := c.Seal(backing[:bs:bs], make([]byte, bs), 0); err != nil {
		t.Fatal(err)
	}
	same(t, "limited capacity", backing[bs:], bytes.Repeat([]byte{0xaa}, bs))
	if _, err := c.Seal(backing[:bs], make([]byte, bs), 0); err != nil {
		t.Fatal(err)
	}
	same(t, "behind the tag", backing[bs+TagSize:], bytes.Repeat([]byte{0xaa}, bs-TagSize))
}

func TestBlockOverlap(t *testing.T) {
	const bs = MinBlockSize
	c := newTestCipher(t, bs)
	b := make([]byte, 3*bs)
	for name, err := range map[string]error{
		"seal in place":               second(c.Seal(b[:bs:bs], b[:bs], 0)),
		"seal, shifted":               second(c.Seal(b[1:bs+1:bs+1], b[:bs], 0)),
		"seal, tag on the input":      second(c.Seal(b[:bs], b[bs:2*bs], 0)),
		"seal run, second on first":   second(c.SealRun(b[:2*bs], b[bs:], 0, nil)),
		"open, shifted":               c.Open(b[1:bs+1], b[:bs], 0, Sealed{}),
		"open run, shifted":           second(c.OpenRun(b[bs:], b[:2*bs:2*bs], 0, make([]Sealed, 2))),
		"open run, tag on the output": second(c.OpenRun(b[bs:2*bs], b[:bs], 0, make([]Sealed, 1))),
	} {
		if !errors.Is(err, ErrOverlap) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.Seal(b[:bs:bs], b[bs:2*bs], 0); err != nil {
		t.Errorf("adjacent with limited capacity: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// TestBlockFlips flips every byte of everything that a block's opening takes.
func TestBlockFlips(t *testing.T) {
	c := newTestCipher(t, MinBlockSize)
	plain := randomBytes(4, 300)
	ciphertext := make([]byte, len(plain))
	sealed, err := c.Seal(ciphertext, plain, 7)
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]byte, len(plain))
	refuse := func(what string, i int) {
		t.Helper()
		copy(dst, plain)
		if err := c.Open(dst, ciphertext, 7, sealed); !errors.Is(err, ErrAuth) {
			t.Fatalf("%s byte %d: %v", what, i, err)
		}
		if !bytes.Equal(dst, make([]byte, len(dst))) {
			t.Fatalf("%s byte %d: output not wiped", what, i)
		}
	}
	for what, b := range map[string][]byte{"ciphertext": ciphertext, "nonce": sealed.Nonce[:], "tag": sealed.Tag[:]} {
		for i := range b {
			b[i] ^= 1
			refuse(what, i)
			b[i] ^= 1
		}
	}
	if err := c.Open(dst, ciphertext, 7, sealed); err != nil {
		t.Fatal("restored:", err)
	}
	for bit := range 64 {
		if err := c.Open(dst, ciphertext, 7^1<<bit, sealed); !errors.Is(err, ErrAuth) {
			t.Fatalf("index bit %d: %v", bit, err)
		}
	}
	for n := 1; n < len(ciphertext); n++ {
		if err := c.Open(dst[:n], ciphertext[:n], 7, sealed); !errors.Is(err, ErrAuth) {
			t.Fatalf("cut to %d: %v", n, err)
		}
	}
}

func TestInline(t *testing.T) {
	c := newTestCipher(t, MinBlockSize)
	for _, n := range []int{0, 1, 15, 16, 17, 4095, 4096, 4097, MaxInline} {
		plain := randomBytes(5, n)
		before := bytes.Clone(plain)
		sealed, err := c.SealInline(plain)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "input", plain, before)
		if len(sealed) != n+InlineOverhead {
			t.Errorf("%d bytes give %d", n, len(sealed))
		}
		got, err := c.OpenInline([]byte("prefix"), sealed)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "plaintext", got, append([]byte("prefix"), plain...))
	}
	if _, err := c.SealInline(make([]byte, MaxInline+1)); !errors.Is(err, ErrSize) {
		t.Errorf("too long: %v", err)
	}
	if _, err := c.OpenInline(nil, make([]byte, MaxInline+InlineOverhead+1)); !errors.Is(err, ErrFormat) {
		t.Errorf("too long: %v", err)
	}
}

func TestInlineFlips(t *testing.T) {
	c := newTestCipher(t, MinBlockSize)
	sealed, err := c.SealInline(randomBytes(6, 100))
	if err != nil {
		t.Fatal(err)
	}
	for i := range sealed {
		sealed[i] ^= 0x40
		if out, err := c.OpenInline(nil, sealed); !errors.Is(err, ErrAuth) || out != nil {
			t.Fatalf("byte %d: %v", i, err)
		}
		sealed[i] ^= 0x40
	}
	for n := range sealed {
		want := ErrAuth
		if n < InlineOverhead {
			want = ErrShort
		}
		if _, err := c.OpenInline(nil, sealed[:n]); !errors.Is(err, want) {
			t.Fatalf("cut to %d: %v", n, err)
		}
	}
}

// TestCipherBinding: every part of what a file is bound to changes the key.
func TestCipherBinding(t *testing.T) {
	key, id := Key{1}, FileID{Volume: VolumeID{2}, Inode: 3, Epoch: 4}
	base, err := NewBlockCipher(&key, id, MinBlockSize, SuiteAES256GCM)
	if err != nil {
		t.Fatal(err)
	}
	if err := base.Verify(base.Commitment()); err != nil {
		t.Fatal(err)
	}
	ciphertext := make([]byte, 32)
	sealed, err := base.Seal(ciphertext, make([]byte, 32), 0)
	if err != nil {
		t.Fatal(err)
	}
	others := map[string]struct {
		key Key
		id  FileID
	}{
		"key":    {Key{9}, id},
		"volume": {key, FileID{VolumeID{9}, 3, 4}},
		"inode":  {key, FileID{VolumeID{2}, 9, 4}},
		"epoch":  {key, FileID{VolumeID{2}, 3, 9}},
	}
	for name, o := range others {
		c, err := NewBlockCipher(&o.key, o.id, MinBlockSize, SuiteAES256GCM)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Verify(base.Commitment()); !errors.Is(err, ErrCommitment) || !errors.Is(err, ErrAuth) {
			t.Errorf("%s: commitment: %v", name, err)
		}
		if err := c.Open(make([]byte, 32), ciphertext, 0, sealed); !errors.Is(err, ErrAuth) {
			t.Errorf("%s: %v", name, err)
		}
	}
	commitment := base.Commitment()
	for i := range commitment {
		commitment[i] ^= 1
		if err := base.Verify(commitment); !errors.Is(err, ErrCommitment) {
			t.Errorf("commitment byte %d: %v", i, err)
		}
		commitment[i] ^= 1
	}
}

func TestBlockConcurrent(t *testing.T) {
	c := newTestCipher(t, MinBlockSize)
	done := make(chan error)
	for g := range 8 {
		go func() {
			plain := randomBytes(uint64(g), 3*MinBlockSize)
			buf, got := NewBuffer(len(plain)), make([]byte, len(plain))
			var err error
			for range 50 {
				var sealed []Sealed
				if sealed, err = c.SealRun(buf, plain, uint64(g), nil); err != nil {
					break
				}
				if _, err = c.OpenRun(got, buf, uint64(g), sealed); err != nil {
					break
				}
				if !bytes.Equal(got, plain) {
					err = errors.New("other data")
					break
				}
			}
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
