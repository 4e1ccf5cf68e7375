// Package auditor seals events to an auditor: who writes the log, and whoever reads it without the auditor's key, sees when something happened, what kind of thing, and how it was decided, but no
// name, path or user. It is HPKE (RFC 9180: DHKEM X25519, HKDF-SHA256) whose exported secret is an AES-256-GCM key for the events of one session, so that an event costs no operation on the curve.
//
//	public key   of the auditor; the writers have it
//	secret key   of the auditor; nobody else has it
//	sealer       one session of a writer: its key exists in memory only
//	opener       reads sealed events with the secret key
//
// It does not know what an event is, nor where it is kept. Sealers and openers are safe for concurrent use. docs/FORMAT.md, section 14.
package auditor
