package content

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/fs/object"
	"github.com/kmsfs/kmsfs/meta"
)

// attack changes an object behind the volume's back. bad says which blocks must not open then; nil means all.
type attack struct {
	name string
	do   func(t *testing.T, path, other string)
	bad  []int
	also error
}

const attackBlock = 4096

// attacks act on an object of four blocks of 4 KiB, the last one of 100 bytes.
func attacks() []attack {
	list := []attack{
		{name: "delete", do: func(t *testing.T, path, _ string) { must(t, os.Remove(path)) }, also: object.ErrMissing},
		{name: "empty", do: func(t *testing.T, path, _ string) { must(t, os.Truncate(path, 0)) }, also: object.ErrTruncated},
		{name: "one byte short", do: func(t *testing.T, path, _ string) { must(t, os.Truncate(path, 3*attackBlock+99)) }, bad: []int{3}, also: object.ErrTruncated},
		{name: "zeros", do: func(t *testing.T, path, _ string) {
			must(t, os.Truncate(path, 0))
			must(t, os.Truncate(path, 3*attackBlock+100))
		}},
		{name: "another file's", do: func(t *testing.T, path, other string) { must(t, os.WriteFile(path, readFile(t, other), 0o600)) }},
		{name: "renamed from another", do: func(t *testing.T, path, other string) { must(t, os.Rename(other, path)) }},
		{name: "blocks swapped", do: func(t *testing.T, path, _ string) {
			b := readFile(t, path)
			one := bytes.Clone(b[:attackBlock])
			copy(b, b[attackBlock:2*attackBlock])
			copy(b[attackBlock:], one)
			must(t, os.WriteFile(path, b, 0o600))
		}, bad: []int{0, 1}},
		{name: "symlink", do: func(t *testing.T, path, other string) {
			must(t, os.Rename(path, path+".moved"))
			must(t, os.Symlink(path+".moved", path))
		}, also: object.ErrHostile},
		{name: "hard link", do: func(t *testing.T, path, _ string) { must(t, os.Link(path, path+".link")) }, also: object.ErrHostile},
		{name: "fifo", do: func(t *testing.T, path, _ string) {
			must(t, os.Remove(path))
			must(t, unix.Mkfifo(path, 0o600))
		}, also: object.ErrHostile},
		{name: "directory", do: func(t *testing.T, path, _ string) {
			must(t, os.Remove(path))
			must(t, os.Mkdir(path, 0o700))
		}, also: object.ErrHostile},
		{name: "linked directory", do: func(t *testing.T, path, _ string) {
			dir := filepath.Dir(path)
			must(t, os.Rename(dir, dir+"moved"))
			must(t, os.Symlink(dir+"moved", dir))
		}, also: object.ErrHostile},
	}
	for _, at := range []int{0, 1, attackBlock - 1, attackBlock, 2*attackBlock + 17, 3 * attackBlock, 3*attackBlock + 99} {
		list = append(list, attack{name: fmt.Sprintf("flip byte %d", at), bad: []int{at / attackBlock}, do: func(t *testing.T, path, _ string) {
			b := readFile(t, path)
			b[at] ^= 1
			must(t, os.WriteFile(path, b, 0o600))
		}})
	}
	return list
}

func readFile(t tester, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}

// TestAttacks changes objects and expects errors, never other data, and that blocks left alone stay readable.
func TestAttacks(t *testing.T) {
	for _, a := range attacks() {
		t.Run(a.name, func(t *testing.T) {
			r := newRig(t, rigOptions{})
			f, other := r.file(), r.file()
			ino := f.Ino()
			data := pattern(3*attackBlock+100, 1)
			mustWrite(t, f, data, 0)
			mustWrite(t, other, pattern(len(data), 2), 0)
			path, otherPath := r.objectPath(f), r.objectPath(other)
			must(t, f.Close())
			must(t, other.Close())
			must(t, r.eng.Close(ctx))
			must(t, r.objects.Close())
			a.do(t, path, otherPath)
			r.open()

			f = r.openFile(ino)
			defer f.Close()
			for block := range 4 {
				want := data[block*attackBlock : min((block+1)*attackBlock, len(data))]
				p := make([]byte, len(want))
				n, err := f.ReadAt(ctx, p, uint64(block*attackBlock))
				if !isBad(a.bad, block) {
					if must(t, err); !bytes.Equal(p[:n], want) {
						t.Fatalf("block %d was left alone and differs", block)
					}
					continue
				}
				expectDamage(t, err, n, p, a.also)
			}
			p := make([]byte, len(data))
			n, err := f.ReadAt(ctx, p, 0)
			expectDamage(t, err, n, p, a.also)

			faults := 0
			must(t, r.eng.CheckFile(ctx, ino, func(f Fault) {
				if f.Kind == FaultBlock {
					faults++
				}
			}))
			if want := badBlocks(a.bad); faults != want {
				t.Errorf("check found %d bad blocks, want %d", faults, want)
			}
		})
	}
}

func isBad(bad []int, block int) bool {
	for _, b := range bad {
		if b == block {
			return true
		}
	}
	return bad == nil
}

func badBlocks(bad []int) int {
	if bad == nil {
		return 4
	}
	return len(bad)
}

func expectDamage(t *testing.T, err error, n int, p []byte, also error) {
	t.Helper()
	wantErr(t, err, ErrDamaged, meta.ErrAuth)
	if also != nil {
		wantErr(t, err, also)
	}
	if n != 0 || firstNonZero(p) >= 0 {
		t.Fatalf("%d bytes returned with the error, buffer holds something", n)
	}
}

// TestOldBlock puts older versions of a block and of the whole object back.
func TestOldBlock(t *testing.T) {
	r := newRig(t, rigOptions{})
	f := r.file()
	mustWrite(t, f, pattern(2*attackBlock, 1), 0)
	must(t, r.eng.Checkpoint(ctx))
	path := r.objectPath(f)
	old := readFile(t, path)
	mustWrite(t, f, pattern(attackBlock, 2), 0)
	must(t, r.eng.Checkpoint(ctx))
	if bytes.Equal(readFile(t, path), old) {
		t.Fatal("the checkpoint did not settle the new block")
	}
	must(t, os.WriteFile(path, old, 0o600))
	p := make([]byte, attackBlock)
	n, err := f.ReadAt(ctx, p, 0)
	expectDamage(t, err, n, p, nil)
	if got := mustRead(t, f, attackBlock, attackBlock); !bytes.Equal(got, old2(1)) {
		t.Fatal("the block that did not change differs")
	}

	// A damaged block cannot be changed in part, but overwritten or cut off.
	_, err = f.WriteAt(ctx, []byte("x"), 100, WriteOpts{})
	wantErr(t, err, ErrDamaged)
	wantErr(t, f.Truncate(ctx, 100, WriteOpts{}), ErrDamaged)
	if f.Size() != 2*attackBlock {
		t.Fatalf("size is %d after a truncate that failed", f.Size())
	}
	mustWrite(t, f, pattern(attackBlock, 3), 0)
	if got := mustRead(t, f, 0, attackBlock); !bytes.Equal(got, pattern(attackBlock, 3)) {
		t.Fatal("overwritten block differs")
	}
	must(t, f.Truncate(ctx, 0, WriteOpts{}))
	must(t, f.Close())
}

// old2 returns the second block of pattern(2*attackBlock, seed).
func old2(seed uint64) []byte { return pattern(2*attackBlock, seed)[attackBlock:] }

// TestHugeObject: an object that grew behind our back, to any length, changes nothing.
func TestHugeObject(t *testing.T) {
	r := newRig(t, rigOptions{})
	f := r.file()
	defer f.Close()
	data := pattern(5000, 1)
	mustWrite(t, f, data, 0)
	must(t, os.Truncate(r.objectPath(f), 1<<40))
	if got := mustRead(t, f, 0, 10000); !bytes.Equal(got, data) {
		t.Fatal("content differs")
	}
	kinds := map[FaultKind]int{}
	must(t, r.eng.CheckObjects(ctx, true, func(f Fault) { kinds[f.Kind]++ }))
	if kinds[FaultLength] != 1 {
		t.Fatalf("faults: %v", kinds)
	}
	must(t, r.eng.CheckObjects(ctx, false, func(f Fault) { t.Errorf("after reclaiming: %+v", f) }))
	if got := mustRead(t, f, 0, 10000); !bytes.Equal(got, data) {
		t.Fatal("content differs after reclaiming")
	}
}

// TestStrangers: what is no object is reported and left alone; an object without a file is removed; one that waits for its checkpoint is not.
func TestStrangers(t *testing.T) {
	r := newRig(t, rigOptions{})
	f := r.file()
	mustWrite(t, f, pattern(5000, 1), 0)
	dir := filepath.Join(r.dir, "objects")
	must(t, os.WriteFile(filepath.Join(dir, "note"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(filepath.Dir(r.objectPath(f)), "note"), nil, 0o600))
	orphan := r.namer.ID(99, 1).String()
	must(t, os.MkdirAll(filepath.Join(dir, orphan[:2]), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, orphan[:2], orphan), []byte("x"), 0o600))
	waiting := r.objectPath(f)
	must(t, r.eng.Checkpoint(ctx))
	must(t, f.Truncate(ctx, 0, WriteOpts{}))

	kinds := map[FaultKind]int{}
	must(t, r.eng.CheckObjects(ctx, true, func(f Fault) { kinds[f.Kind]++ }))
	if kinds[FaultStranger] != 2 || kinds[FaultOrphan] != 1 || len(kinds) != 2 {
		t.Fatalf("faults: %v", kinds)
	}
	if _, err := os.Stat(filepath.Join(dir, "note")); err != nil {
		t.Fatal("a stranger was removed")
	}
	if _, err := os.Stat(filepath.Join(dir, orphan[:2], orphan)); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("the orphan was not removed")
	}
	if _, err := os.Stat(waiting); err != nil {
		t.Fatal("an object was removed before its checkpoint")
	}
	must(t, r.eng.Checkpoint(ctx))
	if _, err := os.Stat(waiting); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("the checkpoint did not remove the object")
	}
	must(t, f.Close())
}

// TestImageTampered flips bytes of an image row, which nothing but the block's own tag protects on disk.
func TestImageTampered(t *testing.T) {
	for at := range 12 {
		r := newRig(t, rigOptions{})
		f := r.file()
		mustWrite(t, f, pattern(4096, 1), 0)
		mustWrite(t, f, pattern(4096, 2), 0) // an image
		key := meta.ImageKey(f.Ino(), 0)
		r.flip(key, at)
		p := make([]byte, 4096)
		n, err := f.ReadAt(ctx, p, 0)
		expectDamage(t, err, n, p, nil)
		must(t, f.Close())
	}
}

// flip changes one byte of a row.
func (r *rig) flip(key []byte, at int) {
	r.t.Helper()
	r.editRow(key, func(v []byte) []byte { v[at] ^= 1; return v })
}

// TestEmptyImage and others that are too short, or of another block size or object.
func TestForgedImages(t *testing.T) {
	forged := map[string]func(v []byte) []byte{
		"short":        func(v []byte) []byte { return v[:5] },
		"header only":  func(v []byte) []byte { return v[:meta.ImageHeader] },
		"one byte":     func(v []byte) []byte { return v[:meta.ImageHeader+1] },
		"block size":   func(v []byte) []byte { v[8] = 63; return v },
		"other size":   func(v []byte) []byte { v[8]++; return v },
		"other object": func(v []byte) []byte { v[7]++; return v },
		"longer":       func(v []byte) []byte { return append(v, 0) },
	}
	for name, forge := range forged {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rigOptions{})
			f := r.file()
			defer f.Close()
			mustWrite(t, f, pattern(1000, 1), 0)
			mustWrite(t, f, pattern(1000, 2), 0)
			r.editRow(meta.ImageKey(f.Ino(), 0), forge)
			p := make([]byte, 1000)
			n, err := f.ReadAt(ctx, p, 0)
			expectDamage(t, err, n, p, nil)
		})
	}
}

func TestSettlerRefuses(t *testing.T) {
	r := newRig(t, rigOptions{})
	s := NewSettler(r.objects, r.namer)
	image, _ := newImage(1, 4096, 100)
	for name, row := range map[string]struct{ key, value []byte }{
		"other key":   {[]byte("A12345678"), image},
		"short key":   {[]byte("B1234"), image},
		"empty":       {meta.ImageKey(5, 0), nil},
		"header only": {meta.ImageKey(5, 0), image[:meta.ImageHeader]},
		"far out":     {meta.ImageKey(5, 1<<59), image},
		"far above":   {meta.ImageKey(5, meta.UpperBlock+1<<59), image},
		"too long":    {meta.ImageKey(5, 0), append(image, make([]byte, 4096)...)},
	} {
		if err := s.Settle(ctx, row.key, row.value); !errors.Is(err, meta.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, s.Settle(ctx, meta.MarkerKey(5), []byte{1}))
	must(t, s.Settle(ctx, meta.ImageKey(5, 3), image))
	obj, err := r.objects.Get(object.ID(r.namer.ID(5, 1)))
	must(t, err)
	defer obj.Release()
	p := make([]byte, 100)
	must(t, obj.ReadAt(p, blockcrypt.SlotOff(3, 4096)))
}

// FuzzParseImage: parsing never panics, and what it accepts is within bounds.
func FuzzParseImage(f *testing.F) {
	image, _ := newImage(7, 4096, 10)
	f.Add(image)
	f.Add(image[:9])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, blockSize, ciphertext, err := parseImage(b)
		if err != nil {
			if !errors.Is(err, meta.ErrCorrupt) {
				t.Fatalf("error is %v", err)
			}
			return
		}
		if blockcrypt.ValidBlockSize(blockSize) != nil || len(ciphertext) == 0 || len(ciphertext) > blockSize {
			t.Fatalf("accepted block size %d, %d bytes", blockSize, len(ciphertext))
		}
	})
}
