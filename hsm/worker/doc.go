// Package worker runs a token in a process of its own and restarts it when it
// dies, behind the same contract (hsm.Token).
//
// PKCS#11 modules are foreign code in our address space: they crash, hang, leak
// and keep secrets in their heap. Client, in the key daemon, starts the worker
// program over a socketpair and speaks to it; Serve is the worker's side. The
// package does not know PKCS#11: the worker program passes in what opens a token.
//
// Nouns: a frame is one message, a JSON head and one secret (the PIN, a
// plaintext) that stays out of the JSON so that it can be wiped; a process is one
// life of the worker. The PIN travels over the socketpair, never in arguments or
// environment, and Client keeps it in locked memory for the next start.
//
// When a process dies, requests in flight are sent once more to the next one if
// repeating them is harmless; otherwise their callers get hsm.ErrTokenAway. A
// worker that stops answering is killed: after a call timed out, the client asks
// for Info, and no answer to that either ends the process.
//
// Client is safe for concurrent use.
package worker
