package codec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta"
)

var codecs = []meta.Codec{meta.CodecS2, meta.CodecZstd}

func newCoder(t testing.TB) *Coder {
	t.Helper()
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// text returns n bytes that can be compressed, random returns some that cannot.
func text(n int, rng *rand.Rand) []byte {
	words := bytes.Fields([]byte("the quick brown fox jumps over a lazy dog while func return error nil package"))
	var b []byte
	for len(b) < n {
		b = append(append(b, words[rng.IntN(len(words))]...), ' ')
	}
	return b[:n]
}

func random(n int, rng *rand.Rand) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	c := newCoder(t)
	rng := rand.New(rand.NewPCG(1, 1))
	for _, codec := range codecs {
		for level := uint8(1); level <= codec.MaxLevel(); level++ {
			if testing.Short() && level > 3 && level%6 != 0 {
				continue
			}
			for _, n := range []int{1, 2, 100, 4096, 65535, 65536, 1 << 20} {
				for kind, plain := range [][]byte{text(n, rng), random(n, rng), make([]byte, n)} {
					dst := make([]byte, Room(n))
					coded, err := c.Compress(dst, plain, codec, level)
					if err != nil || len(coded) == 0 || &coded[0] != &dst[0] {
						t.Fatalf("%s:%d, %d bytes of kind %d: %d bytes, not in place or %v", codec, level, n, kind, len(coded), err)
					}
					got := make([]byte, n)
					if err := c.Decompress(got, coded, codec); err != nil || !bytes.Equal(got, plain) {
						t.Fatalf("%s:%d, %d bytes of kind %d: %v", codec, level, n, kind, err)
					}
					if n >= 4096 && kind != 1 && len(coded) > n/2 {
						t.Errorf("%s:%d, %d bytes of kind %d became %d", codec, level, n, kind, len(coded))
					}
				}
			}
		}
	}
	if coded, err := c.Compress(make([]byte, 100), []byte("x"), meta.CodecNone, 0); coded != nil || err != nil {
		t.Errorf("none made %d bytes, %v", len(coded), err)
	}
}

// TestDamagedFrames: whatever a frame says, Decompress fills exactly what it was asked for, or fails.
func TestDamagedFrames(t *testing.T) {
	c := newCoder(t)
	rng := rand.New(rand.NewPCG(2, 2))
	plain := text(70_000, rng)
	for _, codec := range codecs {
		coded, err := c.Compress(make([]byte, Room(len(plain))), plain, codec, 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{0, 1, len(plain) - 1, len(plain) + 1} {
			if err := c.Decompress(make([]byte, n), coded, codec); !errors.Is(err, ErrFrame) {
				t.Errorf("%s: %d bytes asked for: %v", codec, n, err)
			}
		}
		for range 300 {
			bad := bytes.Clone(coded)
			switch rng.IntN(3) {
			case 0:
				bad[rng.IntN(len(bad))] ^= 1 << rng.IntN(8)
			case 1:
				bad = bad[:rng.IntN(len(bad))]
			default:
				bad[rng.IntN(min(len(bad), 12))] = byte(rng.Uint32())
			}
			if err := c.Decompress(make([]byte, len(plain)), bad, codec); err != nil && !errors.Is(err, ErrFrame) {
				t.Fatalf("%s: %v", codec, err)
			}
		}
	}
	if err := c.Decompress(make([]byte, 10), []byte("anything"), meta.CodecNone); !errors.Is(err, ErrFrame) {
		t.Errorf("none: %v", err)
	}
	if err := c.Decompress(make([]byte, 10), []byte("anything"), 77); !errors.Is(err, ErrFrame) {
		t.Errorf("unknown codec: %v", err)
	}
}

// TestBombs: frames that stand for much more than a block, or say so, are refused without the memory that they ask for.
func TestBombs(t *testing.T) {
	const huge = 256 << 20
	c := newCoder(t)
	w, err := zstd.NewWriter(nil, zstd.WithWindowSize(8<<20))
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, huge)
	unsized := bytes.Buffer{}
	w.Reset(&unsized)
	w.Write(zeros)
	w.Close()
	bombs := map[string]struct {
		codec meta.Codec
		frame []byte
	}{
		"zstd":                    {meta.CodecZstd, w.EncodeAll(zeros, nil)},
		"zstd without a size":     {meta.CodecZstd, unsized.Bytes()},
		"zstd of two frames":      {meta.CodecZstd, append(w.EncodeAll(zeros[:65536], nil), w.EncodeAll(zeros[:65536], nil)...)},
		"s2":                      {meta.CodecS2, s2.Encode(nil, zeros)},
		"s2 that says 4 GiB":      {meta.CodecS2, binary.AppendUvarint(nil, 1<<32-1)},
		"s2 that says 2^63 bytes": {meta.CodecS2, binary.AppendUvarint(nil, 1<<63)},
	}
	zeros = nil
	for name, b := range bombs {
		t.Run(name, func(t *testing.T) {
			dst := make([]byte, 65536)
			c.Decompress(dst, b.frame, b.codec) // the library's work space is there
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := c.Decompress(dst, b.frame, b.codec)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, ErrFrame) {
				t.Errorf("%v", err)
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > 4*blockcrypt.MaxBlockSize {
				t.Errorf("%d bytes were taken", took)
			}
		})
	}
}

func FuzzDecompress(f *testing.F) {
	c := newCoder(f)
	rng := rand.New(rand.NewPCG(3, 3))
	for _, codec := range codecs {
		plain := text(1000, rng)
		coded, err := c.Compress(make([]byte, Room(len(plain))), plain, codec, 1)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(codec), uint32(len(plain)), coded)
	}
	f.Fuzz(func(t *testing.T, codec uint8, n uint32, coded []byte) {
		room := make([]byte, n%blockcrypt.MaxBlockSize+100)
		dst := room[: len(room)-100 : len(room)]
		if err := c.Decompress(dst, coded, meta.Codec(codec)); err != nil && !errors.Is(err, ErrFrame) {
			t.Fatal(err)
		}
		if !bytes.Equal(room[len(dst):], make([]byte, 100)) {
			t.Fatal("written behind the end")
		}
	})
}

func TestPromising(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	for _, n := range []int{100, 4096, 131072} {
		if !Promising(text(n, rng)) {
			t.Error(fmt.Sprint(n, " bytes of text are not promising"))
		}
	}
	if Promising(random(131072, rng)) {
		t.Error("random bytes are promising")
	}
}
