package content

import (
	"bytes"
	"fmt"
	"testing"
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
