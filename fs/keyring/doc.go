// Package keyring unwraps the keys of zones with the key manager and keeps them for a bounded time.
//
// It does not know files, paths, policies or how the key manager is reached. It holds expanded keys only: raw zone keys are wiped as soon as
// they are expanded, and expanded ones are dropped when their time is over.
//
// Nouns:
//
//   - Keyring: the meta.Keyring of a volume.
//   - fileKeys: the CMK of a zone whose policy says `wrap: cmk`, which wraps the keys of files itself. It keeps none of them.
//   - lease: the keys of one zone and until when they may be used. Every use of a lease in the second half of its time renews it in the
//     background, so that a zone in use does not wait for the key manager, and one that is idle expires.
//
// What the key manager says ends a lease at once if it is a refusal (key disabled, deleted, access denied: meta.ErrKeyRevoked). If it cannot be
// reached the lease runs out (meta.ErrKeyUnavailable). A failure is remembered for a moment, so that a thousand waiting requests ask once.
//
// A Keyring is safe for concurrent use; it never calls out with a lock held. Zone blocks only when the keys are not cached, at most for
// Config.Timeout. Implements the zone part of section 2 of docs/FORMAT.md.
package keyring
