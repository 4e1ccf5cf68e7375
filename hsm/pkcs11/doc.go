// Package pkcs11 is the token behind a PKCS#11 module: a network HSM, a card, or
// SoftHSM. It is the only package with cgo, and runs in the worker process
// (hsm/worker), because modules crash, hang and leak.
//
// It does not know what the keys are for. It knows one token of one module; a
// process has at most one Token per module, because a module's state
// (C_Initialize, login) belongs to the process.
//
// Nouns: a connection is everything between C_Initialize and C_Finalize: the
// slot, the login, an anchor session that keeps the login alive, a pool of
// sessions (one call per session at a time), and handles of keys. The sentinel
// is an AES key of ours in the token; the known answer is a blob sealed under it.
//
// Failures are told apart like this. A call that fails in a way that a bad blob
// may cause is followed by decrypting the known answer in the same session: if
// that works, the blob is bad (hsm.ErrAuth) and nothing else happens. A handle
// that is no longer valid is followed by a search for the sentinel: if it is
// there, the key was destroyed (hsm.ErrKeyNotFound). Everything else that says
// the token is gone ends the connection; the next call reconnects, alone, with
// backoff: C_Finalize, C_Initialize, login, sentinel, known answer, and keys are
// found again by id, label and check value. No key is ever made because none was
// found. A wrong PIN is not tried twice, as tokens lock.
//
// A call in C cannot be cancelled. It runs in a goroutine; when its time is over
// the caller gets hsm.ErrTimeout, and the goroutine keeps its session and its
// place among MaxSessions until the module returns. If all places are taken by
// hanging calls, every call times out; the process on the other side of
// hsm/worker then kills the worker.
//
// docs/FORMAT.md section 10 describes what lies in the token.
package pkcs11
