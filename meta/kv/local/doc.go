// Package local is the kv.Store of a volume on the local disk: a journal, an in-memory overlay, and Badger.
//
//	Update ── append ──> journal segment (page cache; fdatasync in Sync)
//	   └───── insert ──> overlay (active generation)
//	Checkpoint: freeze overlay -> sync journal -> settle journal-only rows -> rows to Badger -> sync Badger
//	            -> checkpoint row -> sync Badger -> drop frozen overlay -> recycle segments
//	View = (sequence, active overlay, frozen overlay, Badger snapshot), merged
//
// A transaction is one journal record. It is acknowledged when it is in the page cache, so it survives the
// death of the process; Sync makes it survive a power cut. Badger holds the state of the last checkpoint
// and nothing younger, and is written only after the records are durable, so whatever a crash leaves of it
// is repaired by replaying the journal.
//
// The package does not know what rows mean: it takes keys and values as they come (sealed by package meta).
// It is told by a Settler which rows live in the journal only and where they settle.
//
// With Options.Export every checkpoint also writes its rows to a file of the export, from which Rebuild makes Badger anew.
//
// It implements docs/FORMAT.md, sections 8 (journal) and 9 (checkpoints, Badger, recovery). It is the only
// importer of Badger.
package local
