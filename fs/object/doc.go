// Package object keeps the lower files that hold ciphertext.
//
// An object is a regular file objects/ab/<32 hex digits> named by a 16-byte
// ID, of which ab are the first two digits. What its bytes mean, whom it
// belongs to and how long it should be is not known here: those who read it
// say how many bytes there must be, and fewer are an error, never zeros.
//
// The directory is hostile ground. Every file is opened beneath the
// directory's descriptor without following a link or crossing a mount,
// without blocking, and is refused unless it is a regular file with one name.
//
// Nouns:
//
//	Store  the objects directory, with a bounded set of open descriptors
//	File   one object, borrowed from the set until Release
//	Lower  the few calls made to the filesystem below, replaced in tests
//
// Durability: a File's Datasync makes its bytes durable and, if the object is
// new, its name; SyncAll does it for everything at once. After either failed
// the Store refuses all writes and syncs (ErrFailed), because the kernel
// forgets what it could not write.
//
// All types are safe for concurrent use; who writes which byte when is the
// caller's business. Implements the objects part of section 5 of
// docs/FORMAT.md.
package object
