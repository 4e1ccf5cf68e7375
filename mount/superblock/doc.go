// Package superblock reads, authenticates and writes kmsfs.json, the file that makes a directory a volume.
//
// It knows the file and the volume key, not where that key comes from: the caller has it unwrapped by the key manager, which also keeps a copy of
// the whole file. The file is in the reach of whoever can write the volume, so it names nothing that is loaded or dialled, and after Parse nothing
// in it may be trusted until Open has verified it under the volume key.
//
// Nouns: the Superblock is the file's content; Secrets are the three keys sealed in it. A Superblock is plain data: one goroutine at a time.
// Implements section 5 of docs/FORMAT.md.
package superblock
