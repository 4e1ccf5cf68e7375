package mount

import "errors"

// Errors of this package. ClassOf tells for any error, of this process or one that crossed a socket, which class it is.
var (
	// ErrUsage: a call that can't be meant: an unknown mount option, two secrets at once.
	ErrUsage = errors.New("wrong usage")
	// ErrNotVolume: the directory holds no kmsfs.json.
	ErrNotVolume = errors.New("not a kmsfs volume")
	// ErrNotEmpty: init was given a directory that holds something else.
	ErrNotEmpty = errors.New("directory is not empty")
	// ErrInUse: another daemon has the volume.
	ErrInUse = errors.New("volume is in use")
	// ErrMountPoint: the mount point is not there, not an empty directory, or lies where it must not.
	ErrMountPoint = errors.New("unsuitable mount point")
	// ErrNotMounted: no kmsfs mount there.
	ErrNotMounted = errors.New("not a kmsfs mount")
	// ErrBusy: programs still use the mount.
	ErrBusy = errors.New("mount is busy")
	// ErrDamaged: kmsfs.json, the key store or a row does not parse, or is not authentic.
	ErrDamaged = errors.New("damaged")
	// ErrFaults: fsck found faults (and reported each).
	ErrFaults = errors.New("the volume has faults")
	// ErrIncomplete: not everything could be carried over (and each was reported).
	ErrIncomplete = errors.New("not everything was carried over")
	// ErrNoSecret: a passphrase, key file or PIN is needed and none was given.
	ErrNoSecret = errors.New("no secret given")
	// ErrNoFUSE: the kernel's or the user's part of FUSE is missing.
	ErrNoFUSE = errors.New("FUSE is not available")
	// ErrNoPolicy: the directory has no policy of its own.
	ErrNoPolicy = errors.New("no policy there")
	// ErrNoDenial: the caller was refused nothing.
	ErrNoDenial = errors.New("nothing was denied to you")
	// errForeign: what a volume key is wrapped with is no key of its key store.
	errForeign = errors.New("no key of this key store wraps it")
	// errLost: a volume lay there.
	errLost = errors.New("the key store knows a volume there")
	// ErrDaemon: a daemon ended before it was ready.
	ErrDaemon = errors.New("daemon ended early")
)
