// Package keystore is a key store on disk: its directory, its configuration, how it is unlocked, and its key-use log. It brings a keymgr.Manager to life
// and takes it down again.
//
// It does not know sockets or processes (keymgr/server), nor what lies in the tables (keymgr); how the tables lie on disk is injected (OpenKV).
//
// Nouns:
//
//	key store      a directory of mode 0700, outside every volume
//	configuration  keystore.json: which token, how it is unlocked, the wrapped store key; no secret in clear
//	secret         passphrase, content of a key file or credential, or PIN; opens the token
//	root key       the token's key that wraps the store key
//	store key      seals the tables; in memory while the key store is open
//
// A Store is safe for concurrent use. Implements docs/FORMAT.md, section 10.
//
//	KEYSTORE/keystore.json        configuration
//	KEYSTORE/lock                 held (flock) by the process that has the key store open
//	KEYSTORE/token/               the embedded token, if that is used
//	KEYSTORE/db/                  tables
//	KEYSTORE/audit/               audit log, if it lies nowhere else
//	KEYSTORE/run/keyd.sock        socket of keyd
package keystore
