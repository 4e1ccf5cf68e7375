package content

import (
	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta"
)

// place seals all pieces: compressed ones and runs of others to the object, and images.
func (w *writer) place(pieces []piece) error {
	for i := 0; i < len(pieces); {
		if pieces[i].image {
			if err := w.sealImage(w.first+uint64(i), pieces[i].plain); err != nil {
				return err
			}
			i++
			continue
		}
		coded, err := w.compressed(i)
		if err != nil {
			return err
		}
		if coded != nil {
			if err := w.writeCoded(w.first+uint64(i), pieces[i].plain, coded); err != nil {
				return err
			}
			i++
			continue
		}
		j := i + 1
		for j < len(pieces) && !pieces[j].image {
			if coded, err = w.compressed(j); err != nil {
				return err
			}
			if coded != nil {
				break
			}
			j++
		}
		if err := w.writeRun(i, j); err != nil {
			return err
		}
		i = j
	}
	return nil
}

// sealImage adds a block to the change as an image.
func (w *writer) sealImage(block uint64, plain []byte) error {
	if w.ahead.has(block) > 0 {
		ciphertext, sealed := w.ahead.from(block, 1)
		image, room := newImage(w.plane.Serial, w.plane.BlockSize, len(ciphertext))
		copy(room, ciphertext)
		w.c.putImage(block, image)
		w.c.set(block, w.base(block), w.entry(sealed[0], len(ciphertext)))
		return nil
	}
	cipher, err := w.k.get(w.c.epoch, w.plane.BlockSize)
	if err != nil {
		return err
	}
	loan, coded, err := w.f.compress(w.params(), plain, slotPage)
	defer loan.giveBack()
	if err != nil {
		return err
	}
	stored := len(plain)
	if coded != nil {
		stored = len(coded)
	}
	image, ciphertext := newImage(w.plane.Serial, w.plane.BlockSize, stored)
	entry, err := w.seal(cipher, ciphertext, plain, coded, block)
	if err != nil {
		return err
	}
	w.c.uses++
	w.c.putImage(block, image)
	w.c.set(block, w.base(block), entry)
	return nil
}

// params returns how content is stored in the plane: blocks of the former one may be too small to be compressed.
func (w *writer) params() meta.Params {
	p := w.c.next.params
	if w.plane.BlockSize < meta.MinCompressedBlock {
		p.Codec = meta.CodecNone
	}
	return p
}

// seal encrypts a block into dst: coded, what it was compressed to, or if that is nil plain.
func (w *writer) seal(cipher *blockcrypt.BlockCipher, dst, plain, coded []byte, block uint64) (meta.Entry, error) {
	if coded == nil {
		sealed, err := cipher.Seal(dst, plain, w.plane.Index(block))
		return w.entry(sealed, len(plain)), err
	}
	codec := w.params().Codec
	sealed, err := cipher.SealCoded(dst, coded, w.plane.Index(block), blockcrypt.Coding{Codec: uint8(codec), Plain: uint32(len(plain))})
	e := w.entry(sealed, len(plain))
	e.Codec, e.StoredLen = codec, uint32(len(coded))
	return e, err
}

// writeRun seals pieces [i, j) and writes them to their slots at once.
func (w *writer) writeRun(i, j int) error {
	block := w.first + uint64(i)
	if n := min(w.ahead.has(block), j-i); n > 0 {
		if err := w.writeAhead(block, n); err != nil || n == j-i {
			return err
		}
		i, block = i+n, block+uint64(n)
	}
	length := (j-i-1)*w.plane.BlockSize + len(w.pieces[j-1].plain)
	loan, buf := borrow(length)
	defer loan.giveBack()
	if err := w.sealRun(buf, i, j); err != nil {
		return err
	}
	return w.write(buf, block)
}

// writeAhead writes n blocks that were sealed already to their slots.
func (w *writer) writeAhead(block uint64, n int) error {
	ciphertext, sealed := w.ahead.from(block, n)
	for i := range sealed {
		b := block + uint64(i)
		w.c.set(b, w.base(b), w.entry(sealed[i], w.plane.BlockSize))
	}
	return w.write(ciphertext, block)
}

// write writes ciphertext to the slots from a block's on.
func (w *writer) write(buf []byte, block uint64) error {
	obj, err := w.f.objectFor(w.plane.Serial)
	if err != nil {
		return err
	}
	defer obj.Release()
	at := w.plane.Slot(block)
	if err := obj.WriteAt(buf, at); err != nil {
		return err
	}
	w.f.res.wrote()
	if off, n := w.f.stream.wrote(w.plane.Serial, at, int64(len(buf))); n > 0 {
		obj.WriteBack(off, n)
	}
	return nil
}

// sealRun seals pieces [i, j) back to back into buf. Those that lie side by side in p are sealed together.
func (w *writer) sealRun(buf []byte, i, j int) error {
	cipher, err := w.k.get(w.c.epoch, w.plane.BlockSize)
	if err != nil {
		return err
	}
	for i < j {
		plain, n := w.together(i, j)
		block := w.first + uint64(i)
		sealed, err := cipher.SealRun(buf[:len(plain)], plain, w.plane.Index(block), w.sealed[:0])
		if err != nil {
			return err
		}
		w.c.uses += uint64(n)
		for x := range sealed {
			b := block + uint64(x)
			w.c.set(b, w.base(b), w.entry(sealed[x], len(w.pieces[i+x].plain)))
		}
		buf, i = buf[len(plain):], i+n
	}
	return nil
}

// together returns the plaintext of piece i and of those behind it, as far as they follow each other in p.
func (w *writer) together(i, j int) (plain []byte, n int) {
	if w.rewritten(i) {
		return w.pieces[i].plain, 1
	}
	n = 1
	for i+n < j && !w.rewritten(i+n) {
		n++
	}
	from := max(w.plane.Start(w.first+uint64(i)), w.off) - w.off
	to := min(w.plane.Start(w.first+uint64(i+n)), w.off+uint64(len(w.p))) - w.off
	return w.p[from:to], n
}

// rewritten tells whether piece i is not simply a part of p.
func (w *writer) rewritten(i int) bool {
	start := max(w.plane.Start(w.first+uint64(i)), w.off) - w.off
	return &w.pieces[i].plain[0] != &w.p[start]
}

func (w *writer) entry(s blockcrypt.Sealed, n int) meta.Entry { return entryOf(s, w.c.epoch, n) }

// entryOf describes a block of n bytes that is stored as it is.
func entryOf(s blockcrypt.Sealed, epoch uint32, n int) meta.Entry {
	return meta.Entry{Present: true, CRC: s.CRC, Epoch: epoch, PlainLen: uint32(n), StoredLen: uint32(n), Nonce: s.Nonce, Tag: s.Tag}
}
