package content

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/kmsfs/kmsfs/meta"
)

// modelFile is what a file must hold.
type modelFile struct {
	ino  meta.Ino
	f    *File // nil: closed
	data []byte
}

// model drives an engine and plain byte slices with the same operations.
type model struct {
	t     *rapid.T
	r     *rig
	bs    int
	max   int
	files []*modelFile
	seed  uint64
}

// TestModel compares an engine with plain memory over random operations, kills and checkpoints included.
func TestModel(t *testing.T) {
	for _, bs := range []int{4096, 16384, 131072} {
		for _, inline := range []int{0, 4096} {
			for _, disk := range []bool{false, true} {
				t.Run(fmt.Sprintf("block%d-inline%d-disk%v", bs, inline, disk), func(t *testing.T) {
					runs := map[bool]int{false: 24, true: 4}[disk]
					if bs > 16384 {
						runs /= 2
					}
					checks(t, runs, 40)
					rapid.Check(t, func(rt *rapid.T) { runModel(t, rt, bs, inline, disk) })
				})
			}
		}
	}
}

// checks sets how many runs of how many steps rapid makes, unless the command line says so.
func checks(t *testing.T, runs, steps int) {
	t.Helper()
	for name, n := range map[string]int{"rapid.checks": runs, "rapid.steps": steps} {
		if f := flag.Lookup(name); f.Value.String() == f.DefValue || shortened[name] == f.Value.String() {
			shortened[name] = strconv.Itoa(n)
			must(t, flag.Set(name, strconv.Itoa(n)))
		}
	}
}

// shortened holds what checks set.
var shortened = map[string]string{}

// TestModelCompressed is TestModel with compression.
func TestModelCompressed(t *testing.T) {
	for codec, bs := range map[meta.Codec]int{meta.CodecS2: 65536, meta.CodecZstd: 131072} {
		for _, disk := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s-disk%v", codec, disk), func(t *testing.T) {
				checks(t, map[bool]int{false: 12, true: 3}[disk], 40)
				rapid.Check(t, func(rt *rapid.T) {
					runModelOf(t, rt, rigOptions{disk: disk, inline: 4096, blockSize: uint32(bs), codec: codec})
				})
			})
		}
	}
}

func runModel(tb testing.TB, t *rapid.T, bs, inline int, disk bool) {
	runModelOf(tb, t, rigOptions{disk: disk, inline: inline, blockSize: uint32(bs)})
}

func runModelOf(tb testing.TB, t *rapid.T, o rigOptions) {
	bs := int(o.blockSize)
	o.maxUses, o.untidy, o.direct = 5000, rapid.Bool().Draw(t, "untidy"), rapid.Bool().Draw(t, "direct")
	o.small = rapid.Bool().Draw(t, "small")
	r := newRigFor(tb, t, o)
	m := &model{t: t, r: r, bs: bs, max: 40 * bs}
	for range 2 {
		m.files = append(m.files, &modelFile{ino: r.create()})
	}
	t.Repeat(map[string]func(*rapid.T){
		"":           m.invariant,
		"write":      m.write,
		"rewrite":    m.write,
		"append":     m.append,
		"parts":      m.parts,
		"read":       m.read,
		"truncate":   m.truncate,
		"punch":      m.punch,
		"zero":       m.zero,
		"allocate":   m.allocate,
		"sync":       m.sync,
		"close":      m.close,
		"checkpoint": m.checkpoint,
		"seek":       m.seek,
		"all":        m.compareAll,
		"reopen":     m.reopen,
		"replace":    m.replace,
		"reencrypt":  m.reencrypt,
	})
	m.compareAll(t)
	for _, mf := range m.files {
		m.shut(mf)
	}
	must(t, r.eng.Checkpoint(ctx))
	r.check(m.files[0].ino, m.files[1].ino)
	m.compareAll(t)
	m.reopen(t)
	must(t, r.eng.Checkpoint(ctx))
	m.compareAll(t)
	left := 0
	must(t, r.eng.CheckObjects(ctx, false, func(f Fault) { left++; t.Logf("left: %+v", f) }))
	if left > 0 {
		t.Fatalf("%d objects without a file", left)
	}
}

func (m *model) pick(t *rapid.T) *modelFile {
	mf := m.files[rapid.IntRange(0, len(m.files)-1).Draw(t, "file")]
	if mf.f == nil {
		mf.f = m.r.openFile(mf.ino)
	}
	return mf
}

// offset draws one, more often than not at an edge.
func (m *model) offset(t *rapid.T, mf *modelFile) int {
	at := rapid.OneOf(
		rapid.IntRange(0, m.max),
		rapid.SampledFrom([]int{0, 1, 4095, 4096, 4097, m.bs - 1, m.bs, m.bs + 1, len(mf.data), max(len(mf.data)-1, 0), len(mf.data) / m.bs * m.bs}),
		rapid.Map(rapid.IntRange(0, 39), func(n int) int { return n * m.bs }),
	).Draw(t, "offset")
	return min(at, m.max)
}

func (m *model) length(t *rapid.T) int {
	return rapid.OneOf(
		rapid.IntRange(1, 3*m.bs),
		rapid.SampledFrom([]int{1, 100, 4096, m.bs, m.bs + 1, 2 * m.bs}),
		rapid.IntRange(1, 100),
	).Draw(t, "length")
}

func (m *model) write(t *rapid.T) {
	mf := m.pick(t)
	m.writeAt(mf, m.offset(t, mf), m.length(t))
}

func (m *model) append(t *rapid.T) {
	mf := m.pick(t)
	if len(mf.data) > m.max {
		return
	}
	m.writeAt(mf, len(mf.data), m.length(t))
}

// parts writes two blocks at once, if they can be.
func (m *model) parts(t *rapid.T) {
	mf := m.pick(t)
	bs := mf.f.BlockSize()
	first, second := m.offset(t, mf)/bs*bs, m.offset(t, mf)/bs*bs
	m.seed++
	p, q := m.r.pattern(bs, m.seed), m.r.pattern(bs, m.seed+1<<32)
	done, err := mf.f.WriteParts(ctx, []Part{{uint64(first), p}, {uint64(second), q}}, WriteOpts{})
	must(m.t, err)
	if done && first == second {
		t.Fatal("two parts that are the same block are written together")
	}
	if done {
		m.grow(mf, max(first, second)+bs)
		copy(mf.data[first:], p)
		copy(mf.data[second:], q)
	}
}

func (m *model) writeAt(mf *modelFile, off, n int) {
	m.seed++
	p := m.r.pattern(n, m.seed)
	mustWrite(m.t, mf.f, p, uint64(off))
	m.grow(mf, off+n)
	copy(mf.data[off:], p)
}

func (m *model) grow(mf *modelFile, n int) {
	if n > len(mf.data) {
		mf.data = append(mf.data, make([]byte, n-len(mf.data))...)
	}
}

func (m *model) read(t *rapid.T) {
	mf := m.pick(t)
	off, n := m.offset(t, mf), m.length(t)
	var want []byte
	if off < len(mf.data) {
		want = mf.data[off:min(off+n, len(mf.data))]
	}
	if got := mustRead(t, mf.f, uint64(off), n); !bytes.Equal(got, want) {
		t.Fatalf("read %d bytes at %d of inode %d: differs at %d", n, off, mf.ino, off+diff(got, want))
	}
}

func (m *model) truncate(t *rapid.T) {
	mf := m.pick(t)
	size := m.offset(t, mf)
	must(t, mf.f.Truncate(ctx, uint64(size), WriteOpts{}))
	m.grow(mf, size)
	mf.data = mf.data[:size:size]
}

func (m *model) fallocate(t *rapid.T, mode uint32, zero bool) {
	mf := m.pick(t)
	off, n := m.offset(t, mf), m.length(t)
	must(t, mf.f.Fallocate(ctx, mode, uint64(off), uint64(n), WriteOpts{}))
	if mode&unix.FALLOC_FL_KEEP_SIZE == 0 {
		m.grow(mf, off+n)
	}
	if zero && off < len(mf.data) {
		clear(mf.data[off:min(off+n, len(mf.data))])
	}
}

func (m *model) punch(t *rapid.T) {
	m.fallocate(t, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, true)
}

func (m *model) zero(t *rapid.T) {
	mode := uint32(unix.FALLOC_FL_ZERO_RANGE)
	if rapid.Bool().Draw(t, "keep size") {
		mode |= unix.FALLOC_FL_KEEP_SIZE
	}
	m.fallocate(t, mode, true)
}

func (m *model) allocate(t *rapid.T) {
	m.fallocate(t, rapid.SampledFrom([]uint32{0, unix.FALLOC_FL_KEEP_SIZE}).Draw(t, "mode"), false)
}

func (m *model) sync(t *rapid.T) {
	if rapid.IntRange(0, 3).Draw(t, "what") == 0 {
		must(t, m.r.eng.SyncAll(ctx))
		return
	}
	must(t, m.pick(t).f.Sync(ctx))
}

func (m *model) close(t *rapid.T) { m.shut(m.pick(t)) }

func (m *model) shut(mf *modelFile) {
	if mf.f != nil {
		must(m.t, mf.f.Close())
		mf.f = nil
	}
}

func (m *model) checkpoint(t *rapid.T) { must(t, m.r.eng.Checkpoint(ctx)) }

// seek compares the map of holes with the content: what is a hole must be zero, what is not zero must be data.
func (m *model) seek(t *rapid.T) {
	mf := m.pick(t)
	size := uint64(len(mf.data))
	for at := uint64(0); at < size; {
		data, err := mf.f.SeekData(ctx, at)
		if errors.Is(err, ErrNoData) {
			data, err = size, nil
		}
		must(t, err)
		if i := firstNonZero(mf.data[at:data]); i >= 0 {
			t.Fatalf("inode %d: data at %d lies in the hole [%d, %d)", mf.ino, int(at)+i, at, data)
		}
		if data == size {
			break
		}
		hole, err := mf.f.SeekHole(ctx, data)
		must(t, err)
		if hole <= data || hole > size {
			t.Fatalf("inode %d of %d bytes: data at %d, next hole at %d", mf.ino, size, data, hole)
		}
		at = hole
	}
	if _, err := mf.f.SeekHole(ctx, size); !errors.Is(err, ErrNoData) {
		t.Fatalf("seek hole at the end: %v", err)
	}
}

func firstNonZero(b []byte) int {
	if n := len(b) - len(bytes.TrimLeft(b, "\x00")); n < len(b) {
		return n
	}
	return -1
}

func (m *model) compareAll(t *rapid.T) {
	for _, mf := range m.files {
		if mf.f == nil {
			mf.f = m.r.openFile(mf.ino)
		}
		if got := mustRead(t, mf.f, 0, len(mf.data)+1); !bytes.Equal(got, mf.data) {
			t.Fatalf("inode %d: %d bytes instead of %d, differs at %d", mf.ino, len(got), len(mf.data), diff(got, mf.data))
		}
	}
}

// reopen kills the daemon or unmounts; nothing may be lost, because the disk's cache survives.
func (m *model) reopen(t *rapid.T) {
	for _, mf := range m.files {
		m.shut(mf)
	}
	m.r.opts.untidy = rapid.Bool().Draw(t, "untidy")
	if rapid.Bool().Draw(t, "kill") {
		m.r.kill()
	} else {
		m.r.remount()
	}
}

// reencrypt seals a file anew, under a fresh key or going on with the last one, for the parameters of the zone, which may be others, to the end or not.
func (m *model) reencrypt(t *rapid.T) {
	mf := m.pick(t)
	if rapid.Bool().Draw(t, "rezone") {
		p := rapid.SampledFrom(moveParams).Draw(t, "params")
		if rapid.IntRange(0, 2).Draw(t, "back") == 0 {
			p = *m.r.params()
		}
		m.r.rezone(p)
	}
	epoch := mf.f.epoch.Load()
	if rapid.Bool().Draw(t, "fresh") || epoch > 1000 {
		if a, err := mf.f.Attr(ctx); err != nil || len(a.Wraps) < 8 {
			epoch, err = m.r.eng.NewEpoch(ctx, mf.ino)
			must(t, err)
		}
	}
	stop := errors.New("stop")
	steps := rapid.IntRange(0, 6).Draw(t, "steps")
	err := m.r.eng.Reencrypt(ctx, mf.ino, epoch, nil, func(int) error {
		if steps--; steps < 0 {
			return stop
		}
		return nil
	})
	if err != nil && !errors.Is(err, stop) {
		t.Fatal(err)
	}
	if err == nil {
		m.r.onlySince(mf.ino, epoch)
	}
}

// replace unlinks a file, perhaps while it is open, and makes another.
func (m *model) replace(t *rapid.T) {
	i := rapid.IntRange(0, len(m.files)-1).Draw(t, "file")
	mf := m.files[i]
	name := m.nameOf(mf.ino)
	removal := m.r.eng.Removal()
	a, err := m.r.meta.Unlink(ctx, meta.RootIno, name, removal.Busy)
	removal.Done()
	must(t, err)
	if mf.f != nil != a.Flags.Orphan() {
		t.Fatalf("open %v, orphan %v", mf.f != nil, a.Flags.Orphan())
	}
	if a.Flags.Orphan() {
		must(t, m.r.eng.Unlinked(ctx, mf.ino))
		if got := mustRead(t, mf.f, 0, len(mf.data)+1); !bytes.Equal(got, mf.data) {
			t.Fatalf("unlinked inode %d differs at %d", mf.ino, diff(got, mf.data))
		}
		m.shut(mf)
	}
	if _, err := m.r.eng.Open(ctx, mf.ino); !errors.Is(err, meta.ErrNotFound) {
		t.Fatalf("open of a freed inode: %v", err)
	}
	m.files[i] = &modelFile{ino: m.r.create()}
}

func (m *model) nameOf(ino meta.Ino) []byte {
	path, err := m.r.meta.Path(ctx, ino)
	must(m.t, err)
	return path[1:]
}

func (m *model) invariant(t *rapid.T) {
	for _, mf := range m.files {
		if mf.f != nil && mf.f.Size() != uint64(len(mf.data)) {
			t.Fatalf("inode %d: size %d, want %d", mf.ino, mf.f.Size(), len(mf.data))
		}
	}
}

// TestModelLong is TestModel with longer runs.
func TestModelLong(t *testing.T) {
	if os.Getenv("KMSFS_LONG") == "" {
		t.Skip("long form, runs with KMSFS_LONG=1")
	}
	rng := rand.New(rand.NewPCG(1, 2))
	checks(t, 60, 120)
	for i := range 12 {
		bs := []int{4096, 16384, 131072}[rng.IntN(3)]
		t.Run(fmt.Sprint(i, bs), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) { runModel(t, rt, bs, []int{0, 4096, 20000}[i%3], true) })
		})
	}
}
