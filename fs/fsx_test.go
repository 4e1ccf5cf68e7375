package fs_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/fs/fstest"
	"github.com/kmsfs/kmsfs/meta"
)

// fsxMax is the largest file of the random test, in bytes: several blocks of every size that is tested.
const fsxMax = 600 << 10

// TestRandomFileOperations does random operations on one file and compares every byte with a slice, at once and after a remount.
func TestRandomFileOperations(t *testing.T) {
	const total = 20_000
	ops := total / 6
	if fstest.Long() {
		ops = 1_000_000 / 6
	}
	for _, o := range []fstest.Options{
		{BlockSize: 4 << 10, Inline: -1}, {BlockSize: 4 << 10}, {BlockSize: 16 << 10, Inline: -1}, {BlockSize: 16 << 10},
		{BlockSize: 128 << 10, Inline: -1}, {BlockSize: 128 << 10},
		{BlockSize: 64 << 10, Codec: meta.CodecS2, Inline: -1}, {BlockSize: 128 << 10, Codec: meta.CodecZstd},
	} {
		inline := max(o.Inline, 0)
		if o.Inline == 0 {
			inline = meta.DefaultInline
		}
		name := fmt.Sprintf("block=%dK,inline=%d,%s", o.BlockSize>>10, inline, o.Codec)
		t.Run(name, func(t *testing.T) {
			m := fstest.NewMount(t, o)
			seed := fstest.Seed()
			t.Logf("seed %d", seed)
			expect := filepath.Join(t.TempDir(), "expect")
			fstest.Child(t, "fsx", m.Path("file"), expect, strconv.FormatUint(seed, 10), strconv.Itoa(ops))
			want, err := os.ReadFile(expect)
			if err != nil {
				t.Fatal(err)
			}
			m.Remount()
			got, err := os.ReadFile(m.Path("file"))
			if err != nil {
				t.Fatal(err)
			}
			if err := sameBytes(got, want); err != nil {
				t.Errorf("after remount: %v (seed %d)", err, seed)
			}
			m.Check()
		})
	}
}

// fsxProgram is the child: PATH EXPECT SEED OPS. It leaves the content that the file must have in EXPECT.
func fsxProgram(args []string) error {
	if len(args) != 4 {
		return errors.New("usage: PATH EXPECT SEED OPS")
	}
	seed, err := strconv.ParseUint(args[2], 10, 64)
	if err != nil {
		return err
	}
	ops, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	x := &fsx{path: args[0], rng: rand.New(rand.NewPCG(seed, 1))}
	if err := x.open(os.O_CREATE | os.O_EXCL); err != nil {
		return err
	}
	for i := range ops {
		if err := x.step(); err != nil {
			return fmt.Errorf("operation %d of seed %d: %w", i, seed, err)
		}
	}
	if err := x.verify(); err != nil {
		return err
	}
	return errors.Join(x.file.Close(), os.WriteFile(args[1], x.model, 0o644))
}

// fsx is a file and what it must contain.
type fsx struct {
	path   string
	file   *os.File
	rng    *rand.Rand
	model  []byte
	direct []byte // page-aligned buffer for O_DIRECT
}

func (x *fsx) open(flags int) (err error) {
	x.file, err = os.OpenFile(x.path, os.O_RDWR|flags, 0o644)
	return err
}

func (x *fsx) fd() int { return int(x.file.Fd()) }

// span returns a random range, small ones more often, within limit.
func (x *fsx) span(limit int) (off, n int) {
	if limit == 0 {
		return 0, 0
	}
	off = x.rng.IntN(limit)
	n = 1 + x.rng.IntN([]int{16, 4096, 20_000, 200_000}[x.rng.IntN(4)])
	if x.rng.IntN(3) == 0 { // at block and page boundaries
		off &^= 4095
		n = (n + 4095) &^ 4095
	}
	return off, min(n, limit-off)
}

// bytes returns n bytes, random ones or a word over and over, for files that are compressed.
func (x *fsx) bytes(n int) []byte {
	b := make([]byte, n)
	random := n
	if x.rng.IntN(2) == 0 {
		random = min(n, 1+x.rng.IntN(50))
	}
	for i := range b {
		if i < random {
			b[i] = byte(x.rng.Uint32()) | 1 // never zero, so that holes show
		} else {
			b[i] = b[i-random]
		}
	}
	return b
}

// step does one operation.
func (x *fsx) step() error {
	for _, op := range []struct {
		share int
		name  string
		do    func() error
	}{
		{20, "read", x.read}, {20, "write", x.write}, {8, "mapped read", x.mapRead}, {8, "mapped write", x.mapWrite}, {8, "truncate", x.truncate},
		{8, "punch", x.punch}, {6, "zero", x.zero}, {4, "allocate", x.allocate}, {6, "copy", x.copy}, {4, "fsync", x.fsync}, {4, "reopen", x.reopen},
		{4, "drop pages", x.drop}, {4, "direct write", x.directWrite}, {4, "seek", x.seek}, {1, "empty", x.empty}, {2, "append", x.append},
	} {
		if x.rng.IntN(100) < op.share {
			if err := op.do(); err != nil {
				return fmt.Errorf("%s: %w", op.name, err)
			}
		}
	}
	return nil
}

func (x *fsx) read() error {
	off, n := x.span(fsxMax)
	got := make([]byte, n)
	m, err := unix.Pread(x.fd(), got, int64(off))
	if err != nil {
		return err
	}
	var want []byte
	if off < len(x.model) {
		want = x.model[off:min(off+n, len(x.model))]
	}
	if err := sameBytes(got[:m], want); err != nil {
		return fmt.Errorf("%d bytes at %d: %w", n, off, err)
	}
	return nil
}

func (x *fsx) put(off int, b []byte) {
	x.grow(off + len(b))
	copy(x.model[off:], b)
}

func (x *fsx) grow(size int) {
	if size > len(x.model) {
		x.model = append(x.model, make([]byte, size-len(x.model))...)
	}
}

func (x *fsx) write() error {
	off, n := x.span(fsxMax)
	b := x.bytes(n)
	if _, err := x.file.WriteAt(b, int64(off)); err != nil {
		return err
	}
	x.put(off, b)
	return nil
}

func (x *fsx) append() error {
	n := 1 + x.rng.IntN(5000)
	if len(x.model)+n > fsxMax {
		return nil
	}
	f, err := os.OpenFile(x.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	b := x.bytes(n)
	_, err = f.Write(b)
	x.put(len(x.model), b)
	return errors.Join(err, f.Close())
}

func (x *fsx) mapped(write bool, do func(off int, mem []byte)) error {
	if len(x.model) == 0 {
		return nil
	}
	off, n := x.span(len(x.model))
	base := off &^ 4095
	prot := unix.PROT_READ
	if write {
		prot |= unix.PROT_WRITE
	}
	mem, err := unix.Mmap(x.fd(), int64(base), off-base+n, prot, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	do(off, mem[off-base:])
	if write && x.rng.IntN(2) == 0 {
		err = unix.Msync(mem, unix.MS_SYNC)
	}
	return errors.Join(err, unix.Munmap(mem))
}

func (x *fsx) mapRead() error {
	var diff error
	err := x.mapped(false, func(off int, mem []byte) { diff = sameBytes(mem, x.model[off:off+len(mem)]) })
	return errors.Join(err, diff)
}

func (x *fsx) mapWrite() error {
	return x.mapped(true, func(off int, mem []byte) {
		b := x.bytes(len(mem))
		copy(mem, b)
		x.put(off, b)
	})
}

func (x *fsx) setSize(size int) {
	if size < len(x.model) {
		x.model = x.model[:size:size]
	}
	x.grow(size)
}

func (x *fsx) truncate() error {
	size := x.rng.IntN(fsxMax)
	if x.rng.IntN(3) == 0 {
		size = x.rng.IntN(8192)
	}
	var err error
	if x.rng.IntN(2) == 0 {
		err = x.file.Truncate(int64(size))
	} else {
		err = os.Truncate(x.path, int64(size))
	}
	x.setSize(size)
	return err
}

func (x *fsx) empty() error {
	if err := x.file.Close(); err != nil {
		return err
	}
	x.model = nil
	return x.open(os.O_TRUNC)
}

func (x *fsx) wipe(off, n int) {
	if off < len(x.model) {
		clear(x.model[off:min(off+n, len(x.model))])
	}
}

func (x *fsx) punch() error {
	off, n := x.span(fsxMax)
	x.wipe(off, n)
	return unix.Fallocate(x.fd(), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(n))
}

func (x *fsx) zero() error {
	off, n := x.span(fsxMax)
	mode := uint32(unix.FALLOC_FL_ZERO_RANGE)
	if x.rng.IntN(2) == 0 {
		mode |= unix.FALLOC_FL_KEEP_SIZE
	} else {
		x.grow(off + n)
	}
	x.wipe(off, n)
	return unix.Fallocate(x.fd(), mode, int64(off), int64(n))
}

func (x *fsx) allocate() error {
	off, n := x.span(fsxMax)
	mode := uint32(0)
	if x.rng.IntN(2) == 0 {
		mode = unix.FALLOC_FL_KEEP_SIZE
	} else {
		x.grow(off + n)
	}
	return unix.Fallocate(x.fd(), mode, int64(off), int64(n))
}

// copy copies a range to another place of the file that it does not overlap.
func (x *fsx) copy() error {
	if len(x.model) < 2 {
		return nil
	}
	from, n := x.span(len(x.model))
	to, _ := x.span(fsxMax)
	n = min(n, fsxMax-to)
	if from < to+n && to < from+n {
		return nil
	}
	src, dst := int64(from), int64(to)
	for left := n; left > 0; {
		m, err := unix.CopyFileRange(x.fd(), &src, x.fd(), &dst, left, 0)
		if err != nil {
			return err
		}
		if m == 0 {
			return fmt.Errorf("%d of %d bytes from %d to %d are missing", left, n, from, to)
		}
		left -= m
	}
	x.put(to, append([]byte(nil), x.model[from:from+n]...))
	return nil
}

func (x *fsx) fsync() error {
	if x.rng.IntN(2) == 0 {
		return unix.Fdatasync(x.fd())
	}
	return x.file.Sync()
}

func (x *fsx) reopen() error {
	if err := x.file.Close(); err != nil {
		return err
	}
	return x.open(0)
}

// drop takes the file's pages out of the cache, so that the next read is the filesystem's.
func (x *fsx) drop() error {
	if err := x.file.Sync(); err != nil {
		return err
	}
	return unix.Fadvise(x.fd(), 0, 0, unix.FADV_DONTNEED)
}

func (x *fsx) directWrite() error {
	if x.direct == nil {
		mem, err := unix.Mmap(-1, 0, 64<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return err
		}
		x.direct = mem
	}
	off := x.rng.IntN(fsxMax-len(x.direct)) &^ 4095
	b := x.direct[:4096*(1+x.rng.IntN(len(x.direct)/4096))]
	copy(b, x.bytes(len(b)))
	f, err := os.OpenFile(x.path, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, int64(off))
	x.put(off, b)
	return errors.Join(err, f.Close())
}

// seek checks that what SEEK_DATA and SEEK_HOLE call a hole is zeros: data may be zeros too.
func (x *fsx) seek() error {
	for off := int64(0); off < int64(len(x.model)); {
		data, err := unix.Seek(x.fd(), off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			data = int64(len(x.model))
		} else if err != nil {
			return err
		}
		if data < off {
			return fmt.Errorf("data before %d: %d", off, data)
		}
		if i := bytes.IndexFunc(x.model[off:data], func(r rune) bool { return r != 0 }); i >= 0 {
			return fmt.Errorf("hole from %d to %d has data at %d", off, data, off+int64(i))
		}
		if data == int64(len(x.model)) {
			return nil
		}
		hole, err := unix.Seek(x.fd(), data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if hole <= data || hole > int64(len(x.model)) {
			return fmt.Errorf("data at %d, hole at %d of %d", data, hole, len(x.model))
		}
		off = hole
	}
	return nil
}

func (x *fsx) verify() error {
	got, err := os.ReadFile(x.path)
	if err != nil {
		return err
	}
	return sameBytes(got, x.model)
}

// sameBytes says where two contents differ first.
func sameBytes(got, want []byte) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d bytes, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			return fmt.Errorf("byte %d of %d is %#x, want %#x", i, len(got), got[i], want[i])
		}
	}
	return nil
}
