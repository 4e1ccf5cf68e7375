// Package mount is the composition root: it builds a volume's stack bottom-up (lock, key daemon, superblock, stores, metadata, content, FUSE),
// takes it down top-down, and holds what the commands do: Init, Start and Serve (a mount), Unmount, Status, Info, Check (fsck), and the key daemon's
// process. It knows every package and none knows it; cmd/kmsfs parses, calls it and prints.
//
// Nouns: a volume is the directory with ciphertext; a key store the directory with keys, outside of it; the file daemon is the process that serves
// one mount; the runtime directory holds the sockets, records and logs of the mounts of one user. The superblock (docs/FORMAT.md section 5) is in
// mount/superblock, the socket over which a file daemon is asked in mount/control.
package mount
