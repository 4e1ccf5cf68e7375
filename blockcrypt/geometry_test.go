package blockcrypt

import "testing"

// TestGeometry compares the shifts and masks with plain division.
func TestGeometry(t *testing.T) {
	for _, bs := range blockSizes {
		b := uint64(bs)
		for _, k := range []uint64{0, 1, 2, 3, 32, 1 << 20, MaxFileSize/b - 1, MaxFileSize / b} {
			for _, d := range []int64{-2, -1, 0, 1, 2, int64(bs) / 2, int64(bs) - 1} {
				off := k*b + uint64(d)
				if (k == 0 && d < 0) || off > MaxFileSize {
					continue
				}
				checkOffset(t, off, bs)
				checkSize(t, off, bs)
			}
		}
	}
}

func checkOffset(t *testing.T, off uint64, bs int) {
	t.Helper()
	b := uint64(bs)
	index := BlockOf(off, bs)
	if index != off/b || OffsetInBlock(off, bs) != int(off%b) || BlockStart(index, bs) != off/b*b {
		t.Errorf("offset %d of %d", off, bs)
	}
	if s := SlotOff(index, bs); s < 0 || uint64(s) != BlockStart(index, bs) {
		t.Errorf("slot of block %d at %d", index, s)
	}
	for _, n := range []int{-1, 0, 1, 2, bs - 1, bs, bs + 1, 3 * bs} {
		first, end := BlockRange(off, n, bs)
		if first != off/b {
			t.Errorf("range of %d at %d begins at %d", n, off, first)
		}
		want := first
		if n > 0 {
			want = (off+uint64(n)-1)/b + 1
		}
		if end != want {
			t.Errorf("range of %d at %d ends at %d, want %d", n, off, end, want)
		}
	}
}

func checkSize(t *testing.T, size uint64, bs int) {
	t.Helper()
	b := uint64(bs)
	count := BlockCount(size, bs)
	if want := size/b + min(size%b, 1); count != want {
		t.Errorf("size %d has %d blocks, want %d", size, count, want)
	}
	last := LastBlockLen(size, bs)
	if size > 0 && (last < 1 || last > bs || BlockStart(count-1, bs)+uint64(last) != size) {
		t.Errorf("size %d has a last block of %d", size, last)
	}
	if BlockLen(count, size, bs) != 0 || BlockLen(1<<63, size, bs) != 0 {
		t.Errorf("size %d has blocks beyond the end", size)
	}
	if count > 0 && BlockLen(count-1, size, bs) != last {
		t.Errorf("size %d: last block is %d long", size, BlockLen(count-1, size, bs))
	}
	if count > 1 && (BlockLen(0, size, bs) != bs || BlockLen(count-2, size, bs) != bs) {
		t.Errorf("size %d: a full block is not full", size)
	}
}

func TestValidBlockSize(t *testing.T) {
	valid := 0
	for bs := -1; bs <= 2*MaxBlockSize; bs++ {
		if ValidBlockSize(bs) == nil {
			valid++
		}
	}
	if valid != 9 { // 4 KiB to 1 MiB
		t.Errorf("%d valid block sizes", valid)
	}
}
