package object

// Lower is the filesystem below: paths are relative to the objects directory,
// either "ab" or "ab/<32 hex digits>", and "" is the directory itself. Errors
// are those of the system (errors.Is with syscall.ENOENT and so on), but
// OpenFile returns ErrHostile itself. Implementations are safe for concurrent
// use.
type Lower interface {
	// OpenFile opens a regular file with exactly one name for reading and
	// writing. With create it must not exist yet.
	OpenFile(path string, create bool) (LowerFile, error)
	// Mkdir makes a directory of mode 0700.
	Mkdir(path string) error
	// Unlink removes a file.
	Unlink(path string) error
	// ReadDir calls fn for each name in a directory, in any order, until fn
	// returns false.
	ReadDir(path string, fn func(name string) bool) error
	// SyncDir makes a directory's entries durable.
	SyncDir(path string) error
	// SyncAll makes everything in the filesystem durable.
	SyncAll() error
	// Space tells what the filesystem has room for.
	Space() (Space, error)
	// Close releases the directory.
	Close() error
}

// LowerFile is an open lower file.
type LowerFile interface {
	// ReadAt reads as pread: fewer bytes than asked for mean the end of the
	// file, with a nil error.
	ReadAt(p []byte, off int64) (int, error)
	// WriteAt writes all of p or fails.
	WriteAt(p []byte, off int64) error
	// Datasync makes the bytes durable, and the length as far as needed to
	// read them.
	Datasync() error
	// WriteBack begins to bring what was written to a range to the disk, and
	// promises nothing: Datasync does, and reports what went wrong.
	WriteBack(off, n int64)
	// ReadAhead begins to bring a range into memory, and promises nothing.
	ReadAhead(off, n int64)
	// Punch makes a range read as zeros and frees its space; the length stays.
	Punch(off, n int64) error
	// Truncate sets the length.
	Truncate(size int64) error
	// Stat returns the length and the space taken, both in bytes.
	Stat() (size, allocated int64, err error)
	Close() error
}

// Space describes the filesystem below. Byte counts; Free is what root may
// use, Avail what the calling user may.
type Space struct {
	Total, Free, Avail uint64
	Files, FilesFree   uint64
	MaxFileSize        int64 // largest length of a file
}
