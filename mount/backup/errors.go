package backup

import "errors"

var (
	// ErrNotBackup: the directory holds something else, or a backup that was never finished.
	ErrNotBackup = errors.New("not a backup")
	// ErrOther: the backup is of another volume.
	ErrOther = errors.New("backup of another volume")
	// ErrDamaged: a file of the backup is not what was written.
	ErrDamaged = errors.New("backup is damaged")
	// ErrBusy: the volume changes faster than it can be copied.
	ErrBusy = errors.New("the volume changes faster than it is copied")
	// ErrInUse: another backup or restore works on the directory.
	ErrInUse = errors.New("backup is in use")
)
