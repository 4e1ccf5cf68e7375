package local

// Files is the directory of the journal's segments. Names are plain file names. Implementations return
// errors that errors.Is recognises as fs.ErrNotExist, fs.ErrExist and syscall.ENOSPC where that is the cause.
// All methods may be called concurrently.
type Files interface {
	// List returns the names of all regular files in the directory.
	List() ([]string, error)
	// Open opens an existing file for reading and writing.
	Open(name string) (File, error)
	// Create makes a new, empty file, mode 0600.
	Create(name string) (File, error)
	// Remove removes a file's name.
	Remove(name string) error
	// SyncDir makes the names durable.
	SyncDir() error
	// Free returns how many bytes are free on the disk for this process.
	Free() (uint64, error)
	// Has tells whether the disk has so many bytes for this process, by taking them for a moment: more than are free, where some are kept for root. false
	// where that can't be found out.
	Has(bytes uint64) bool
}

// File is one open segment. ReadAt and WriteAt are those of io.ReaderAt and io.WriterAt.
type File interface {
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	// Datasync makes the content durable.
	Datasync() error
	// WriteBack has the disk begin with what was written to n bytes at off, without waiting for it. It promises nothing: Datasync does, and reports what
	// went wrong.
	WriteBack(off, n int64)
	// Truncate cuts the file to so many bytes; what is left stays allocated.
	Truncate(size int64) error
	// Size returns the length of the file in bytes.
	Size() (int64, error)
	Close() error
}
