// Package powercut holds tests of what a power cut, a failing disk and a disk that lies about what it holds may do to a volume. It has no code of its own.
//
// A test runs a workload of small operations on names and contents against a history: the state after each operation, and what was acknowledged as
// durable. After a cut the volume is opened again, read as a whole, and compared with the states that are allowed:
//
//   - names, links and xattrs are those after some operation, not before the last one that was followed by an acknowledged fsync or fsync of a directory;
//   - each page of a file is that of some state between the last acknowledged fsync of the file (or the rename that put it in place of another) and the
//     operation that the names are at;
//   - everything can be read, and the check of the volume finds nothing.
//
// There are two kinds of disk. A lower filesystem (ext4, xfs) on a loop device is shut down by FS_IOC_SHUTDOWN under the real programs: kmsfs keyd and
// kmsfs mount, and a mount that the kernel serves. A disk in memory lies under the journal and the objects of a volume in the test's process: it can be
// cut before any operation of the journal or the objects, forgets what was not synced, in sectors of 512 bytes, and fails on demand. So do the commits of
// the KV store above it, and the token and the key-use log of a key manager beside it.
//
// As root the tests run in a mount and a process namespace of their own, so that nothing of them is left whatever happens. What is missing (root, loop
// devices, /dev/fuse, programs) skips a test, or fails it when KMSFS_REQUIRE=1. KMSFS_LONG=1 runs the long forms. KMSFS_TEST_SEED sets the seed that
// every random test prints.
package powercut
