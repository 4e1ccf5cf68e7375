package content

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/fs/object"
	"github.com/kmsfs/kmsfs/meta"
)

// kinds of parameters that files are moved between.
var moveParams = []meta.Params{
	{BlockSize: 4096, Inline: 2048},
	{BlockSize: 131072, Inline: 0},
	{BlockSize: 131072, Codec: meta.CodecZstd, Level: 3, Inline: 65536},
	{BlockSize: 1 << 20, Codec: meta.CodecS2, Level: 1, Inline: 2048},
	{BlockSize: 65536, Inline: 4096},
}

func (r *rig) wantParams(ino meta.Ino, want meta.Params) {
	r.t.Helper()
	a, err := r.meta.Getattr(ctx, ino)
	must(r.t, err)
	if a.Params != want || a.Former != (meta.Former{}) || len(a.Wraps) != 1 {
		r.t.Errorf("inode %d: %+v, %d wraps, former %+v; want %+v", ino, a.Params, len(a.Wraps), a.Former, want)
	}
	if (a.Layout == meta.LayoutInline) != (a.Size <= uint64(want.Inline)) && a.Allocated > 0 {
		r.t.Errorf("inode %d: layout %d of %d bytes, inline limit %d", ino, a.Layout, a.Size, want.Inline)
	}
}

// moveTo re-encrypts files for the zone's new parameters.
func (r *rig) moveTo(p meta.Params, step func(int) error, inos ...meta.Ino) error {
	r.t.Helper()
	r.rezone(p)
	for _, ino := range inos {
		a, err := r.meta.Getattr(ctx, ino)
		must(r.t, err)
		epoch := a.Epoch
		if len(a.Wraps) < 8 {
			epoch, err = r.eng.NewEpoch(ctx, ino)
			must(r.t, err)
		}
		if err := r.eng.Reencrypt(ctx, ino, epoch, nil, step); err != nil {
			return err
		}
	}
	return nil
}

// TestMoveBetweenParameters: content of every kind stays what it was while its blocks, compression and layout become those of the zone, from each kind to
// each other, after kills and checkpoints too, and nothing of the former objects is left.
func TestMoveBetweenParameters(t *testing.T) {
	holes := append(words(300<<10, 1), make([]byte, 9<<20)...)
	holes = append(holes, pattern(70_000, 2)...)
	contents := [][]byte{nil, words(1500, 1), words(5000, 2), pattern(200_001, 3), append(words(5<<20, 4), noise(1<<20, 5)...), holes}
	r := newRig(t, rigOptions{disk: true, large: true, inline: 2048})
	var inos []meta.Ino
	for _, data := range contents {
		f := r.file()
		for at := 0; at < len(data); at += 1 << 16 {
			if part := data[at:min(at+1<<16, len(data))]; firstNonZero(part) >= 0 {
				mustWrite(t, f, part, uint64(at))
			}
		}
		must(t, f.Truncate(ctx, uint64(len(data)), WriteOpts{}))
		inos = append(inos, f.Ino())
		must(t, f.Close())
	}
	rng := rand.New(rand.NewPCG(4, 4))
	var order []meta.Params
	for i, from := range moveParams { // a walk over all pairs
		for _, to := range moveParams[i+1:] {
			order = append(order, from, to)
		}
	}
	for i, p := range order {
		if p == order[max(i-1, 0)] && i > 0 {
			continue
		}
		must(t, r.moveTo(p, goOn, inos...))
		switch rng.IntN(3) {
		case 0:
			r.kill()
		case 1:
			must(t, r.eng.Checkpoint(ctx))
		}
		for n, ino := range inos {
			r.wantParams(ino, p)
			f := r.openFile(ino)
			if got := mustRead(t, f, 0, len(contents[n])+1); !bytes.Equal(got, contents[n]) {
				t.Fatalf("step %d, file %d with %+v differs at %d", i, n, p, diff(got, contents[n]))
			}
			must(t, f.Close())
		}
		r.check(inos...)
	}
	a, err := r.meta.Getattr(ctx, inos[5])
	must(t, err)
	if a.Allocated > 2<<20 {
		t.Errorf("%d bytes are allocated for a file of holes", a.Allocated)
	}
	must(t, r.eng.Checkpoint(ctx))
	must(t, r.eng.CheckObjects(ctx, false, func(f Fault) { t.Errorf("left: %+v", f) }))
}

// tightLower is an objects directory that may have no room.
type tightLower struct {
	object.Lower
	full *atomic.Bool
}

func (l tightLower) Space() (object.Space, error) {
	s, err := l.Lower.Space()
	if l.full.Load() {
		s.Avail = 1 << 20
	}
	return s, err
}

// TestMoveGoesOn stops moves after every step, in other processes too; in between the file is used on both sides of the boundary.
func TestMoveGoesOn(t *testing.T) {
	for _, slow := range []bool{false, true} {
		t.Run(fmt.Sprint("slow ", slow), func(t *testing.T) {
			var full atomic.Bool
			r := newRig(t, rigOptions{disk: true, large: true, atOnce: 4 << 20, lower: func(l object.Lower) object.Lower { return tightLower{l, &full} }})
			f := r.file()
			ino := f.Ino()
			rng := rand.New(rand.NewPCG(1, 5))
			model := pattern(14<<20+777, 1)
			mustWrite(t, f, model, 0)
			must(t, f.Close())
			stop := errors.New("stop")
			stops, moving := 0, 0
			for i := 0; ; i++ {
				err := r.moveTo(moveParams[1], func(n int) error {
					if n > 0 {
						return stop
					}
					return nil
				}, ino)
				if err == nil {
					break
				}
				wantErr(t, err, stop)
				stops++
				if slow && i == 0 { // as if there were no room
					full.Store(true)
				}
				f := r.openFile(ino)
				if f.st.moving() {
					moving++
				}
				model = r.disturb(rng, f, model, int(f.st.former.End))
				if got := mustRead(t, f, 0, len(model)+1); !bytes.Equal(got, model) {
					t.Fatalf("stop %d: %d bytes instead of %d, differs at %d", stops, len(got), len(model), diff(got, model))
				}
				must(t, f.Close())
				r.check(ino)
				switch rng.IntN(3) {
				case 0:
					r.kill()
				case 1:
					must(t, r.eng.Checkpoint(ctx))
				}
			}
			if stops < 3 || moving < 2 {
				t.Errorf("%d stops, %d within the move", stops, moving)
			}
			r.wantParams(ino, moveParams[1])
			f = r.openFile(ino)
			if got := mustRead(t, f, 0, len(model)+1); !bytes.Equal(got, model) {
				t.Fatalf("differs at %d", diff(got, model))
			}
			must(t, f.Close())
			must(t, r.eng.Checkpoint(ctx))
			must(t, r.eng.CheckObjects(ctx, false, func(f Fault) { t.Errorf("left: %+v", f) }))
		})
	}
}

// disturb changes a file around the boundary of its move, and returns what it holds.
func (r *rig) disturb(rng *rand.Rand, f *File, model []byte, boundary int) []byte {
	r.t.Helper()
	put := func(off, n int) {
		p := pattern(n, uint64(off))
		mustWrite(r.t, f, p, uint64(off))
		if off+n > len(model) {
			model = resized(model, off+n)
		}
		copy(model[off:], p)
	}
	off, n := max(boundary-rng.IntN(300_000), 0), 1+rng.IntN(600_000)
	put(off, n)
	hole := min(max(boundary-rng.IntN(200_000), 0), len(model))
	must(r.t, f.Fallocate(ctx, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, uint64(hole), 400_000, WriteOpts{}))
	clear(model[hole:min(hole+400_000, len(model))])
	put(len(model), 1000)
	if rng.IntN(4) == 0 && boundary > 0 {
		size := boundary - rng.IntN(min(boundary, 50_000))
		must(r.t, f.Truncate(ctx, uint64(size), WriteOpts{}))
		model = resized(model, size)
		put(len(model)+100_000, 50_000)
	}
	if rng.IntN(2) == 0 {
		must(r.t, f.Sync(ctx))
	}
	return model
}

// objectSize returns the space that a file's present object takes.
func (r *rig) objectSize(f *File) (int64, error) {
	obj, err := r.objects.Get(r.eng.object(f.Ino(), f.st.serial))
	if err != nil {
		return 0, err
	}
	defer obj.Release()
	_, taken, err := obj.Stat()
	return taken, err
}

// TestMoveDisturbed: what is written while a step is under way is not lost, and of what the step wrote in vain nothing is left, not even the length.
func TestMoveDisturbed(t *testing.T) {
	r := newRig(t, rigOptions{disk: true, large: true})
	f := r.file()
	defer f.Close()
	model := pattern(3<<20, 1)
	mustWrite(t, f, model, 0)
	r.rezone(moveParams[1])
	epoch, err := r.eng.NewEpoch(ctx, f.Ino())
	must(t, err)
	must(t, f.withKeys(ctx, func(k *keys) error {
		_, err := f.convert(ctx, k, epoch, moveParams[1])
		return err
	}))
	m := &mover{f: f, step: mostStep}
	for i, disturb := range []func(){
		func() { mustWrite(t, f, pattern(10, 9), 2<<20); copy(model[2<<20:], pattern(10, 9)) },
		func() {
			must(t, f.Fallocate(ctx, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096, WriteOpts{}))
			clear(model[:4096])
		},
		func() { must(t, f.Truncate(ctx, 2<<20+5, WriteOpts{})); model = model[:2<<20+5] },
		func() {
			mustWrite(t, f, pattern(10, 3), 3<<20-10)
			model = append(resized(model, 3<<20-10), pattern(10, 3)...)
		},
		func() { _, err := r.eng.NewEpoch(ctx, f.Ino()); must(t, err) },
	} {
		err := f.withKeys(ctx, func(k *keys) error {
			s, to, obj, err := m.begin(ctx, k)
			if err != nil {
				return err
			}
			defer obj.Release()
			defer m.end()
			now := f.epoch.Load()
			if err := m.readBeside(ctx, k, s); err != nil {
				return err
			}
			must(t, m.write(k, to, now, obj))
			disturb()
			_, err = m.commit(ctx, s, now)
			return m.abandon(ctx, obj, to, s, err)
		})
		wantErr(t, err, errDisturbed)
		if taken, err := r.objectSize(f); err != nil || taken != 0 {
			t.Errorf("disturbance %d: %d bytes are left of what was written in vain, %v", i, taken, err)
		}
		must(t, r.eng.CheckObjects(ctx, false, func(f Fault) { t.Errorf("disturbance %d left %+v", i, f) }))
		if got := mustRead(t, f, 0, len(model)+1); !bytes.Equal(got, model) {
			t.Fatalf("disturbance %d: differs at %d", i, diff(got, model))
		}
	}
	must(t, f.move(ctx, steps{done: goOn}))
	if got := mustRead(t, f, 0, len(model)+1); !bytes.Equal(got, model) {
		t.Fatalf("differs at %d", diff(got, model))
	}
	r.check(f.Ino())
}

// TestMoveFails: of a step that could not be written, or was stopped before it was committed, nothing is left when the file is cut then.
func TestMoveFails(t *testing.T) {
	for _, call := range []string{"write", "stop"} {
		t.Run(call, func(t *testing.T) {
			faults, wrap := newFaults()
			r := newRig(t, rigOptions{disk: true, large: true, lower: wrap})
			f := r.file()
			defer f.Close()
			model := pattern(2<<20+5, 1)
			mustWrite(t, f, model, 0)
			must(t, f.Sync(ctx))
			epoch, err := r.eng.NewEpoch(ctx, f.Ino())
			must(t, err)
			stopping, stop := context.WithCancel(ctx)
			want := error(syscall.ENOSPC)
			if call == "stop" {
				want = context.Canceled
				faults.before("datasync", stop)
			} else {
				faults.set("write", want)
			}
			wantErr(t, r.eng.Reencrypt(stopping, f.Ino(), epoch, nil, func(int) error { return want }), want)
			stop()
			faults.set("write", nil)
			if taken, err := r.objectSize(f); err != nil || taken != 0 || !f.st.moving() {
				t.Errorf("%d bytes are left of what was written in vain, %v", taken, err)
			}
			must(t, f.Truncate(ctx, 1<<20+5, WriteOpts{}))
			must(t, r.eng.Checkpoint(ctx))
			must(t, r.eng.CheckObjects(ctx, false, func(f Fault) { t.Errorf("left: %+v", f) }))
			must(t, r.eng.Reencrypt(ctx, f.Ino(), epoch, nil, goOn))
			if got := mustRead(t, f, 0, len(model)); !bytes.Equal(got, model[:1<<20+5]) {
				t.Fatalf("differs at %d", diff(got, model))
			}
			r.onlySince(f.Ino(), epoch)
			r.check(f.Ino())
		})
	}
}
