package blockcrypt

import (
	"errors"
	"fmt"
)

var (
	// ErrAuth: the bytes were not made under this key for this place. They
	// were changed, moved, or sealed under another key; which of these cannot
	// be told. Never retry, never use the output.
	ErrAuth = errors.New("not authentic")

	// ErrCommitment: the key is not the one that was committed to. It is an
	// ErrAuth (errors.Is), found before anything was decrypted.
	ErrCommitment = fmt.Errorf("key commitment: %w", ErrAuth)

	// ErrFormat: the shape is wrong (parse error). Nothing was decrypted, and
	// nothing is known about who made the bytes.
	ErrFormat = errors.New("malformed")

	// ErrShort: fewer bytes than the fixed part needs. It is an ErrFormat.
	ErrShort = fmt.Errorf("too short: %w", ErrFormat)

	// ErrSize: a length or a number given by the caller lies outside what the
	// format allows (block size, block length, buffer length, key length).
	ErrSize = errors.New("size out of range")

	// ErrOverlap: the output buffer overlaps the input in a way that the
	// function does not support. A programming error of the caller.
	ErrOverlap = errors.New("buffers overlap")
)
