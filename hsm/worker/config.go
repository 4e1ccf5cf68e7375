package worker

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

// Config says what to start and which token it opens.
type Config struct {
	Binary string   // path of the worker program
	Args   []string // its arguments, usually none
	Env    []string // its environment; nil means that of this process

	Module      string         // path of the PKCS#11 module
	TokenLabel  string         // label of the token
	Serial      string         // serial number the token must have; "" for any
	PIN         *locked.Buffer // stays the caller's; Start copies it into locked memory
	Initialize  bool           // may put the sentinel into the token: only when a key store is made
	MaxSessions int            // see hsm/pkcs11; 0 is its default

	// CallTimeout bounds one call, with a restart of the worker in it, if need
	// be; 0 means DefaultCallTimeout. OpenTimeout bounds the start of a worker
	// up to its open token, and making or destroying a key; 0 means
	// DefaultOpenTimeout.
	CallTimeout, OpenTimeout time.Duration
	Log                      *slog.Logger // nil: nothing is logged
}

// OpenConfig is what a worker is told to open: Config without the things of the
// parent's side.
type OpenConfig struct {
	Module      string
	TokenLabel  string
	Serial      string
	Initialize  bool
	MaxSessions int
	CallTimeout time.Duration
	OpenTimeout time.Duration
	PIN         *locked.Buffer // closed by Serve when open has returned
}
