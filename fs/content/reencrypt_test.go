package content

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/meta"
)

// onlySince fails unless everything of a file is sealed since epoch, and no key from before is left.
func (r *rig) onlySince(ino meta.Ino, epoch uint32) {
	r.t.Helper()
	must(r.t, r.meta.View(ctx, func(tx *meta.Tx) error {
		a, err := tx.Attr(ino)
		if err != nil {
			return err
		}
		if a.Wraps[0].Epoch < epoch {
			r.t.Errorf("inode %d has the key of epoch %d, wanted none before %d", ino, a.Wraps[0].Epoch, epoch)
		}
		if in, err := tx.Inline(ino); err != nil || in != nil && in.Epoch < epoch {
			r.t.Errorf("inline content of inode %d: %+v, %v", ino, in, err)
		}
		return tx.ScanMap(ino, 0, func(row uint64, m *meta.MapRow) bool {
			for i := range m {
				if m[i].Present && m[i].Epoch < epoch {
					r.t.Errorf("inode %d, block %d: epoch %d", ino, row*meta.MapRowBlocks+uint64(i), m[i].Epoch)
				}
			}
			return true
		})
	}))
}

func goOn(int) error { return nil }

// TestReencrypt: every kind of content is sealed anew, stays what it was, and nothing else of the file changes.
func TestReencrypt(t *testing.T) {
	holes := words(200*4096+77, 1)
	clear(holes[10*4096 : 150*4096])
	for _, c := range []struct {
		name string
		o    rigOptions
		data []byte
	}{
		{"empty", rigOptions{inline: 4096}, nil},
		{"inline", rigOptions{inline: 4096}, words(3000, 1)},
		{"blocks", rigOptions{}, pattern(3<<20+5, 1)},
		{"holes", rigOptions{}, holes},
		{"largest blocks", rigOptions{large: true, blockSize: 1 << 20}, pattern(3<<20+5, 1)},
		{"compressed", compressing(rigOptions{inline: 4096}), append(words(1<<20, 1), noise(1<<20, 2)...)},
		{"compressed inline", compressing(rigOptions{inline: 4096}), words(3000, 1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.disk = true
			r := newRig(t, c.o)
			f := r.file()
			ino := f.Ino()
			for at := 0; at < len(c.data); at += 8192 {
				if part := c.data[at:min(at+8192, len(c.data))]; firstNonZero(part) >= 0 {
					mustWrite(t, f, part, uint64(at))
				}
			}
			must(t, f.Truncate(ctx, uint64(len(c.data)), WriteOpts{}))
			must(t, r.meta.SetXattr(ctx, ino, "security.capability", []byte("some"), meta.XattrCreate))
			before, err := f.Attr(ctx)
			must(t, err)
			epoch, err := r.eng.NewEpoch(ctx, ino)
			must(t, err)
			done := 0
			must(t, r.eng.Reencrypt(ctx, ino, epoch, nil, func(n int) error { done += n; return nil }))
			if int64(done) > int64(len(c.data)) || c.name != "holes" && done != len(c.data) {
				t.Errorf("%d of %d bytes were sealed", done, len(c.data))
			}
			r.onlySince(ino, epoch)
			after, err := f.Attr(ctx)
			must(t, err)
			if after.Epoch != epoch || len(after.Wraps) != 1 || after.Mtime != before.Mtime || after.Ctime != before.Ctime || after.Size != before.Size ||
				after.Allocated != before.Allocated || after.Mode != before.Mode {
				t.Errorf("before %+v\nafter %+v", before, after)
			}
			if v, err := r.meta.GetXattr(ctx, ino, "security.capability"); err != nil || string(v) != "some" {
				t.Errorf("capabilities: %q, %v", v, err)
			}
			for _, when := range []string{"at once", "after a kill", "after a checkpoint"} {
				if got := mustRead(t, f, 0, len(c.data)+1); !bytes.Equal(got, c.data) {
					t.Fatalf("%s: differs at %d", when, diff(got, c.data))
				}
				must(t, f.Close())
				if when == "at once" {
					r.kill()
				} else {
					must(t, r.eng.Checkpoint(ctx))
				}
				f = r.openFile(ino)
			}
			must(t, f.Close())
			r.check(ino)
			done = 0
			must(t, r.eng.Reencrypt(ctx, ino, epoch, nil, func(n int) error { done += n; return nil }))
			if done != 0 {
				t.Errorf("%d bytes were sealed twice", done)
			}
		})
	}
}

// TestReencryptGoesOn: what was interrupted goes on with what is left, also in another process, and a key that is still needed is never dropped.
func TestReencryptGoesOn(t *testing.T) {
	r := newRig(t, rigOptions{disk: true, atOnce: 4 << 20})
	f := r.file()
	ino := f.Ino()
	data := pattern(11<<20, 3)
	mustWrite(t, f, data, 0)
	must(t, f.Close())
	epoch, err := r.eng.NewEpoch(ctx, ino)
	must(t, err)
	stop := errors.New("stop")
	total, runs := 0, 0
	for ; ; runs++ {
		err := r.eng.Reencrypt(ctx, ino, epoch, nil, func(n int) error {
			total += n
			if n > 0 {
				return stop
			}
			return nil
		})
		if err == nil {
			break
		}
		wantErr(t, err, stop)
		f := r.openFile(ino)
		if got := mustRead(t, f, 0, len(data)); !bytes.Equal(got, data) {
			t.Fatalf("run %d: differs at %d", runs, diff(got, data))
		}
		if total < len(data) {
			wantErr(t, f.retire(ctx, epoch), errOlder)
		}
		must(t, f.Close())
		if runs%2 == 0 {
			r.kill()
		}
	}
	if total != len(data) || runs < 2 {
		t.Errorf("%d of %d bytes were sealed in %d runs", total, len(data), runs)
	}
	r.onlySince(ino, epoch)
	wantErr(t, r.eng.Reencrypt(ctx, ino, epoch+1, nil, goOn), meta.ErrInvalid)
	r.check(ino)
}

// TestReencryptAtOnce: no step takes more than it may, or one block where that is more, whether blocks are sealed anew where they are or move.
func TestReencryptAtOnce(t *testing.T) {
	for _, size := range []int{700_000, 3<<20 + 5} {
		r := newRig(t, rigOptions{disk: true, large: true, direct: true})
		f := r.file()
		data := pattern(size, 3)
		mustWrite(t, f, data, 0)
		for i, p := range []meta.Params{f.st.params, moveParams[1], moveParams[0], moveParams[3]} {
			r.rezone(p)
			block := max(int(p.BlockSize), int(f.st.params.BlockSize))
			for _, most := range []int{1, 100_000, 0} {
				epoch, err := r.eng.NewEpoch(ctx, f.Ino())
				must(t, err)
				total, largest, asked := 0, 0, 0
				must(t, r.eng.Reencrypt(ctx, f.Ino(), epoch, func() int { asked++; return most }, func(n int) error {
					total, largest = total+n, max(largest, n)
					return nil
				}))
				if may := max(most, block); most > 0 && largest > may || total != size || asked == 0 {
					t.Errorf("%d bytes, parameters %d: at most %d of %d bytes at once, %d in all", size, i, largest, may, total)
				}
				r.onlySince(f.Ino(), epoch)
				if got := mustRead(t, f, 0, size+1); !bytes.Equal(got, data) {
					t.Fatalf("%d bytes, parameters %d: differs at %d", size, i, diff(got, data))
				}
			}
		}
		must(t, f.Close())
		r.check(f.Ino())
	}
}

// TestReencryptInUse re-encrypts a file again and again while it is read, written, cut, punched and synced.
func TestReencryptInUse(t *testing.T) {
	for _, o := range []rigOptions{{disk: true, large: true, direct: true}, compressing(rigOptions{disk: true, large: true, inline: 4096})} {
		t.Run(fmt.Sprint(o.codec), func(t *testing.T) {
			r := newRig(t, o)
			f := r.file()
			defer f.Close()
			var over atomic.Bool
			var busy sync.WaitGroup
			busy.Go(func() {
				defer over.Store(true)
				for i := range 8 {
					r.rezone(moveParams[i%len(moveParams)])
					epoch, err := r.eng.NewEpoch(ctx, f.Ino())
					if err == nil {
						err = r.eng.Reencrypt(ctx, f.Ino(), epoch, nil, func(int) error { return nil })
					}
					if err != nil {
						t.Error(err)
						return
					}
					r.onlySince(f.Ino(), epoch)
				}
			})
			busy.Go(func() {
				p := make([]byte, 300_000)
				for i := uint64(0); !over.Load(); i++ {
					if _, err := f.ReadAt(ctx, p, i*77_777%(2<<20)); err != nil {
						t.Error(err)
						return
					}
				}
			})
			rng := rand.New(rand.NewPCG(1, 9))
			var model []byte
			for i := 0; !over.Load() || i < 100; i++ {
				off, n := rng.IntN(2<<20), 1+rng.IntN(200_000)
				switch rng.IntN(8) {
				case 0:
					must(t, f.Truncate(ctx, uint64(off), WriteOpts{}))
					model = resized(model, off)
				case 1:
					must(t, f.Fallocate(ctx, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, uint64(off), uint64(n), WriteOpts{}))
					if off < len(model) {
						clear(model[off:min(off+n, len(model))])
					}
				case 2:
					must(t, f.Sync(ctx))
				case 3:
					must(t, r.eng.Checkpoint(ctx))
				default:
					p := r.pattern(n, uint64(i))
					mustWrite(t, f, p, uint64(off))
					if off+n > len(model) {
						model = resized(model, off+n)
					}
					copy(model[off:], p)
				}
				if i == 1000 {
					break
				}
			}
			busy.Wait()
			if got := mustRead(t, f, 0, len(model)+1); !bytes.Equal(got, model) {
				t.Fatalf("%d bytes instead of %d, differs at %d", len(got), len(model), diff(got, model))
			}
			r.check(f.Ino())
		})
	}
}
