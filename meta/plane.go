package meta

import (
	"fmt"

	"github.com/kmsfs/kmsfs/blockcrypt"
)

// UpperBlock is the number of the first block of a file's upper map: a file that moves to another object has two maps, whose blocks must not be
// mistaken for each other. It is a multiple of MapRowBlocks, and above the blocks of any file.
const UpperBlock uint64 = 1 << 60

// Former says where the part of a file lies that was not moved to its present object yet.
type Former struct {
	End       uint64 // bytes before it are in the former object; 0, and the rest too: everything was moved
	Serial    uint64 // of the former object
	BlockSize uint32 // of the blocks in it
}

// Plane is one map of a file with the object that its blocks lie in. A file has one, and while it moves to another object two, for the bytes before
// and behind a boundary that whole blocks of both end at.
type Plane struct {
	Base      uint64 // number of the first block: 0 or UpperBlock
	Serial    uint64 // of the object
	BlockSize int
	From, To  uint64 // bytes of the file that it is for
}

// Planes returns the planes of a file in the order of its bytes; none unless its layout is LayoutSlots.
func (a *Attr) Planes() []Plane {
	if a.Layout != LayoutSlots {
		return nil
	}
	if a.Former.End == 0 {
		return []Plane{a.Present()}
	}
	return []Plane{a.Former.plane(!a.Upper), a.Present()}
}

// Present returns the plane that the file is in, or moves to. It means nothing unless the layout is LayoutSlots.
func (a *Attr) Present() Plane {
	return Plane{Base: base(a.Upper), Serial: a.Serial, BlockSize: int(a.BlockSize), From: a.Former.End, To: MaxFileSize}
}

func (f Former) plane(upper bool) Plane {
	return Plane{Base: base(upper), Serial: f.Serial, BlockSize: int(f.BlockSize), To: f.End}
}

// FormerPlane returns the plane that the file moves from; Former.End must not be 0.
func (a *Attr) FormerPlane() Plane { return a.Former.plane(!a.Upper) }

func base(upper bool) uint64 {
	if upper {
		return UpperBlock
	}
	return 0
}

// PlaneOf returns the plane that a block belongs to; ok is false if the file has none such.
func (a *Attr) PlaneOf(block uint64) (p Plane, ok bool) {
	for _, p := range a.Planes() {
		if p.Has(block) {
			return p, true
		}
	}
	return Plane{}, false
}

// Has tells whether a block is numbered as those of the plane are.
func (p Plane) Has(block uint64) bool { return block >= UpperBlock == (p.Base == UpperBlock) }

// Limit returns the number behind the last block that the plane may have.
func (p Plane) Limit() uint64 { return p.Base + UpperBlock }

// Block returns the block that holds the byte at off.
func (p Plane) Block(off uint64) uint64 { return p.Base + blockcrypt.BlockOf(off, p.BlockSize) }

// End returns the block behind those that hold the bytes before size, as if the plane were for all of the file.
func (p Plane) End(size uint64) uint64 { return p.Base + blockcrypt.BlockCount(size, p.BlockSize) }

// Range returns the blocks that hold n bytes from off on.
func (p Plane) Range(off uint64, n int) (first, end uint64) {
	first, end = blockcrypt.BlockRange(off, n, p.BlockSize)
	return p.Base + first, p.Base + end
}

// Index returns the index of a block in the plane's object, by which it is sealed.
func (p Plane) Index(block uint64) uint64 { return block - p.Base }

// Start returns the offset in the file of a block's first byte.
func (p Plane) Start(block uint64) uint64 { return blockcrypt.BlockStart(block-p.Base, p.BlockSize) }

// Slot returns the offset of a block's slot in the object.
func (p Plane) Slot(block uint64) int64 { return blockcrypt.SlotOff(block-p.Base, p.BlockSize) }

// checkPlanes holds the rules for a file that moves. Its errors carry no sentinel.
func checkPlanes(a *Attr) error {
	f := a.Former
	switch {
	case a.Upper && a.Layout != LayoutSlots:
		return fmt.Errorf("upper map with layout %d", a.Layout)
	case f == Former{}:
		return nil
	case a.Layout != LayoutSlots, f.End == 0, f.Serial == 0, f.Serial >= a.Serial, blockcrypt.ValidBlockSize(int(f.BlockSize)) != nil,
		f.End%uint64(f.BlockSize) != 0, f.End%uint64(a.BlockSize) != 0:
		return fmt.Errorf("layout %d, serial %d, blocks of %d bytes, moves up to %d from serial %d, blocks of %d bytes", a.Layout, a.Serial, a.BlockSize,
			f.End, f.Serial, f.BlockSize)
	}
	return nil
}
