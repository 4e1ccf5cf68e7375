package content

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/meta"
)

// crowd is many goroutines at work on the same few files, whose blocks are each of one piece at any time: all of one byte.
type crowd struct {
	t      *testing.T
	r      *rig
	bs     int
	inos   []meta.Ino
	blocks int
	failed atomic.Bool
}

// TestScarce has a crowd work where nothing lasts: the journal has room for three small segments, so that checkpoints never cease, what is settled is read at
// once, and descriptors, map rows and keys are hardly cached. No read may fail, and no block be of two pieces.
func TestScarce(t *testing.T) {
	rounds := 1
	if os.Getenv("KMSFS_LONG") != "" {
		rounds = 60
	}
	for round := range rounds {
		for _, codec := range []meta.Codec{meta.CodecNone, meta.CodecS2} {
			t.Run(fmt.Sprint(codec, round), func(t *testing.T) {
				c := &crowd{t: t, bs: 4096, blocks: 600} // more than two map rows
				if codec != meta.CodecNone {
					c.bs, c.blocks = 65536, 300
				}
				c.r = newRig(t, rigOptions{disk: true, cutting: true, scarce: true, small: true, inline: 4096, blockSize: uint32(c.bs), codec: codec})
				for range 3 {
					c.inos = append(c.inos, c.r.create())
				}
				c.run(uint64(round))
				must(t, c.r.eng.Checkpoint(ctx))
				c.r.check(c.inos...)
			})
		}
	}
}

func (c *crowd) run(seed uint64) {
	var working, upkeep sync.WaitGroup
	stop := make(chan struct{})
	upkeep.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				c.must(c.r.eng.Checkpoint(ctx))
			}
		}
	})
	for i := range 8 {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		working.Go(func() {
			for range 250 {
				if c.failed.Load() {
					return
				}
				f, err := c.r.eng.Open(ctx, c.inos[rng.IntN(len(c.inos))])
				if err == nil {
					err = errors.Join(c.step(rng, f), f.Close())
				}
				c.must(err)
			}
		})
	}
	working.Wait()
	close(stop)
	upkeep.Wait()
}

func (c *crowd) must(err error) {
	if err != nil && !c.failed.Swap(true) {
		c.t.Error(err)
	}
}

// step does one thing to a file.
func (c *crowd) step(rng *rand.Rand, f *File) error {
	block, n := rng.IntN(c.blocks), 1+rng.IntN(12)
	off := uint64(block * c.bs)
	switch op := rng.IntN(20); {
	case op < 8:
		return c.read(f, off, 4*n)
	case op < 14:
		p := bytes.Repeat([]byte{byte(1 + rng.IntN(255))}, n*c.bs)
		_, err := f.WriteAt(ctx, p, off, WriteOpts{})
		return err
	case op < 16:
		return f.Sync(ctx) // and the next small writes go into the journal
	case op < 17:
		return f.Truncate(ctx, off, WriteOpts{})
	case op < 18:
		return f.Truncate(ctx, 0, WriteOpts{})
	case op < 19:
		return f.Fallocate(ctx, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, uint64(n*c.bs), WriteOpts{})
	default:
		return c.r.eng.SyncAll(ctx)
	}
}

// read reads blocks, each of which must be of one piece.
func (c *crowd) read(f *File, off uint64, blocks int) error {
	p := make([]byte, blocks*c.bs)
	n, err := f.ReadAt(ctx, p, off)
	for b := p[:n]; len(b) > 0; b = b[min(c.bs, len(b)):] {
		if block := b[:min(c.bs, len(b))]; bytes.Count(block, block[:1]) != len(block) {
			return fmt.Errorf("inode %d: a block of several pieces", f.Ino())
		}
	}
	return err
}
