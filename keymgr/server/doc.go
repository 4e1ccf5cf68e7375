// Package server is keyd: it holds a key store open and answers for it on a Unix socket.
//
// It does not know what the operations mean (keymgr), how a key store lies on disk (keymgr/keystore) or who mounts what. How the process is started,
// hardened and told its secret is its caller's business.
//
// Nouns: a connection belongs to a peer (uid, gid, pid by SO_PEERCRED) and may be registered as the front end of one volume; only then it may
// forward requests of others, for that volume. The socket lies in a directory of mode 0700; peers other than the owner and root are refused.
// While the key store is locked everything but Status, Unlock and RegisterVolume is answered by ErrLocked.
//
// Each request is bounded in size and time, and each connection in the time it may be slow. The protocol is package keymgr/wire.
package server
