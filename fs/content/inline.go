package content

import (
	"context"
	"fmt"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta"
)

// writeInline replaces the inline content and commits.
func (f *File) writeInline(ctx context.Context, k *keys, c *change, plain []byte) error {
	if err := f.sealInline(k, c, plain); err != nil {
		return err
	}
	return c.commit(ctx)
}

// sealInline adds the new inline content to a change.
func (f *File) sealInline(k *keys, c *change, plain []byte) error {
	if len(plain) == 0 {
		c.noInline = true
		return nil
	}
	params := c.next.params
	cipher, err := k.get(c.epoch, int(params.BlockSize))
	if err != nil {
		return err
	}
	in := meta.Inline{Epoch: c.epoch}
	loan, coded, err := f.compress(params, plain, 1)
	defer loan.giveBack()
	switch {
	case err != nil:
	case coded == nil:
		in.Sealed, err = cipher.SealInline(plain)
	default:
		in.Codec, in.Plain = params.Codec, uint32(len(plain))
		in.Sealed, err = cipher.SealInlineCoded(coded, blockcrypt.Coding{Codec: uint8(in.Codec), Plain: in.Plain})
	}
	if err != nil {
		return err
	}
	c.uses++
	c.inline = &in
	return nil
}

// leaveInline makes a change one to slots of a new object.
func (f *File) leaveInline(c *change) {
	c.next.layout = meta.LayoutSlots
	c.next.serial++
	c.next.allocated = 0
	c.noInline = true
}

// readInline returns the inline content, which may be shorter than the file. Called with mu held.
func (f *File) readInline(ctx context.Context, k *keys) (plain []byte, err error) {
	if f.st.size == 0 {
		return nil, nil
	}
	err = f.e.meta.View(ctx, func(tx *meta.Tx) error {
		in, err := tx.Inline(f.ino)
		if err != nil || in == nil {
			return err
		}
		plain, err = f.openInline(k, in)
		return err
	})
	if err == nil && uint64(len(plain)) > f.st.size {
		err = fmt.Errorf("%d bytes inline, size is %d: %w", len(plain), f.st.size, meta.ErrCorrupt)
	}
	if err != nil {
		return nil, fmt.Errorf("inline content: %w", damaged(err))
	}
	return plain, nil
}

func (f *File) openInline(k *keys, in *meta.Inline) ([]byte, error) {
	c, err := k.get(in.Epoch, int(f.st.params.BlockSize))
	if err != nil {
		return nil, err
	}
	if in.Codec == meta.CodecNone {
		return c.OpenInline(nil, in.Sealed)
	}
	coded, err := c.OpenInlineCoded(nil, in.Sealed, blockcrypt.Coding{Codec: uint8(in.Codec), Plain: in.Plain})
	if err != nil {
		return nil, err
	}
	plain := make([]byte, in.Plain)
	return plain, f.e.coder.Decompress(plain, coded, in.Codec)
}
