package content

import (
	"bytes"
	"math/rand/v2"
	"syscall"
	"testing"
)

// TestWriteParts: blocks that do not lie side by side are one transaction.
func TestWriteParts(t *testing.T) {
	r := newRig(t, rigOptions{disk: true})
	f := r.file()
	data := r.pattern(64*4096, 1)
	mustWrite(t, f, data, 0)
	must(t, f.Sync(ctx))
	var parts []Part
	for i, block := range []int{7, 3, 40, 80, 64} { // 80 leaves a hole
		p := Part{Off: uint64(block * 4096), Data: r.pattern(4096, uint64(10+i))}
		parts = append(parts, p)
		data = resized(data, max(len(data), int(p.Off)+4096))
		copy(data[p.Off:], p.Data)
	}
	before := r.meta.LastRev()
	done, err := f.WriteParts(ctx, parts, WriteOpts{})
	must(t, err)
	if !done || r.meta.LastRev() != before+1 {
		t.Fatalf("done %v, in %d transactions", done, r.meta.LastRev()-before)
	}
	same := func(when string) {
		t.Helper()
		if got := mustRead(t, f, 0, len(data)+1); !bytes.Equal(got, data) {
			t.Errorf("%s: content differs at %d", when, diff(got, data))
		}
		r.check(f.Ino())
	}
	same("at once")
	ino := f.Ino()
	must(t, f.Close())
	r.kill()
	f = r.openFile(ino)
	same("after a kill")
	must(t, f.Close())
}

// TestPartsThatAreNot: what is not done leaves everything as it was.
func TestPartsThatAreNot(t *testing.T) {
	faults, wrap := newFaults()
	r := newRig(t, rigOptions{inline: 4096, lower: wrap})
	small, f := r.file(), r.file()
	defer small.Close()
	defer f.Close()
	mustWrite(t, small, []byte("inline"), 0)
	data := r.pattern(8*4096, 1)
	mustWrite(t, f, data, 0)
	block := r.pattern(4096, 2)
	for _, tc := range []struct {
		what  string
		f     *File
		parts []Part
	}{
		{"a part of a block", f, []Part{{0, block}, {4096, block[:100]}}},
		{"not from the start of a block", f, []Part{{0, block}, {4097, block}}},
		{"the same block twice", f, []Part{{4096, block}, {4096, block}}},
		{"nothing", f, []Part{{0, block}, {4096, nil}}},
		{"behind all files", f, []Part{{0, block}, {^uint64(0) &^ 4095, block}}},
		{"inline content", small, []Part{{4096, block}, {8192, block}}},
	} {
		before := r.meta.LastRev()
		done, err := tc.f.WriteParts(ctx, tc.parts, WriteOpts{})
		if done || err != nil || r.meta.LastRev() != before {
			t.Errorf("%s: done %v, %v, %d transactions", tc.what, done, err, r.meta.LastRev()-before)
		}
	}
	faults.set("write", syscall.EIO)
	done, err := f.WriteParts(ctx, []Part{{0, block}, {20 * 4096, block}}, WriteOpts{})
	if wantErr(t, err, syscall.EIO); done || f.Size() != uint64(len(data)) {
		t.Errorf("done %v, size %d", done, f.Size())
	}
	faults.set("write", nil)
	if got := mustRead(t, f, 0, len(data)+1); !bytes.Equal(got, data) {
		t.Errorf("content differs at %d", diff(got, data))
	}
	r.check(f.Ino(), small.Ino())
}

// TestPartsAndPower: after a cut all parts of a write are there, or none.
func TestPartsAndPower(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 3))
		r := newRig(t, rigOptions{disk: true, cutting: true})
		f := r.file()
		old := bytes.Repeat([]byte{1}, 32*4096)
		mustWrite(t, f, old, 0)
		must(t, f.Sync(ctx))
		parts := []Part{{2 * 4096, bytes.Repeat([]byte{2}, 4096)}, {20 * 4096, bytes.Repeat([]byte{2}, 4096)}, {50 * 4096, bytes.Repeat([]byte{2}, 4096)}}
		done, err := f.WriteParts(ctx, parts, WriteOpts{})
		if must(t, err); !done {
			t.Fatal("not done")
		}
		synced := seed%2 == 0
		if synced {
			must(t, f.Sync(ctx))
		}
		ino := f.Ino()
		must(t, f.Close())
		r.cutPower(rng)
		f = r.openFile(ino)
		got := mustRead(t, f, 0, 51*4096)
		if len(got) != 51*4096 && (synced || len(got) != len(old)) {
			t.Fatalf("%d bytes, synced %v", len(got), synced)
		}
		for _, p := range parts[:2] {
			if want := byte(1 + len(got)/(51*4096)); got[p.Off] != want || bytes.Count(got[p.Off:][:4096], []byte{want}) != 4096 {
				t.Errorf("the block at %d begins with %d, of %d bytes in all", p.Off, got[p.Off], len(got))
			}
		}
		if len(got) > len(old) && synced && got[50*4096] != 2 {
			t.Error("the block behind the old end is not there")
		}
		must(t, f.Close())
	}
}
