// Package blockcrypt encrypts file blocks, seals rows and wraps keys.
//
// Bytes go in and bytes come out: the package knows no files, no directories,
// no key-value store and no HSM. It does no I/O apart from reading the
// system's random source, it does not log, and it keeps no state beyond the
// expanded keys of the values that it returns.
//
// Nouns:
//
//	Key          a raw 256-bit secret; prints as [redacted]
//	BlockCipher  the expanded block key of one file and epoch (AES-256-GCM)
//	Sealed       what proves one block: nonce, tag, checksum of the ciphertext
//	Sealer       an XAES-256-GCM key: seals rows, wraps keys; its nonces may
//	             be drawn at random without counting them
//	NameHasher   keyed hash of a name, by which its row is found
//	ObjectNamer  maps (inode, serial) to the random-looking id of an object
//
// Every nonce is drawn here from crypto/rand; no exported function takes one.
// A BlockCipher's key serves a limited number of blocks (MaxKeyUses): its
// owner counts the uses and begins a new epoch in time.
//
// All types are safe for concurrent use once built. A Key is a plain array:
// its owner must not wipe it while another goroutine reads it.
//
// Implements sections 2 to 4 of docs/FORMAT.md.
package blockcrypt
