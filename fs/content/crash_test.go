package content

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/fs/object"
	"github.com/kmsfs/kmsfs/meta"
)

// history is what a file may be after a power cut: any of its versions since it was last durable, block by block.
type history struct {
	ino      meta.Ino
	f        *File
	versions [][]byte // the last one is current
	gone     int      // versions that were dropped
}

func (h *history) now() []byte { return h.versions[len(h.versions)-1] }

// change adds a version made by fn from a copy of the present one.
func (h *history) change(fn func(b []byte) []byte) {
	h.versions = append(h.versions, fn(append([]byte(nil), h.now()...)))
}

// durable says that nothing older than the present may come back.
func (h *history) durable() { h.durableAt(h.mark()) }

// mark returns the number of the present version.
func (h *history) mark() int { return h.gone + len(h.versions) - 1 }

// durableAt says that nothing older than a version that was present once may come back.
func (h *history) durableAt(mark int) {
	if n := mark - h.gone; n > 0 {
		h.versions, h.gone = h.versions[n:], mark
	}
}

// verify compares the content after a cut with the history and goes on from it.
func (h *history) verify(got []byte, bs int) error {
	lo, hi := len(h.now()), 0
	for _, v := range h.versions {
		lo, hi = min(lo, len(v)), max(hi, len(v))
	}
	if len(got) < lo || len(got) > hi {
		return fmt.Errorf("size %d, was %d to %d", len(got), lo, hi)
	}
	for from := 0; from < len(got); from += bs {
		to := min(from+bs, len(got))
		if !h.has(got[from:to], from) {
			return fmt.Errorf("block at %d is none of %d versions", from, len(h.versions))
		}
	}
	h.durable()
	h.versions = [][]byte{got}
	return nil
}

func (h *history) has(block []byte, from int) bool {
	for _, v := range h.versions {
		old := make([]byte, len(block))
		if from < len(v) {
			copy(old, v[from:])
		}
		if bytes.Equal(old, block) {
			return true
		}
	}
	return false
}

// TestPowerCut cuts the power at random points of random work, and checks that everything that was synced is there, that each block is one that
// was written, and that nothing fails to open.
func TestPowerCut(t *testing.T) {
	runs := 8
	if os.Getenv("KMSFS_LONG") != "" {
		runs = 400
	}
	for seed := range runs {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(seed), 0))
			newCutter(t, rng, rigOptions{inline: []int{0, 4096}[seed/2%2], blockSize: []uint32{4096, 16384}[seed%2]}).run()
		})
	}
}

// TestPowerCutCompressed is TestPowerCut with compression.
func TestPowerCutCompressed(t *testing.T) {
	runs := 6
	if os.Getenv("KMSFS_LONG") != "" {
		runs = 200
	}
	for seed := range runs {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(seed), 1))
			newCutter(t, rng, rigOptions{inline: []int{0, 4096}[seed/2%2], blockSize: []uint32{65536, 131072}[seed%2],
				codec: []meta.Codec{meta.CodecZstd, meta.CodecS2}[seed/3%2]}).run()
		})
	}
}

type cutter struct {
	t     *testing.T
	r     *rig
	rng   *rand.Rand
	bs    int
	files []*history
	seed  uint64
	log   []string
	do    func() // what is done while a checkpoint is made
	busy  bool   // one is
}

// newCutter makes the volume with it.
func newCutter(t *testing.T, rng *rand.Rand, opts rigOptions) *cutter {
	c := &cutter{t: t, rng: rng, bs: int(opts.blockSize)}
	opts.disk, opts.cutting = true, true
	opts.lower = func(l object.Lower) object.Lower { return meanwhile{l, &c.do} }
	c.r = newRig(t, opts)
	return c
}

func (c *cutter) run() {
	c.r.opts.direct = c.rng.IntN(2) == 0
	c.r.opts.small = c.rng.IntN(2) == 0
	for range 3 {
		ino := c.r.create()
		c.files = append(c.files, &history{ino: ino, versions: [][]byte{nil}})
	}
	must(c.t, c.r.eng.SyncAll(ctx))
	for range 6 {
		c.openAll()
		for range 5 + c.rng.IntN(40) {
			c.step()
		}
		for _, h := range c.files {
			must(c.t, h.f.Close())
		}
		c.r.opts.untidy, c.r.opts.small = c.rng.IntN(2) == 0, c.rng.IntN(2) == 0
		c.logf("cut, untidy %v", c.r.opts.untidy)
		c.r.cutPower(c.rng)
		c.logf("recovered: %+v", c.r.report)
		c.verify()
	}
}

func (c *cutter) logf(format string, args ...any) {
	c.log = append(c.log, fmt.Sprintf(format, args...))
}

func (c *cutter) fatalf(format string, args ...any) {
	c.t.Helper()
	for _, line := range c.log {
		c.t.Log(line)
	}
	c.t.Fatalf(format, args...)
}

func (c *cutter) openAll() {
	for _, h := range c.files {
		h.f = c.r.openFile(h.ino)
	}
}

func (c *cutter) verify() {
	c.openAll()
	inos := make([]meta.Ino, 0, len(c.files))
	for _, h := range c.files {
		p := make([]byte, 41*c.bs)
		n, err := h.f.ReadAt(ctx, p, 0)
		if err != nil {
			c.fatalf("inode %d: %v", h.ino, err)
		}
		if err := h.verify(p[:n], c.bs); err != nil {
			c.fatalf("inode %d: %v", h.ino, err)
		}
		must(c.t, h.f.Close())
		inos = append(inos, h.ino)
	}
	c.r.check(inos...)
	if c.t.Failed() {
		c.fatalf("check failed")
	}
}

// step does one random thing.
func (c *cutter) step() {
	h := c.files[c.rng.IntN(len(c.files))]
	size := len(h.now())
	off := c.rng.IntN(size + c.bs)
	if c.rng.IntN(2) == 0 {
		off = off / c.bs * c.bs
	}
	n := 1 + c.rng.IntN(3*c.bs)
	switch op := c.rng.IntN(24); {
	case op >= 22:
		c.parts(h)
	case op >= 20:
		c.reencrypt(h)
	case op < 6:
		c.write(h, off, n)
	case op < 10:
		c.write(h, size, n)
	case op < 12:
		c.logf("%d: truncate to %d", h.ino, off)
		must(c.t, h.f.Truncate(ctx, uint64(off), WriteOpts{}))
		h.change(func(b []byte) []byte { return resized(b, off) })
	case op < 13:
		c.logf("%d: truncate to 0", h.ino)
		must(c.t, h.f.Truncate(ctx, 0, WriteOpts{}))
		h.change(func(b []byte) []byte { return nil })
	case op < 15:
		c.logf("%d: punch %d at %d", h.ino, n, off)
		must(c.t, h.f.Fallocate(ctx, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, uint64(off), uint64(n), WriteOpts{}))
		h.change(func(b []byte) []byte {
			if off < len(b) {
				clear(b[off:min(off+n, len(b))])
			}
			return b
		})
	case op < 18:
		c.logf("%d: sync", h.ino)
		must(c.t, h.f.Sync(ctx))
		h.durable()
	case op < 19:
		c.logf("sync all")
		must(c.t, c.r.eng.SyncAll(ctx))
		c.allDurable()
	case !c.busy:
		c.checkpoint()
	}
}

// checkpoint makes one, while work goes on where it is being made, and before what it covers is destroyed.
func (c *cutter) checkpoint() {
	c.logf("checkpoint")
	marks := make([]int, len(c.files))
	for i, h := range c.files {
		marks[i] = h.mark()
	}
	c.do = func() {
		c.logf("meanwhile")
		for range c.rng.IntN(6) {
			c.step()
		}
		c.logf("the checkpoint goes on")
	}
	c.busy = true
	err := c.r.eng.Checkpoint(ctx)
	c.do, c.busy = nil, false
	must(c.t, err)
	for i, h := range c.files {
		h.durableAt(marks[i])
	}
	c.logf("checkpoint done")
}

// reencrypt seals a file anew, or a part of it.
func (c *cutter) reencrypt(h *history) {
	epoch := h.f.epoch.Load()
	if a, err := h.f.Attr(ctx); err != nil || len(a.Wraps) < 8 {
		epoch, err = c.r.eng.NewEpoch(ctx, h.ino)
		must(c.t, err)
	}
	c.rezone()
	stop, steps := errors.New("stop"), c.rng.IntN(3)
	c.logf("%d: re-encrypt for epoch %d, %d steps", h.ino, epoch, steps)
	err := c.r.eng.Reencrypt(ctx, h.ino, epoch, nil, func(int) error {
		if steps--; steps < 0 {
			return stop
		}
		return nil
	})
	if err != nil && !errors.Is(err, stop) {
		c.fatalf("re-encrypt: %v", err)
	}
}

// rezone may give the zone other parameters, with blocks that are no smaller.
func (c *cutter) rezone() {
	p := *c.r.params()
	switch c.rng.IntN(4) {
	case 0:
		p.BlockSize *= 4
	case 1:
		p.BlockSize, p.Codec, p.Level, p.Inline = 131072, meta.CodecZstd, 3, uint32(c.rng.IntN(2))*20_000
	case 2:
		return
	}
	c.logf("the zone has %+v", p)
	c.r.rezone(p)
}

func (c *cutter) allDurable() {
	for _, h := range c.files {
		h.durable()
	}
}

// parts writes some blocks at once, if they can be: then all of them or none come back.
func (c *cutter) parts(h *history) {
	blocks := c.rng.Perm(min(len(h.now())/c.bs+2, 40))
	n := min(len(blocks), 1+c.rng.IntN(5))
	if c.busy { // the journal has to hold what is written before the checkpoint goes on
		n = min(n, 2)
	}
	parts := make([]Part, n)
	for i := range parts {
		c.seed++
		parts[i] = Part{Off: uint64(blocks[i] * c.bs), Data: c.r.pattern(c.bs, c.seed)}
	}
	done, err := h.f.WriteParts(ctx, parts, WriteOpts{})
	must(c.t, err)
	c.logf("%d: parts %v, done %v (size %d)", h.ino, blocks[:len(parts)], done, len(h.now()))
	put := func(b []byte, parts ...Part) []byte {
		for _, p := range parts {
			b = resized(b, max(len(b), int(p.Off)+len(p.Data)))
			copy(b[p.Off:], p.Data)
		}
		return b
	}
	if done {
		h.change(func(b []byte) []byte { return put(b, parts...) })
		return
	}
	for _, p := range parts {
		mustWrite(c.t, h.f, p.Data, p.Off)
		h.change(func(b []byte) []byte { return put(b, p) })
	}
}

func (c *cutter) write(h *history, off, n int) {
	if off+n > 40*c.bs {
		return
	}
	c.seed++
	c.logf("%d: write %d at %d (size %d)", h.ino, n, off, len(h.now()))
	p := c.r.pattern(n, c.seed)
	mustWrite(c.t, h.f, p, uint64(off))
	h.change(func(b []byte) []byte {
		if off+n > len(b) {
			b = resized(b, off+n)
		}
		copy(b[off:], p)
		return b
	})
}
