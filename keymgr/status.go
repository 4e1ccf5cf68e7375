package keymgr

import "time"

// Status is what a running key manager says about itself. It holds no secret and needs no unlocked key store.
type Status struct {
	KeyStoreID string    // 32 hex digits
	Dir        string    // of the key store
	Locked     bool      // waits for its secret
	Unlock     string    // how it is unlocked: "passphrase", "key-file", "credential" or "pin"
	PID        int       // of keyd
	Started    time.Time // of keyd
	Token      TokenStatus
	KeyUseLog  string   // path of the key-use log
	Listen     string   // address and port for signed requests, or ""
	TLS        bool     // Listen speaks TLS
	LogError   string   // why the key-use log could not be written last time, or ""
	Volumes    []string // ids of the volumes whose front ends are connected, sorted

	Approvers int       // who approve changes; 0: nobody need. Known while it is unlocked
	Emergency Emergency // break-glass; known while it is unlocked

	Backup *LastBackup // known while it is unlocked; else nil
}

// TokenStatus describes the token behind a key store.
type TokenStatus struct {
	Kind    string // "soft" or "pkcs11"
	Label   string
	Model   string
	Serial  string
	HSM     bool   // false: embedded, not an HSM
	Imports bool   // it takes keys from outside
	Error   string // why it does not answer, or ""
}
