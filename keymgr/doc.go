// Package keymgr is the key manager: customer master keys whose backing keys live in a token, and what may be done with them.
//
// It does not know sockets, files or FUSE: package keymgr/server puts it on a socket, keymgr/keystore on a disk, keymgr/client is its other
// end. It keeps its state in an ordered store (meta/kv) as sealed rows and does its cryptography in an hsm.Token.
//
// Nouns:
//
//	CMK       customer master key: an id with metadata and one or more versions (backing keys in the token); named by id, ARN or alias
//	blob      the ciphertext of up to 4,096 bytes under a CMK; names the version that made it, binds the encryption context
//	context   name-value pairs authenticated with a blob; not secret, recorded in clear in the key-use log
//	caller    who asks, as far as it is known
//	volume    a registered volume: its CMK, a copy of its superblock, its anchor
//	anchor    the newest state of a volume that must not be lost or rolled back
//	key use   one decision about a CMK; recorded before it is answered
//
// The operations, their names, limits and errors are those of AWS KMS as far as they are built; everything that is not AWS' says so. All methods of
// Manager are safe for concurrent use and bounded by their context and the token's own limits. Implements docs/FORMAT.md, section 10.
package keymgr
