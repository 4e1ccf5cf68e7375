package content

import (
	"sync"

	"github.com/kmsfs/kmsfs/blockcrypt"
)

// maxChunk is how much is read or written under one lock and in one transaction, in bytes.
const maxChunk = 1 << 20

// maxBlocks is how many blocks a chunk touches at most: one more than fit, when it is not aligned.
const maxBlocks = maxChunk/blockcrypt.MinBlockSize + 1

// Buffers of two sizes: for a few small blocks, and for a chunk. All have spare capacity for a tag (blockcrypt.NewBuffer).
const (
	smallBuffer = 16 << 10
	largeBuffer = maxChunk + blockcrypt.MaxBlockSize
)

var (
	smallBuffers = sync.Pool{New: func() any { return newPooled(smallBuffer) }}
	largeBuffers = sync.Pool{New: func() any { return newPooled(largeBuffer) }}
)

func newPooled(n int) *[]byte {
	b := blockcrypt.NewBuffer(n)
	return &b
}

// pooled is a buffer on loan.
type pooled struct{ b *[]byte }

// borrow returns n bytes, at most largeBuffer, of unspecified content.
func borrow(n int) (pooled, []byte) {
	p := pooled{}
	if n <= smallBuffer {
		p.b = smallBuffers.Get().(*[]byte)
	} else {
		p.b = largeBuffers.Get().(*[]byte)
	}
	return p, (*p.b)[:n]
}

// giveBack ends the loan. The zero pooled is nothing.
func (p pooled) giveBack() {
	switch {
	case p.b == nil:
	case cap(*p.b) < largeBuffer:
		smallBuffers.Put(p.b)
	default:
		largeBuffers.Put(p.b)
	}
}

// blockSet is a set of blocks of one chunk, counted from its first.
type blockSet [(maxBlocks + 63) / 64]uint64

func (s *blockSet) add(i int)      { s[i/64] |= 1 << (i % 64) }
func (s *blockSet) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }
func (s *blockSet) empty() bool    { return *s == blockSet{} }
