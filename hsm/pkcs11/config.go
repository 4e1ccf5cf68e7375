package pkcs11

import (
	"log/slog"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt/locked"
)

// Defaults of Config.
const (
	DefaultCallTimeout = 5 * time.Second
	DefaultOpenTimeout = 30 * time.Second
)

// Config says which token to open and how.
type Config struct {
	Module     string // path of the PKCS#11 module, e.g. /usr/lib/softhsm/libsofthsm2.so
	TokenLabel string // label of the token among those the module shows
	// Serial, if not empty, is the serial number that the token must have, so
	// that another token of the same label is not taken for it.
	Serial string
	// PIN is the user PIN. It stays the caller's: Open copies it into locked
	// memory of its own, because reconnecting needs it again.
	PIN *locked.Buffer
	// Initialize allows Open to put the sentinel into a token that has none,
	// which is right when a key store is made and never afterwards: a token
	// without the sentinel is then another token.
	Initialize bool
	// MaxSessions bounds the calls that are in the module at once. 0 means 1
	// for SoftHSM, which locks globally and has crashed under concurrency, and
	// 8 for all others.
	MaxSessions int
	// CallTimeout bounds one call, reconnecting included; 0 means
	// DefaultCallTimeout. OpenTimeout bounds Open, and making or destroying a
	// key, which is slow in some tokens; 0 means DefaultOpenTimeout.
	CallTimeout, OpenTimeout time.Duration
	Log                      *slog.Logger // nil: nothing is logged

	signing signing // for tests
}

// signing is the first of the kinds of signing keys (curves) that is tried.
type signing int
