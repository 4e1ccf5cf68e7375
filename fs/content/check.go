package content

import (
	"context"
	"errors"
	"fmt"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/fs/object"
	"github.com/kmsfs/kmsfs/meta"
)

// Fault is one thing that is wrong with content.
type Fault struct {
	Ino    meta.Ino // 0 if it is about the objects directory
	Block  uint64   // if Kind is about a block
	Object string   // path below the objects directory, if it is about an object
	Kind   FaultKind
	Err    error // the cause, or nil
}

// FaultKind classifies a Fault. Its text is stable.
type FaultKind string

const (
	FaultBlock    FaultKind = "block does not open"
	FaultInline   FaultKind = "inline content does not open"
	FaultSize     FaultKind = "block reaches beyond the end of the file"
	FaultSpace    FaultKind = "allocated space is miscounted"
	FaultKey      FaultKind = "key unavailable, only checksums were compared"
	FaultStranger FaultKind = "not an object"
	FaultOrphan   FaultKind = "object without a file"
	FaultLength   FaultKind = "object is longer than its file"
)

// Leftover tells whether faults of this kind are what a crash may leave behind: space that is lost, no data. CheckObjects can get it back.
func (k FaultKind) Leftover() bool { return k == FaultOrphan || k == FaultLength }

// CheckFile reads every block of a file and reports what is wrong with it. The file may be in use. The error is that of the check itself.
func (e *Engine) CheckFile(ctx context.Context, ino meta.Ino, report func(Fault)) error {
	f, err := e.Open(ctx, ino)
	if err != nil {
		return err
	}
	c := checker{f: f, report: func(fault Fault) { fault.Ino = ino; report(fault) }}
	err = c.check(ctx)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("check inode %d: %w", ino, err)
	}
	return nil
}

// checker checks one file, a batch of rows under each lock.
type checker struct {
	f         *File
	report    func(Fault)
	allocated uint64
	keyless   bool // the keys could not be had, and this was reported
}

func (c *checker) check(ctx context.Context) error {
	f := c.f
	before := f.version()
	for from := uint64(0); ; {
		var next uint64
		more := false
		err := c.withKeys(ctx, func(k *keys) (err error) {
			f.mu.RLock()
			defer f.mu.RUnlock()
			if f.st.layout == meta.LayoutSlots {
				next, more, err = c.slots(ctx, k, from)
			} else {
				err = c.inline(ctx, k)
			}
			return err
		})
		if err != nil {
			return err
		}
		if !more {
			break
		}
		from = next
	}
	a, err := f.Attr(ctx)
	if err == nil && f.version() == before && a.Allocated != c.allocated {
		c.report(Fault{Kind: FaultSpace, Err: fmt.Errorf("%d bytes mapped, %d recorded", c.allocated, a.Allocated)})
	}
	return err
}

// version returns a number that changes with every change of the content.
func (f *File) version() uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.changes
}

// withKeys runs op with the file's keys, or without (nil) if they may not be had.
func (c *checker) withKeys(ctx context.Context, op func(*keys) error) error {
	if !c.keyless {
		err := c.f.withKeys(ctx, op)
		if !errors.Is(err, meta.ErrKeyUnavailable) && !errors.Is(err, meta.ErrKeyRevoked) {
			return err
		}
		c.keyless = true
		c.report(Fault{Kind: FaultKey, Err: err})
	}
	return op(nil)
}

// checkRows is how many rows are checked under one lock.
const checkRows = 16

// slots checks a batch of rows from row from on, and returns where the next one begins. Called with mu held.
func (c *checker) slots(ctx context.Context, k *keys, from uint64) (next uint64, more bool, err error) {
	rows, more, err := c.f.rowsIn(ctx, from, meta.ToEnd, checkRows)
	if err != nil {
		if err = damaged(err); errors.Is(err, ErrDamaged) { // a row that does not open hides those behind it
			c.report(Fault{Block: from * meta.MapRowBlocks, Kind: FaultBlock, Err: err})
			return 0, false, nil
		}
		return 0, false, err
	}
	var sum uint64
	var faults []Fault
	for i := range rows {
		for x := range rows[i].m {
			entry := &rows[i].m[x]
			if !entry.Present {
				continue
			}
			block := rows[i].first() + uint64(x)
			fault, err := c.block(ctx, k, block, entry)
			if err != nil {
				return 0, false, err
			}
			if fault.Kind != "" {
				faults = append(faults, fault)
			}
			sum += entry.Allocated()
		}
		next = rows[i].row + 1
	}
	c.allocated += sum
	for _, fault := range faults { // now, because the batch may have been run again for a key
		c.report(fault)
	}
	return next, more, nil
}

// block checks one block; a Fault without a Kind means that it is good.
func (c *checker) block(ctx context.Context, k *keys, block uint64, entry *meta.Entry) (Fault, error) {
	f := c.f
	p := f.st.planeOf(block)
	if p.Start(block) < p.From || p.Start(block) >= p.To || int(entry.PlainLen) > blockcrypt.BlockLen(p.Index(block), f.st.size, p.BlockSize) {
		return Fault{Block: block, Kind: FaultSize, Err: fmt.Errorf("%d bytes, file size %d", entry.PlainLen, f.st.size)}, nil
	}
	loan, buf := borrow(int(entry.PlainLen))
	defer loan.giveBack()
	var err error
	if k != nil {
		err = f.readBlock(ctx, k, p, block, buf)
	} else {
		err = f.compare(ctx, p, block, entry, buf[:entry.StoredLen])
	}
	var missing *missingKey
	switch {
	case err == nil:
		return Fault{}, nil
	case errors.As(err, &missing), ctx.Err() != nil:
		return Fault{}, err
	default:
		return Fault{Block: block, Kind: FaultBlock, Err: err}, nil
	}
}

// compare reads a block's ciphertext and compares its checksum. Called with mu held.
func (f *File) compare(ctx context.Context, p meta.Plane, block uint64, entry *meta.Entry, buf []byte) error {
	found := false
	err := f.e.meta.View(ctx, func(tx *meta.Tx) error {
		image, err := tx.Image(f.ino, block)
		if err != nil || image == nil {
			return err
		}
		ciphertext, err := imageOf(p, image, entry)
		if err == nil {
			found = true
			copy(buf, ciphertext)
		}
		return err
	})
	if err == nil && !found {
		var obj *object.File
		if obj, err = f.e.objects.Get(f.e.object(f.ino, p.Serial)); err == nil {
			err = obj.ReadAt(buf, p.Slot(block))
			obj.Release()
		}
	}
	if err == nil && blockcrypt.Checksum(buf) != entry.CRC {
		err = fmt.Errorf("checksum differs: %w", meta.ErrAuth)
	}
	return damaged(err)
}

func (c *checker) inline(ctx context.Context, k *keys) error {
	if k == nil {
		return nil
	}
	_, err := c.f.readInline(ctx, k)
	if errors.Is(err, ErrDamaged) {
		c.report(Fault{Kind: FaultInline, Err: err})
		return nil
	}
	return err
}
