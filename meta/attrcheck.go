package meta

import "fmt"

// checkAttr holds the rules that every inode row keeps, written or read. Its errors carry no sentinel: the caller knows whether the row
// was wrong (ErrCorrupt) or the argument (ErrInvalid).
func checkAttr(a *Attr) error {
	if a.Flags&^flagsKnown != 0 {
		return fmt.Errorf("unknown flags %#x", a.Flags&^flagsKnown)
	}
	if a.Mode&^(ModeType|modePerm) != 0 || !knownType(a.Type()) {
		return fmt.Errorf("mode %#o", a.Mode)
	}
	for _, t := range [...]Time{a.Atime, a.Mtime, a.Ctime, a.Btime} {
		if t.Nsec > 999999999 {
			return fmt.Errorf("%d nanoseconds", t.Nsec)
		}
	}
	if a.Size > MaxFileSize || a.Zone == 0 {
		return fmt.Errorf("size %d, zone %d", a.Size, a.Zone)
	}
	if err := checkLinks(a); err != nil {
		return err
	}
	if (a.XattrList > 0) != a.Flags.HasXattr() || a.Flags.HasACL() && !a.Flags.HasXattr() || a.XattrList > MaxXattrList {
		return fmt.Errorf("xattr list of %d bytes, flags %#x", a.XattrList, a.Flags)
	}
	if a.Rdev != 0 && a.Type() != ModeChar && a.Type() != ModeBlock {
		return fmt.Errorf("device number in mode %#o", a.Mode)
	}
	if a.IsRegular() {
		return checkRegular(a)
	}
	if a.Layout != LayoutNone || a.Params != (Params{}) || a.Serial != 0 || a.Upper || a.Former != (Former{}) || a.Epoch != 0 || len(a.Wraps) != 0 || a.Allocated != 0 {
		return fmt.Errorf("contents in mode %#o", a.Mode)
	}
	if a.Type() == ModeSymlink {
		if a.Size == 0 || a.Size > MaxTarget {
			return fmt.Errorf("symlink of %d bytes", a.Size)
		}
	} else if a.Size != 0 {
		return fmt.Errorf("size %d in mode %#o", a.Size, a.Mode)
	}
	return nil
}

func knownType(t uint32) bool {
	switch t {
	case ModeSocket, ModeSymlink, ModeRegular, ModeBlock, ModeDir, ModeChar, ModeFIFO:
		return true
	}
	return false
}

// checkLinks: an inode has names and a primary link, or is an orphan; the root is its own parent.
func checkLinks(a *Attr) error {
	orphan := a.Flags.Orphan()
	switch {
	case orphan != (a.Nlink == 0),
		a.Flags&FlagLinkable != 0 && !orphan,
		orphan && (a.Parent != 0 || a.Tag != NameTag{}),
		!orphan && a.Parent == 0,
		a.IsDir() && a.Nlink == 1,
		!a.IsDir() && a.Nlink > MaxLinks,
		(a.Ino == RootIno) != (a.Parent == a.Ino),
		a.Ino == RootIno && (!a.IsDir() || a.Tag != NameTag{}):
		return fmt.Errorf("%d links, parent %d, flags %#x", a.Nlink, a.Parent, a.Flags)
	}
	return nil
}

func checkRegular(a *Attr) error {
	if err := a.Params.check(); err != nil {
		return err
	}
	if a.Layout != LayoutInline && a.Layout != LayoutSlots {
		return fmt.Errorf("layout %d", a.Layout)
	}
	if a.Layout == LayoutSlots && a.Serial == 0 || a.Layout == LayoutInline && a.Allocated != 0 {
		return fmt.Errorf("layout %d with serial %d, %d bytes allocated", a.Layout, a.Serial, a.Allocated)
	}
	if err := checkPlanes(a); err != nil {
		return err
	}
	if len(a.Wraps) == 0 || len(a.Wraps) > MaxWraps {
		return fmt.Errorf("%d wraps", len(a.Wraps))
	}
	for i := 1; i < len(a.Wraps); i++ {
		if a.Wraps[i].Epoch <= a.Wraps[i-1].Epoch {
			return fmt.Errorf("wraps out of order")
		}
	}
	for i := range a.Wraps {
		if w := &a.Wraps[i]; w.KeyVersion == 0 != w.ByCMK() || len(w.Blob) > MaxFileBlob {
			return fmt.Errorf("wrap of epoch %d names version %d of the zone key and has a blob of %d bytes", w.Epoch, w.KeyVersion, len(w.Blob))
		}
	}
	if last := a.Wraps[len(a.Wraps)-1].Epoch; last != a.Epoch || a.Wraps[0].Epoch == 0 {
		return fmt.Errorf("epoch %d, last wrap's %d", a.Epoch, last)
	}
	return nil
}
