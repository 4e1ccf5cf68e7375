package content

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/meta"
)

// TestKeysGone: without keys nothing is read or written, cached ciphers or not; when they are back it goes on.
func TestKeysGone(t *testing.T) {
	for _, inline := range []int{0, 4096} {
		for _, gone := range []error{meta.ErrKeyUnavailable, meta.ErrKeyRevoked} {
			r := newRig(t, rigOptions{inline: inline})
			f := r.file()
			mustWrite(t, f, pattern(1000, 1), 0)
			r.vol.Keyring.Fail(gone)
			p := make([]byte, 1000)
			n, err := f.ReadAt(ctx, p, 0)
			if wantErr(t, err, gone); n != 0 || firstNonZero(p) >= 0 {
				t.Fatal("bytes came with the error")
			}
			_, err = f.WriteAt(ctx, p, 0, WriteOpts{})
			wantErr(t, err, gone)
			wantErr(t, f.Truncate(ctx, 10, WriteOpts{}), gone)
			if errors.Is(err, ErrDamaged) {
				t.Fatalf("missing keys reported as damage: %v", err)
			}
			must(t, f.Sync(ctx))
			must(t, r.eng.Checkpoint(ctx))
			keyFaults := 0
			must(t, r.eng.CheckFile(ctx, f.Ino(), func(f Fault) {
				if keyFaults++; f.Kind != FaultKey {
					t.Errorf("check without keys: %+v", f)
				}
			}))
			if keyFaults != 1 {
				t.Errorf("%d faults for missing keys", keyFaults)
			}
			r.eng.dropInvalidKeys()
			if r.eng.ciphers.len() != 0 {
				t.Error("block keys are kept without their zone's")
			}
			r.vol.Keyring.Fail(nil)
			if got := mustRead(t, f, 0, 2000); !bytes.Equal(got, pattern(1000, 1)) {
				t.Fatal("content differs")
			}
			must(t, f.Close())
		}
	}
}

// TestEpochs uses up keys, and reads blocks of all epochs.
func TestEpochs(t *testing.T) {
	r := newRig(t, rigOptions{maxUses: 2*maxBlocks + 100})
	f := r.file()
	data := make([]byte, 64*4096)
	for i := range 640 {
		p := pattern(4096, uint64(i))
		at := i % 64 * 4096
		mustWrite(t, f, p, uint64(at))
		copy(data[at:], p)
		if i == 600 {
			must(t, r.eng.Checkpoint(ctx))
		}
	}
	mustWrite(t, f, []byte("part of an old block"), 63*4096+5)
	copy(data[63*4096+5:], "part of an old block")
	if got := mustRead(t, f, 0, 1<<20); !bytes.Equal(got, data) {
		t.Fatalf("content differs at %d", diff(got, data))
	}
	a, err := f.Attr(ctx)
	must(t, err)
	if len(a.Wraps) < 6 {
		t.Fatalf("%d epochs after 640 uses of at most 100", len(a.Wraps))
	}
	r.check(f.Ino())
	ino := f.Ino()
	must(t, f.Close())
	r.remount()
	f = r.openFile(ino)
	defer f.Close()
	if got := mustRead(t, f, 0, 1<<20); !bytes.Equal(got, data) {
		t.Fatalf("content differs at %d after a remount", diff(got, data))
	}
}

// TestUsesAreReserved: what is recorded is never less than what was used, and opening a file often does not use up its key.
func TestUsesAreReserved(t *testing.T) {
	r := newRig(t, rigOptions{})
	ino := r.create()
	used := uint64(0)
	for i := range 50 {
		f := r.openFile(ino)
		for range i {
			mustWrite(t, f, pattern(3*4096, 1), 0)
			used += 3
		}
		a, err := f.Attr(ctx)
		must(t, err)
		if got := a.Wrap(a.Epoch).Uses; got < used {
			t.Fatalf("%d uses recorded, %d made", got, used)
		}
		must(t, f.Close())
		if i%10 == 0 {
			r.kill()
		}
	}
	a, err := r.meta.Getattr(ctx, ino)
	must(t, err)
	if got := a.Wrap(a.Epoch).Uses; got > used+50*minReservation {
		t.Errorf("%d uses recorded for %d", got, used)
	}
}

// TestCountingSurvivesFailure: uses of a write that failed count too.
func TestCountingSurvivesFailure(t *testing.T) {
	faults, wrap := newFaults()
	r := newRig(t, rigOptions{lower: wrap})
	f := r.file()
	defer f.Close()
	mustWrite(t, f, pattern(4096, 1), 0)
	before := f.uses.used
	faults.set("write", errors.New("no"))
	if _, err := f.WriteAt(ctx, pattern(5*4096, 2), 4096, WriteOpts{}); err == nil {
		t.Fatal("no error")
	}
	if got := f.uses.used - before; got != 5 {
		t.Fatalf("%d uses counted for 5", got)
	}
}

func TestErrorsNameThePlace(t *testing.T) {
	r := newRig(t, rigOptions{})
	f := r.file()
	defer f.Close()
	mustWrite(t, f, pattern(3*4096, 1), 0)
	mustWrite(t, f, pattern(4096, 2), 2*4096)
	r.flip(meta.ImageKey(f.Ino(), 2), 50)
	_, err := f.ReadAt(ctx, make([]byte, 3*4096), 0)
	wantErr(t, err, ErrDamaged)
	for _, part := range []string{"read inode 2", "block 2"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}

// TestKillSUID follows what Linux clears on write, truncate and fallocate.
func TestKillSUID(t *testing.T) {
	for _, c := range []struct{ mode, want uint32 }{
		{0o6755, 0o0755}, {0o4755, 0o0755}, {0o2755, 0o0755}, {0o2745, 0o2745}, {0o6645, 0o2645}, {0o1755, 0o1755},
	} {
		for i, change := range []func(f *File, o WriteOpts) error{
			func(f *File, o WriteOpts) error { _, err := f.WriteAt(ctx, []byte("x"), 0, o); return err },
			func(f *File, o WriteOpts) error { return f.Truncate(ctx, 5, o) },
			func(f *File, o WriteOpts) error { return f.Fallocate(ctx, 0, 0, 10, o) },
		} {
			for _, kill := range []bool{false, true} {
				r := newRig(t, rigOptions{inline: 4096})
				f := r.file()
				_, err := r.meta.SetAttr(ctx, f.Ino(), func(a *meta.Attr) error {
					a.Mode = meta.ModeRegular | c.mode
					return nil
				})
				must(t, err)
				must(t, change(f, WriteOpts{KillSUID: kill}))
				a, err := f.Attr(ctx)
				must(t, err)
				want := c.mode
				if kill {
					want = c.want
				}
				if got := a.Mode &^ meta.ModeType; got != want {
					t.Errorf("change %d, kill %v: %o became %o, want %o", i, kill, c.mode, got, want)
				}
				must(t, f.Close())
			}
		}
	}
}
