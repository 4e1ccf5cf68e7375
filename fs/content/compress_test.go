package content

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/fs/codec"
	"github.com/kmsfs/kmsfs/meta"
)

const codedBlock = 64 << 10

func compressing(o rigOptions) rigOptions {
	o.blockSize, o.codec = codedBlock, meta.CodecZstd
	return o
}

// words returns n bytes that compress well.
func words(n int, seed uint64) []byte {
	b := make([]byte, n)
	word := pattern(100, seed)
	for i := range b {
		b[i] = word[i%len(word)] ^ byte(i/3000)
	}
	return b
}

// noise returns n bytes that do not compress.
func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// sameSpace compares what the inode says to take with what the object takes, its map of extents included.
func sameSpace(t *testing.T, r *rig, f *File, limit uint64) {
	t.Helper()
	a, err := f.Attr(ctx)
	must(t, err)
	var st unix.Stat_t
	must(t, unix.Stat(r.objectPath(f), &st))
	if took := uint64(st.Blocks) * 512; took < a.Allocated || took > a.Allocated+4096 {
		t.Errorf("%d bytes allocated, the object takes %d", a.Allocated, st.Blocks*512)
	}
	if a.Allocated > limit {
		t.Errorf("%d bytes allocated, at most %d were expected", a.Allocated, limit)
	}
}

// TestCompressedSpace: what compression saves is free below, also where a shorter version replaces a longer one.
func TestCompressedSpace(t *testing.T) {
	r := newRig(t, compressing(rigOptions{disk: true, large: true}))
	f := r.file()
	defer f.Close()
	const n = 8 * codedBlock
	good, bad := words(n, 1), noise(n, 2)
	mustWrite(t, f, good, 0)
	sameSpace(t, r, f, n/4)

	mustWrite(t, f, bad, 0) // images
	must(t, r.eng.Checkpoint(ctx))
	if sameSpace(t, r, f, n); f.st.allocated != n {
		t.Errorf("%d bytes allocated for what cannot be compressed", f.st.allocated)
	}
	mustWrite(t, f, good, 0)
	must(t, r.eng.Checkpoint(ctx))
	sameSpace(t, r, f, n/4)

	mustWrite(t, f, bad[:codedBlock], 0)
	must(t, f.Fallocate(ctx, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, n, WriteOpts{}))
	mustWrite(t, f, good[:100], 0)
	must(t, r.eng.Checkpoint(ctx))
	sameSpace(t, r, f, 4096)
	must(t, f.Truncate(ctx, 2*codedBlock+1, WriteOpts{}))
	must(t, r.eng.Checkpoint(ctx))
	sameSpace(t, r, f, 4096)
	r.check(f.Ino())
}

// TestCompressedSlotReused: a released slot that is written again before its garbage is carried out keeps none of what was there.
func TestCompressedSlotReused(t *testing.T) {
	r := newRig(t, compressing(rigOptions{disk: true, large: true}))
	f := r.file()
	defer f.Close()
	const n = 4 * codedBlock
	mustWrite(t, f, noise(n, 1), 0)
	must(t, r.eng.Checkpoint(ctx))
	must(t, f.Fallocate(ctx, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, n, WriteOpts{}))

	covered := r.eng.beginCheckpoint()
	garbage, err := r.eng.listGarbage(ctx)
	must(t, err)
	must(t, r.kv.Checkpoint(ctx))
	r.eng.endCheckpoint(covered)
	good := words(n, 3)
	mustWrite(t, f, good[:2*codedBlock], 0) // directly, to slots that are still full
	if f.res.hasImage(0) {
		t.Fatal("the slot was not written directly")
	}
	mustWrite(t, f, good[:codedBlock], 0) // an image over one of them
	must(t, r.eng.collect(ctx, garbage))
	var st unix.Stat_t
	if must(t, unix.Stat(r.objectPath(f), &st)); st.Blocks*512 > codedBlock+2*4096 { // the slot below the image is left alone
		t.Errorf("the object takes %d bytes", st.Blocks*512)
	}
	must(t, r.eng.Checkpoint(ctx))
	sameSpace(t, r, f, codedBlock/2)
	r.kill()
	f2 := r.openFile(f.Ino())
	defer f2.Close()
	if got := mustRead(t, f2, 0, 2*codedBlock); !bytes.Equal(got, good[:2*codedBlock]) {
		t.Errorf("differs at %d", diff(got, good[:2*codedBlock]))
	}
}

// TestCompressedInline: small files are smaller in their rows too.
func TestCompressedInline(t *testing.T) {
	r := newRig(t, compressing(rigOptions{inline: 4096}))
	f := r.file()
	defer f.Close()
	for _, data := range [][]byte{words(4000, 1), pattern(4000, 2), []byte("x"), words(4096, 3), words(4097, 4)} {
		must(t, f.Truncate(ctx, 0, WriteOpts{}))
		mustWrite(t, f, data, 0)
		if got := mustRead(t, f, 0, len(data)+1); !bytes.Equal(got, data) {
			t.Fatalf("%d bytes: differs at %d", len(data), diff(got, data))
		}
		var in *meta.Inline
		must(t, r.meta.View(ctx, func(tx *meta.Tx) (err error) { in, err = tx.Inline(f.Ino()); return err }))
		switch {
		case len(data) > 4096:
			if in != nil {
				t.Errorf("%d bytes are inline", len(data))
			}
			continue
		case in.PlainLen() != len(data):
			t.Errorf("%d bytes are said to be %d", len(data), in.PlainLen())
		case len(data) >= 4000 && data[0] == data[100] && len(in.Sealed) > len(data)/2:
			t.Errorf("%d bytes that compress are %d", len(data), len(in.Sealed))
		}
		if at, err := f.SeekHole(ctx, 0); err != nil || at != uint64(len(data)) {
			t.Errorf("hole at %d, %v", at, err)
		}
	}
	r.check(f.Ino())
}

// TestCompressedUncompressible: what does not get smaller by a page is stored as it is.
func TestCompressedUncompressible(t *testing.T) {
	r := newRig(t, compressing(rigOptions{}))
	f := r.file()
	defer f.Close()
	data := noise(2*codedBlock, 1)
	copy(data[codedBlock:], words(3000, 2))
	mustWrite(t, f, data, 0)
	rows, err := f.mapRows(ctx, 0, 2, nil)
	must(t, err)
	for block := range uint64(2) {
		if e := entryIn(rows, 0, block); e.Codec != meta.CodecNone || e.StoredLen != e.PlainLen {
			t.Errorf("block %d: %s, %d bytes stored for %d", block, e.Codec, e.StoredLen, e.PlainLen)
		}
	}
}

// TestTrialsBackOff: a file whose blocks do not compress is tried less and less, and one that begins to is noticed.
func TestTrialsBackOff(t *testing.T) {
	var tr trial
	random, text := noise(codedBlock, 1), words(codedBlock, 1)
	tried := 0
	for range 1000 {
		if tr.worth(random) {
			tried++
			tr.done(false)
		}
	}
	if tried > 45 {
		t.Errorf("%d of 1000 blocks were tried", tried)
	}
	tr.done(false)
	if !tr.worth(text) {
		t.Error("text after what does not compress was not tried")
	}
	if tr.done(true); tr != (trial{}) {
		t.Errorf("%+v after success", tr)
	}
}

// plant replaces a block by what seal makes of a frame.
func plant(t *testing.T, f *File, block uint64, frame []byte, coding blockcrypt.Coding) {
	t.Helper()
	must(t, f.withKeys(ctx, func(k *keys) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		c := f.newChange(WriteOpts{})
		cipher, err := k.get(c.epoch, f.BlockSize())
		if err != nil {
			return err
		}
		image, ciphertext := newImage(f.st.serial, f.BlockSize(), len(frame))
		sealed, err := cipher.SealCoded(ciphertext, frame, block, coding)
		if err != nil {
			return err
		}
		rows, err := f.mapRows(ctx, block, block+1, nil)
		if err != nil {
			return err
		}
		c.uses++
		c.putImage(block, image)
		c.set(block, rows[0], meta.Entry{Present: true, CRC: sealed.CRC, Epoch: c.epoch, PlainLen: coding.Plain, StoredLen: uint32(len(frame)),
			Codec: meta.Codec(coding.Codec), Nonce: sealed.Nonce, Tag: sealed.Tag})
		return c.commit(ctx)
	}))
}

// TestPlantedFrames: frames that are authentic and wrong are damage, of their block alone.
func TestPlantedFrames(t *testing.T) {
	coder, err := codec.New()
	must(t, err)
	frame := func(c meta.Codec, plain []byte) []byte {
		b, err := coder.Compress(make([]byte, codec.Room(len(plain))), plain, c, 1)
		must(t, err)
		return b
	}
	w, err := zstd.NewWriter(nil)
	must(t, err)
	whole := words(codedBlock, 1)
	for _, c := range []struct {
		name  string
		codec meta.Codec
		plain uint32
		frame []byte
	}{
		{"no frame", meta.CodecZstd, codedBlock, pattern(1000, 1)},
		{"cut", meta.CodecZstd, codedBlock, frame(meta.CodecZstd, whole)[:200]},
		{"shorter", meta.CodecZstd, codedBlock, frame(meta.CodecZstd, whole[:codedBlock-1])},
		{"longer", meta.CodecZstd, codedBlock - 1, frame(meta.CodecZstd, whole)},
		{"bomb", meta.CodecZstd, codedBlock, w.EncodeAll(make([]byte, 64<<20), nil)},
		{"of the other codec", meta.CodecS2, codedBlock, frame(meta.CodecZstd, whole)},
		{"s2, shorter", meta.CodecS2, codedBlock, frame(meta.CodecS2, whole[:codedBlock-1])},
		{"s2, no frame", meta.CodecS2, codedBlock, pattern(1000, 1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, compressing(rigOptions{disk: true}))
			f := r.file()
			defer f.Close()
			mustWrite(t, f, words(3*codedBlock, 1), 0)
			plant(t, f, 1, c.frame, blockcrypt.Coding{Codec: uint8(c.codec), Plain: c.plain})
			for _, settled := range []bool{false, true} {
				p := make([]byte, codedBlock)
				n, err := f.ReadAt(ctx, p, codedBlock)
				expectDamage(t, err, n, p, codec.ErrFrame)
				n, err = f.ReadAt(ctx, p[:100], codedBlock+500)
				expectDamage(t, err, n, p[:100], codec.ErrFrame)
				for _, block := range []int{0, 2} {
					if got := mustRead(t, f, uint64(block*codedBlock), codedBlock); !bytes.Equal(got, words(3*codedBlock, 1)[block*codedBlock:(block+1)*codedBlock]) {
						t.Errorf("block %d, which was left alone, differs", block)
					}
				}
				if !settled {
					must(t, r.eng.Checkpoint(ctx))
				}
			}
		})
	}
}

// TestCompressedAttacks changes the object of a compressed file.
func TestCompressedAttacks(t *testing.T) {
	data := words(3*codedBlock, 5)
	copy(data[codedBlock:], noise(codedBlock, 6)) // the middle one is stored as it is
	stored := func(t *testing.T, f *File) (n [3]int) {
		rows, err := f.mapRows(ctx, 0, 3, nil)
		must(t, err)
		for i := range n {
			n[i] = int(entryIn(rows, 0, uint64(i)).StoredLen)
		}
		return n
	}
	for _, c := range []struct {
		name string
		do   func(b []byte, n [3]int) []byte
		bad  []int
	}{
		{"first byte", func(b []byte, _ [3]int) []byte { b[0] ^= 1; return b }, []int{0}},
		{"last byte", func(b []byte, n [3]int) []byte { b[n[0]-1] ^= 1; return b }, []int{0}},
		{"behind the last byte", func(b []byte, n [3]int) []byte { b[n[0]] ^= 1; b[codedBlock-1] ^= 1; return b }, []int{}},
		{"block that is not compressed", func(b []byte, _ [3]int) []byte { b[codedBlock+77] ^= 1; return b }, []int{1}},
		{"zeros", func(b []byte, n [3]int) []byte { clear(b[:n[0]]); return b }, []int{0}},
		{"cut in the last block", func(b []byte, n [3]int) []byte { return b[:2*codedBlock+n[2]-1] }, []int{2}},
		{"swapped", func(b []byte, n [3]int) []byte {
			first := bytes.Clone(b[:n[0]])
			copy(b, b[2*codedBlock:2*codedBlock+n[2]])
			copy(b[2*codedBlock:], first)
			return b
		}, []int{0, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, compressing(rigOptions{}))
			f := r.file()
			mustWrite(t, f, data, 0)
			n, path, ino := stored(t, f), r.objectPath(f), f.Ino()
			if n[0] >= codedBlock/2 || n[1] != codedBlock {
				t.Fatal(fmt.Sprint("stored as ", n))
			}
			must(t, f.Close())
			must(t, r.eng.Close(ctx))
			must(t, r.objects.Close())
			must(t, os.WriteFile(path, c.do(readFile(t, path), n), 0o600))
			r.open()
			f = r.openFile(ino)
			defer f.Close()
			for block := range 3 {
				p := make([]byte, codedBlock)
				n, err := f.ReadAt(ctx, p, uint64(block*codedBlock))
				if isBad(c.bad, block) {
					expectDamage(t, err, n, p, nil)
				} else if must(t, err); !bytes.Equal(p, data[block*codedBlock:(block+1)*codedBlock]) {
					t.Errorf("block %d was left alone and differs", block)
				}
			}
		})
	}
}
