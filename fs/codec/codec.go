// Package codec compresses and decompresses single blocks of file content, in memory.
//
// It does not know where blocks lie, how they are sealed, or whether compressing one is worth it. It is the only importer of the compression
// library. Decompression never needs more memory than the block and a bounded work space of the library's, whatever the input says: the input is
// authentic by then, but who wrote it may have been another version, or wrong.
//
// Implements the codecs of docs/FORMAT.md, section 3.
package codec

import (
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta"
)

// ErrFrame: what should be compressed content is not, or not of the length that it should have.
var ErrFrame = errors.New("codec: damaged frame")

// concurrency is how many Zstandard frames are made, and how many opened, at a time. Each takes some MB of work space.
const concurrency = 4

// Coder compresses and decompresses. It is safe for concurrent use; callers may wait for each other. It holds the library's work space for as
// long as it is referenced; there is nothing to close.
type Coder struct {
	decoder *zstd.Decoder

	mu       sync.Mutex
	encoders map[zstd.EncoderLevel]*zstd.Encoder // guarded by mu; made when first used
}

// New returns a Coder.
func New() (*Coder, error) {
	d, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(concurrency),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(blockcrypt.MaxBlockSize),
		zstd.WithDecoderMaxWindow(blockcrypt.MaxBlockSize),
		zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, fmt.Errorf("prepare zstd: %w", err)
	}
	return &Coder{decoder: d, encoders: map[zstd.EncoderLevel]*zstd.Encoder{}}, nil
}

// sample is how much Promising looks at, in bytes.
const sample = 4 << 10

// Promising guesses from a sample in the middle whether compressing plain would save much. It costs a small part of trying.
func Promising(plain []byte) bool {
	const much = 0.1
	if len(plain) > sample {
		at := (len(plain) - sample) / 2
		plain = plain[at : at+sample]
	}
	return compress.Estimate(plain) > much
}

// Room returns how many bytes a Compress of n bytes, at most blockcrypt.MaxBlockSize, needs as work space.
func Room(n int) int { return max(s2.MaxEncodedLen(n), n+n>>7+1024) }

// Compress compresses plain, at most blockcrypt.MaxBlockSize bytes, into dst, of at least Room(len(plain)) bytes, which does not overlap it, and
// returns the part of dst that was filled. The result may be longer than plain. nil for codecs that do not compress.
func (c *Coder) Compress(dst, plain []byte, codec meta.Codec, level uint8) ([]byte, error) {
	switch codec {
	case meta.CodecS2:
		return compressS2(dst, plain, level), nil
	case meta.CodecZstd:
		e, err := c.encoder(zstd.EncoderLevelFromZstd(int(level)))
		if err != nil {
			return nil, err
		}
		return e.EncodeAll(plain, dst[:0]), nil
	default:
		return nil, nil
	}
}

func compressS2(dst, plain []byte, level uint8) []byte {
	switch level {
	case 0, 1:
		return s2.Encode(dst, plain)
	case 2:
		return s2.EncodeBetter(dst, plain)
	default:
		return s2.EncodeBest(dst, plain)
	}
}

// encoder returns the encoder of a level.
func (c *Coder) encoder(level zstd.EncoderLevel) (*zstd.Encoder, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.encoders[level]; e != nil {
		return e, nil
	}
	e, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(level),
		zstd.WithEncoderConcurrency(concurrency),
		zstd.WithWindowSize(blockcrypt.MaxBlockSize),
		zstd.WithLowerEncoderMem(true),
		zstd.WithSingleSegment(true),
		zstd.WithEncoderCRC(false)) // the seal says more
	if err != nil {
		return nil, fmt.Errorf("prepare zstd: %w", err)
	}
	c.encoders[level] = e
	return e, nil
}

// Decompress fills dst, at most blockcrypt.MaxBlockSize bytes, with what coded stands for. dst and coded do not overlap. ErrFrame unless coded is
// whole, of the codec, and stands for exactly len(dst) bytes; dst holds nothing of use then.
func (c *Coder) Decompress(dst, coded []byte, codec meta.Codec) error {
	switch codec {
	case meta.CodecS2:
		n, err := s2.DecodedLen(coded)
		if err == nil && n == len(dst) {
			_, err = s2.Decode(dst, coded)
		}
		return frame(codec, n, len(dst), err)
	case meta.CodecZstd:
		out, err := c.decoder.DecodeAll(coded, dst[:0:len(dst)])
		return frame(codec, len(out), len(dst), err)
	default:
		return fmt.Errorf("%s: %w", codec, ErrFrame)
	}
}

func frame(codec meta.Codec, got, want int, err error) error {
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w: %w", codec, ErrFrame, err)
	case got != want:
		return fmt.Errorf("%s: %d bytes instead of %d: %w", codec, got, want, ErrFrame)
	}
	return nil
}
