package mount

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/mount/control"
)

// Info asks the daemon of the mount that holds path how the file is stored. A symbolic link at the end is not followed. ErrNotMounted if path lies in
// no mount of ours, or one whose daemon may not be asked by this user.
func Info(ctx context.Context, path string) (FileInfo, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return FileInfo{}, fmt.Errorf("path %s: %w", path, err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(abs, &st); err != nil {
		return FileInfo{}, fmt.Errorf("%s: %w", path, err)
	}
	r, err := openRuntime()
	if err != nil {
		return FileInfo{}, err
	}
	rec, err := r.holding(&st)
	if err != nil {
		return FileInfo{}, fmt.Errorf("%w: %s lies in none", err, path)
	}
	var info FileInfo
	err = control.Do(ctx, r.socket(rec.ID), opInfo, infoArgs{Inode: st.Ino}, nil, &info)
	info.Path = abs
	return info, err
}

// info describes an inode.
func (v *Volume) info(ctx context.Context, ino meta.Ino) (FileInfo, error) {
	a, err := v.meta.Getattr(ctx, ino)
	if err != nil {
		return FileInfo{}, fmt.Errorf("inode %d: %w", ino, err)
	}
	zone, err := v.meta.Zone(ctx, a.Zone)
	if err != nil {
		return FileInfo{}, fmt.Errorf("zone of inode %d: %w", ino, err)
	}
	info := FileInfo{
		Volume: v.ID.String(), Inode: uint64(ino), Type: typeName(a.Type()), Size: a.Size, Allocated: a.Allocated, Links: a.Nlink,
		Layout: layoutName(a), Zone: uint64(a.Zone), ZoneInode: uint64(zone.Dir), BlockSize: a.BlockSize, Epoch: a.Epoch,
	}
	if a.IsRegular() {
		info.Compression = a.Compression()
	}
	for _, w := range a.Wraps {
		info.Epochs = append(info.Epochs, w.Epoch)
	}
	if a.Layout == meta.LayoutSlots {
		id := v.namer.ID(uint64(ino), a.Serial).String()
		info.Object = id[:2] + "/" + id
	}
	parent, name, err := v.meta.ZonePlace(ctx, zone)
	if err != nil {
		return info, err
	}
	info.Context = meta.ZoneContext(v.ID, zone.ID, parent, name)
	err = v.describeKey(ctx, zone, &info)
	if w := a.Wrap(a.Epoch); err == nil && w != nil && w.ByCMK() {
		info.Context = meta.FileContext(a.Place(v.ID, w))
		info.KeyVersion = uint32(describeWrap(ctx, v.keys, info.Key, []byte(w.Blob)).Version)
	}
	return info, err
}

// describeKey asks the key manager which key and version the zone's key is wrapped by: the blob does not say it in clear to us.
func (v *Volume) describeKey(ctx context.Context, zone *meta.Zone, info *FileInfo) error {
	info.Wraps = v.zoneWrapStatus(ctx, zone)
	var errs []error
	for _, w := range zone.Wraps {
		out, err := v.keys.Decrypt(ctx, keymgr.Caller{}, keymgr.DecryptInput{Blob: w.Blob, Context: keymgr.Context(info.Context)})
		clear(out.Plaintext)
		if err == nil {
			info.Key, info.KeyVersion = out.KeyID, out.Version
			return nil
		}
		errs = append(errs, err)
	}
	return fmt.Errorf("key of zone %d: %w", zone.ID, errors.Join(errs...))
}

func typeName(mode uint32) string {
	switch mode {
	case meta.ModeRegular:
		return "file"
	case meta.ModeDir:
		return "directory"
	case meta.ModeSymlink:
		return "symbolic link"
	case meta.ModeFIFO:
		return "fifo"
	case meta.ModeSocket:
		return "socket"
	case meta.ModeBlock:
		return "block device"
	case meta.ModeChar:
		return "character device"
	default:
		return fmt.Sprintf("type %o", mode)
	}
}

func layoutName(a *meta.Attr) string {
	switch {
	case a.Layout == meta.LayoutInline && a.Size == 0:
		return "empty"
	case a.Layout == meta.LayoutInline:
		return "inline"
	case a.Layout == meta.LayoutSlots:
		return "slots"
	default:
		return ""
	}
}
