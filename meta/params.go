package meta

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/kmsfs/kmsfs/blockcrypt"
)

// Codec says how content is compressed before it is sealed.
type Codec uint8

const (
	CodecNone Codec = 0 // as it is
	CodecS2   Codec = 1 // an S2 block
	CodecZstd Codec = 2 // one Zstandard frame
)

// String returns the name that policies and flags use: none, s2, zstd.
func (c Codec) String() string {
	switch c {
	case CodecNone:
		return "none"
	case CodecS2:
		return "s2"
	case CodecZstd:
		return "zstd"
	default:
		return fmt.Sprintf("codec %d", uint8(c))
	}
}

// ParseCodec is the inverse of Codec.String. ErrInvalid for other names.
func ParseCodec(name string) (Codec, error) {
	for c := CodecNone; c <= CodecZstd; c++ {
		if c.String() == name {
			return c, nil
		}
	}
	return 0, fmt.Errorf("compression %q is not known, but none, s2 and zstd: %w", name, ErrInvalid)
}

// ParseCompression reads NAME or NAME:LEVEL, as in zstd:9; without a level it is the codec's default. ErrInvalid for what is neither.
func ParseCompression(text string) (Codec, uint8, error) {
	name, number, has := strings.Cut(text, ":")
	c, err := ParseCodec(name)
	if err != nil {
		return 0, 0, err
	}
	if !has {
		return c, c.DefaultLevel(), nil
	}
	level, err := strconv.ParseUint(number, 10, 8)
	if err != nil || level == 0 || level > uint64(c.MaxLevel()) {
		if c == CodecNone {
			return 0, 0, fmt.Errorf("compression %q: none has no levels: %w", text, ErrInvalid)
		}
		return 0, 0, fmt.Errorf("compression %q: levels of %s are 1 to %d: %w", text, c, c.MaxLevel(), ErrInvalid)
	}
	return c, uint8(level), nil
}

// Compression returns what ParseCompression reads.
func (p Params) Compression() string {
	if p.Codec == CodecNone {
		return p.Codec.String()
	}
	return fmt.Sprintf("%s:%d", p.Codec, p.Level)
}

// MaxLevel returns the highest level of a codec; the lowest is 1. CodecNone has none but 0.
func (c Codec) MaxLevel() uint8 {
	switch c {
	case CodecS2:
		return 3
	case CodecZstd:
		return 19
	default:
		return 0
	}
}

// DefaultLevel returns the level of a codec if nothing else is said: fast ones.
func (c Codec) DefaultLevel() uint8 {
	switch c {
	case CodecS2:
		return 1
	case CodecZstd:
		return 3
	default:
		return 0
	}
}

// Smallest blocks that may be compressed, and the default where content is: a slot takes whole pages, so smaller blocks would save little.
const (
	MinCompressedBlock     = 64 << 10
	DefaultCompressedBlock = 128 << 10
)

// Params say how the contents of regular files are stored. A zone's are those of the files made in it from then on; a file keeps its own.
type Params struct {
	BlockSize uint32 // plaintext bytes of a block, a power of two
	Codec     Codec
	Level     uint8  // of the codec, 0 with CodecNone
	Inline    uint32 // contents of up to this many bytes lie in the inline row; 0: none do
}

// DefaultParams are those of a zone about which nothing is said.
func DefaultParams() Params { return Params{BlockSize: DefaultBlockSize, Inline: DefaultInline} }

// Check returns ErrInvalid, and why, for parameters that no file may have.
func (p Params) Check() error {
	if err := p.check(); err != nil {
		return fmt.Errorf("%w: %w", err, ErrInvalid)
	}
	return nil
}

// check is Check without the sentinel, for the codecs.
func (p Params) check() error {
	switch {
	case blockcrypt.ValidBlockSize(int(p.BlockSize)) != nil:
		return fmt.Errorf("block size %d is no power of two from %d to %d", p.BlockSize, blockcrypt.MinBlockSize, blockcrypt.MaxBlockSize)
	case p.Codec > CodecZstd:
		return fmt.Errorf("unknown compression %d", p.Codec)
	case p.Level > p.Codec.MaxLevel() || p.Level == 0 && p.Codec != CodecNone:
		return fmt.Errorf("level %d, %s has 1 to %d", p.Level, p.Codec, p.Codec.MaxLevel())
	case p.Codec != CodecNone && p.BlockSize < MinCompressedBlock:
		return fmt.Errorf("%s needs blocks of %[3]d bytes at least, not %[2]d", p.Codec, p.BlockSize, MinCompressedBlock)
	case p.Inline > blockcrypt.MaxInline:
		return fmt.Errorf("inline limit of %d bytes, at most %d", p.Inline, blockcrypt.MaxInline)
	}
	return nil
}
