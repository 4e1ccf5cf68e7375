// Package seal says what is signed of an audit log, and by which kind of key: a head is the number of records of one stream and the root of the Merkle tree (RFC 6962) over
// them; a seal is a signed head, in the form of a note (golang.org/x/mod/sumdb/note, C2SP signed-note) with a checkpoint's text (C2SP tlog-checkpoint).
//
// It knows neither where logs lie nor where the private key is: whoever holds that passes a function that signs. A Claim is how the writer of a stream shows that a new head
// contains the old one, so that who signs need not read the log. Implements docs/FORMAT.md, section 14. Everything here is a value, safe for concurrent use.
package seal
