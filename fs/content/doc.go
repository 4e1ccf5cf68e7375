// Package content reads and writes the contents of regular files: it encrypts blocks, decides where their ciphertext goes, and keeps what was
// synced.
//
// It does not know FUSE, names, permissions (but for the clearing of set-user-id bits), key managers, or how rows are stored.
//
// Nouns:
//
//   - Engine: the contents of one open volume.
//   - File: one inode's content, shared by all who have it open. It is the only writer of the inode's size, layout, map rows and images.
//   - slot: where a block lies in the inode's object. It holds ciphertext and nothing else; nonce, tag and length are in the block's map entry.
//   - direct write: ciphertext goes to the slot before its entry is committed. Only for virgin slots, to which no state that a crash could
//     bring back refers.
//   - image: ciphertext that rides in the journal, in the transaction of its entry, until a checkpoint settles it in its slot.
//   - marker: says that all direct writes of an inode are durable.
//   - garbage: a range of slots, or a whole object, that is destroyed after the checkpoint that includes its release.
//   - Settler: what package meta/kv/local calls during a checkpoint to settle images.
//
// Where a write goes. A block whose slot is virgin is written directly. All others are images: overwritten blocks, slots whose release is not
// checkpointed yet, content that moves from the inline row, and small writes of files that a sync is expected of. So a slot that any state refers
// to is overwritten only while the journal durably holds its new content: a block is never torn.
//
// Order. A File's lock is held from the choice of the place until the caches match what was committed; it is never held while a key manager
// may be asked (keys are fetched first). Writers exclude each other and readers of the same File. Lock order: File.mu, then Engine.mu or
// volatile.mu, which never call out.
//
// Implements sections 3, 5 and 9 of docs/FORMAT.md as far as contents go.
package content
