package content

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"github.com/kmsfs/kmsfs/meta"
)

// TestSealAhead: what is sealed before the file is locked is used if plane and epoch are still those, and only then.
func TestSealAhead(t *testing.T) {
	r := newRig(t, rigOptions{})
	f := r.file()
	defer f.Close()
	mustWrite(t, f, r.pattern(64<<10, 1), 0)
	for _, tc := range []struct {
		what   string
		off    uint64
		n      int
		blocks int
	}{
		{"whole blocks", 64 << 10, 1 << 20, 256},
		{"a part at the end", 4096, 4096 + 5, 1},
		{"not from the start of a block", 5, 4096, 0},
		{"less than a block", 0, 4095, 0},
	} {
		a := sealedAhead(t, f, r.pattern(tc.n, 2), tc.off)
		got := 0
		if a != nil {
			got = len(a.sealed)
		}
		if got != tc.blocks {
			t.Errorf("%s: %d blocks are sealed, want %d", tc.what, got, tc.blocks)
		}
		a.drop()
	}
	p := r.pattern(1<<20, 3)
	mustWrite(t, f, p, 32<<10)
	if got := mustRead(t, f, 32<<10, 1<<20); !bytes.Equal(got, p) {
		t.Errorf("content differs at %d", diff(got, p))
	}
	if _, err := r.eng.NewEpoch(ctx, f.Ino()); err != nil {
		t.Fatal(err)
	}
	if a := sealedAhead(t, f, p, 0); a != nil {
		t.Error("blocks are sealed under a key of which no row says that it was used")
	}
	mustWrite(t, f, p[:4096], 0)
	if a := sealedAhead(t, f, p, 0); a == nil {
		t.Error("no blocks are sealed under the new key")
	}
	r.check(f.Ino())
}

func sealedAhead(t *testing.T, f *File, p []byte, off uint64) (a *ahead) {
	t.Helper()
	must(t, f.withKeys(ctx, func(k *keys) error {
		a = f.sealAhead(k, p, off)
		return nil
	}))
	return a
}

// TestSealedTooEarly: the file gets another key, and then another object, between the sealing of a write and its turn.
func TestSealedTooEarly(t *testing.T) {
	r := newRig(t, rigOptions{})
	f := r.file()
	defer f.Close()
	mustWrite(t, f, r.pattern(64<<10, 1), 0)
	p := r.pattern(256<<10, 2)
	write := func(between func(), off uint64) {
		t.Helper()
		a := sealedAhead(t, f, p, off)
		if a == nil {
			t.Fatal("nothing was sealed")
		}
		defer a.drop()
		between()
		must(t, f.withKeys(ctx, func(k *keys) error {
			_, err := f.writeSealed(ctx, k, a, p, off, WriteOpts{})
			return err
		}))
		if got := mustRead(t, f, off, len(p)); !bytes.Equal(got, p) {
			t.Errorf("content differs at %d", diff(got, p))
		}
		r.check(f.Ino())
	}
	write(func() {
		_, err := r.eng.NewEpoch(ctx, f.Ino())
		must(t, err)
	}, 32<<10)
	params := *r.params()
	params.BlockSize = 16 << 10
	r.rezone(params)
	epoch, err := r.eng.NewEpoch(ctx, f.Ino())
	must(t, err)
	mustWrite(t, f, p[:4096], 0)
	write(func() { must(t, r.eng.Reencrypt(ctx, f.Ino(), epoch, nil, func(int) error { return nil })) }, 64<<10)
	if f.BlockSize() != 16<<10 {
		t.Errorf("blocks of %d bytes", f.BlockSize())
	}
}

// TestKeyDroppedMeanwhile: an operation that is about to use a key which a re-encryption drops begins anew with those that there are.
func TestKeyDroppedMeanwhile(t *testing.T) {
	r := newRig(t, rigOptions{})
	f := r.file()
	defer f.Close()
	mustWrite(t, f, r.pattern(64<<10, 1), 0)
	old := f.presentKey()
	epoch, err := r.eng.NewEpoch(ctx, f.Ino())
	must(t, err)
	must(t, r.eng.Reencrypt(ctx, f.Ino(), epoch, nil, func(int) error { return nil }))
	r.eng.ForgetKeys(func(meta.Ino) bool { return true })
	runs := 0
	must(t, f.withKeys(ctx, func(*keys) error {
		if runs++; runs == 1 {
			return &missingKey{old}
		}
		return nil
	}))
	if runs != 2 {
		t.Errorf("%d runs", runs)
	}
	wantErr(t, f.withKeys(ctx, func(*keys) error { return &missingKey{old} }), meta.ErrNotFound) // a row that names a key that is not there
}

// TestSealAheadWhileKeysChange: writers of large chunks and of blocks, while the file gets new keys, is made shorter and checkpointed. Each block is all of one write.
func TestSealAheadWhileKeysChange(t *testing.T) {
	r := newRig(t, rigOptions{})
	f := r.file()
	defer f.Close()
	const chunk, chunks = 256 << 10, 8
	mustWrite(t, f, bytes.Repeat([]byte{1}, chunk*chunks), 0)
	var wg sync.WaitGroup
	work := func(fn func(i int) error) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 40 {
				if err := fn(i); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	for w := range 4 {
		work(func(i int) error {
			n := []int{chunk, 4096, chunk + 100}[i%3]
			_, err := f.WriteAt(ctx, bytes.Repeat([]byte{byte(1 + w*50 + i)}, n), uint64((i*5+w)%(chunks-2)*chunk), WriteOpts{})
			return err
		})
	}
	work(func(i int) error {
		switch i % 8 {
		case 0:
			epoch, err := r.eng.NewEpoch(ctx, f.Ino())
			if err != nil {
				return err
			}
			return r.eng.Reencrypt(ctx, f.Ino(), epoch, nil, func(int) error { return nil })
		case 3:
			return f.Truncate(ctx, uint64(i%chunks*chunk), WriteOpts{})
		case 6:
			return r.eng.Checkpoint(ctx)
		}
		return nil
	})
	wg.Wait()
	got := mustRead(t, f, 0, chunk*chunks)
	for off := 0; off < len(got); off += 4096 {
		b := got[off:min(off+4096, len(got))]
		if b = b[min(100, len(b)):]; len(b) > 0 && bytes.Count(b, b[:1]) != len(b) {
			t.Fatal(fmt.Errorf("the block at %d is of several pieces", off))
		}
	}
	r.check(f.Ino())
}

// TestUsesGranted: before a row says so, no use of a key may be taken but by its transaction.
func TestUsesGranted(t *testing.T) {
	var u keyUses
	const limit = 1 << 20
	u.start(7, 0)
	if u.takeGranted(7, 1, limit) {
		t.Error("taken before any reservation")
	}
	u.take(1)
	reserved := u.reservation()
	if u.takeGranted(7, 1, limit) {
		t.Error("taken before the reservation is committed")
	}
	u.grant(6, reserved)
	if u.takeGranted(7, 1, limit) {
		t.Error("taken by the grant of another epoch")
	}
	u.grant(7, reserved)
	if u.takeGranted(6, 1, limit) {
		t.Error("taken from another epoch")
	}
	if u.takeGranted(7, reserved, limit) {
		t.Error("more taken than was granted")
	}
	if u.takeGranted(7, 10, 10+epochReserve) {
		t.Error("taken of what operations need")
	}
	if !u.takeGranted(7, reserved-1, limit) || u.left(limit) != limit-reserved {
		t.Errorf("not taken what was granted: %d are left", u.left(limit))
	}
	if u.takeGranted(7, 1, limit) {
		t.Error("taken after all was")
	}
	if u.reservation() < reserved+minReservation {
		t.Errorf("%d reserved after %d were used", u.reservation(), reserved)
	}
}
