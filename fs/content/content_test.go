package content

import (
	"bytes"
	"fmt"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/meta"
)

// rigs runs a test on both kinds of KV store.
func rigs(t *testing.T, opts rigOptions, fn func(t *testing.T, r *rig)) {
	t.Helper()
	for _, disk := range []bool{false, true} {
		opts.disk = disk
		t.Run(map[bool]string{false: "memory", true: "disk"}[disk], func(t *testing.T) { fn(t, newRig(t, opts)) })
	}
}

// TestEdges writes and reads at the edges of blocks, of the inline limit and of chunks, and compares with what plain memory would give.
func TestEdges(t *testing.T) {
	for _, bs := range []int{4096, 16384, 131072} {
		for _, inline := range []int{0, 4096} {
			t.Run(fmt.Sprintf("block%d-inline%d", bs, inline), func(t *testing.T) {
				r := newRig(t, rigOptions{blockSize: uint32(bs), inline: inline})
				sizes := []int{0, 1, 2, 4095, 4096, 4097, bs - 1, bs, bs + 1, 3*bs - 1, 3 * bs, 3*bs + 1}
				offs := []int{0, 1, 4095, 4096, 4097, bs - 1, bs, bs + 1, 2*bs + 1}
				for i, size := range sizes {
					for j, off := range offs {
						f := r.file()
						model := pattern(size, uint64(i+1))
						mustWrite(t, f, model, 0)
						for k, n := range []int{1, bs, bs + 1} {
							p := pattern(n, uint64(100+j+k))
							mustWrite(t, f, p, uint64(off))
							if grown := off + n; grown > len(model) {
								model = append(model, make([]byte, grown-len(model))...)
							}
							copy(model[off:], p)
						}
						if got := mustRead(t, f, 0, len(model)+10); !bytes.Equal(got, model) {
							t.Fatalf("size %d, offset %d: content differs at %d", size, off, diff(got, model))
						}
						for _, at := range offs {
							if at < len(model) {
								want := model[at:min(at+bs+1, len(model))]
								if got := mustRead(t, f, uint64(at), bs+1); !bytes.Equal(got, want) {
									t.Fatalf("size %d, offset %d: read at %d differs", size, off, at)
								}
							}
						}
						ino := f.Ino()
						must(t, f.Close())
						if j == 0 {
							r.check(ino)
						}
					}
				}
			})
		}
	}
}

func diff(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func TestLarge(t *testing.T) {
	rigs(t, rigOptions{inline: 4096}, func(t *testing.T, r *rig) {
		f := r.file()
		defer f.Close()
		model := pattern(5<<20+123, 1)
		mustWrite(t, f, model, 0)
		if got := mustRead(t, f, 0, 6<<20); !bytes.Equal(got, model) {
			t.Fatalf("content differs at %d", diff(got, model))
		}
		p := pattern(2<<20, 2)
		mustWrite(t, f, p, 1234567)
		copy(model[1234567:], p)
		if got := mustRead(t, f, 0, 6<<20); !bytes.Equal(got, model) {
			t.Fatalf("content differs at %d", diff(got, model))
		}
		must(t, r.eng.Checkpoint(ctx))
		if got := mustRead(t, f, 0, 6<<20); !bytes.Equal(got, model) {
			t.Fatalf("content after a checkpoint differs at %d", diff(got, model))
		}
		r.check(f.Ino())
	})
}

// TestLargestBlocks: blocks of 1 MiB, whose images are as long as a row may be, across an inline file's growth.
func TestLargestBlocks(t *testing.T) {
	r := newRig(t, rigOptions{disk: true, large: true, blockSize: 1 << 20, inline: 60000})
	f := r.file()
	ino := f.Ino()
	model := pattern(50000, 1)
	mustWrite(t, f, model, 0)
	for i, at := range []int{49999, 1<<20 - 1, 3<<20 + 5, 1 << 19, 0} {
		p := pattern(3<<19, uint64(i+2))
		mustWrite(t, f, p, uint64(at))
		if end := at + len(p); end > len(model) {
			model = append(model, make([]byte, end-len(model))...)
		}
		copy(model[at:], p)
		if got := mustRead(t, f, 0, 8<<20); !bytes.Equal(got, model) {
			t.Fatalf("after write %d: content differs at %d", i, diff(got, model))
		}
	}
	must(t, f.Truncate(ctx, 3<<20+77, WriteOpts{}))
	model = model[:3<<20+77]
	must(t, f.Sync(ctx))
	must(t, f.Close())
	r.kill()
	f = r.openFile(ino)
	defer f.Close()
	if got := mustRead(t, f, 0, 8<<20); !bytes.Equal(got, model) {
		t.Fatalf("after a kill: content differs at %d", diff(got, model))
	}
	r.check(ino)
}

// TestSparse: a file of 8 TiB with a few blocks costs what the blocks cost, in every operation.
func TestSparse(t *testing.T) {
	r := newRig(t, rigOptions{})
	f := r.file()
	defer f.Close()
	const size = 8 << 40
	must(t, f.Truncate(ctx, size, WriteOpts{}))
	ends := []uint64{0, 1 << 30, 5 << 40, size - 4096}
	for i, at := range ends {
		mustWrite(t, f, pattern(4096, uint64(i+1)), at)
	}
	for i, at := range ends {
		if got := mustRead(t, f, at, 4096); !bytes.Equal(got, pattern(4096, uint64(i+1))) {
			t.Fatalf("block at %d differs", at)
		}
		data, err := f.SeekData(ctx, at)
		must(t, err)
		hole, err := f.SeekHole(ctx, at)
		must(t, err)
		if data != at || hole != at+4096 {
			t.Fatalf("at %d: data at %d, hole at %d", at, data, hole)
		}
	}
	a, err := f.Attr(ctx)
	must(t, err)
	if a.Allocated != 4*4096 {
		t.Fatalf("%d bytes allocated", a.Allocated)
	}
	must(t, r.eng.Checkpoint(ctx))
	must(t, f.Fallocate(ctx, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 4096, 6<<40, WriteOpts{}))
	must(t, r.eng.Checkpoint(ctx))
	if data, err := f.SeekData(ctx, 4096); err != nil || data != size-4096 {
		t.Fatalf("data at %d, %v", data, err)
	}
	must(t, f.Truncate(ctx, 4096, WriteOpts{}))
	if got := mustRead(t, f, 0, 8192); !bytes.Equal(got, pattern(4096, 1)) {
		t.Fatal("first block differs")
	}
	must(t, r.eng.Checkpoint(ctx))
	r.check(f.Ino())
}

// TestTruncateInBatches cuts a file that takes several transactions, which count its rows right.
func TestTruncateInBatches(t *testing.T) {
	for _, to := range []uint64{0, 4096, 5000, 100 << 20} {
		r := newRig(t, rigOptions{})
		f := r.file()
		for i := range uint64(3 * batchRows) { // one block in each row
			mustWrite(t, f, pattern(4096, i+1), i*meta.MapRowBlocks*4096)
		}
		must(t, f.Truncate(ctx, to, WriteOpts{}))
		r.check(f.Ino())
		if f.Size() != to {
			t.Fatalf("size is %d, want %d", f.Size(), to)
		}
		must(t, f.Truncate(ctx, 1<<30, WriteOpts{}))
		for i := range uint64(3 * batchRows) {
			at := i * meta.MapRowBlocks * 4096
			want := make([]byte, 4096)
			if at < to {
				copy(want[:min(to-at, 4096)], pattern(4096, i+1))
			}
			if got := mustRead(t, f, at, 4096); !bytes.Equal(got, want) {
				t.Fatalf("cut to %d: block at %d differs", to, at)
			}
		}
		must(t, r.eng.Checkpoint(ctx))
		r.check(f.Ino())
		must(t, f.Close())
	}
}

func TestLimits(t *testing.T) {
	r := newRig(t, rigOptions{})
	f := r.file()
	defer f.Close()
	limit := r.eng.MaxFileSize()
	_, err := f.WriteAt(ctx, []byte("xy"), limit-1, WriteOpts{})
	wantErr(t, err, ErrTooLarge, syscall.EFBIG)
	wantErr(t, f.Truncate(ctx, limit+1, WriteOpts{}), ErrTooLarge)
	wantErr(t, f.Truncate(ctx, 1<<63, WriteOpts{}), ErrTooLarge)
	wantErr(t, f.Fallocate(ctx, 0, limit, 1, WriteOpts{}), ErrTooLarge)
	wantErr(t, f.Fallocate(ctx, unix.FALLOC_FL_COLLAPSE_RANGE, 0, 4096, WriteOpts{}), ErrMode)
	wantErr(t, f.Fallocate(ctx, unix.FALLOC_FL_PUNCH_HOLE, 0, 4096, WriteOpts{}), ErrMode)
	_, err = f.SeekData(ctx, 0)
	wantErr(t, err, ErrNoData, syscall.ENXIO)
	mustWrite(t, f, []byte("z"), limit-1)
	if got := mustRead(t, f, limit-1, 10); string(got) != "z" {
		t.Fatalf("read %q at the limit", got)
	}
	must(t, f.Truncate(ctx, 0, WriteOpts{}))
}
