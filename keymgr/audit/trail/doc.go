// Package trail keeps audit events in a log on disk that shows when it was changed, and reads, checks and searches it.
//
// Nouns:
//
//	log       a directory; each writer (the key daemon, every file daemon) has a stream of its own in it
//	stream    records numbered from 0 without gaps, across restarts; the leaves of one Merkle tree
//	segment   a file of consecutive records, one line each; the last one is appended to, the others are compressed, with an index beside each
//	seal      a signed head of the stream, itself a record of it; the newest is anchored in the key store
//	reserve   space set aside for administrative and repair events, for when there is no other
//	sink      another place that gets every event
//
// A Log is the one writer of a stream. It does not sign: a Sealer (the key manager, or its client) checks that the new head contains the anchored one, signs it and anchors it.
// Everything that reads (Verify, Query, Follow, Prove) takes the directory as it is and trusts nothing in it. Implements docs/FORMAT.md, section 14.
//
// Concurrency: a Log has one goroutine that writes, one that flushes, one that seals and one that compresses; Record hands over and waits, within its limit. Readers work
// beside a writer, in the same process or another.
package trail
