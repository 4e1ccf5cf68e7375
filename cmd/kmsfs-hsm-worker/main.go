//go:build cgo

// Command kmsfs-hsm-worker loads a PKCS#11 module for the key daemon and answers
// its requests over the socketpair on descriptor 3. kmsfs starts it; it takes no
// arguments and reads no files of its own.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/hsm/pkcs11"
	"github.com/kmsfs/kmsfs/hsm/worker"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "kmsfs-hsm-worker:", err)
		os.Exit(1) // at once: the atexit handlers of some modules crash
	}
	os.Exit(0)
}

func run() error {
	if err := worker.Isolate(); err != nil {
		return err
	}
	conn, err := worker.Inherited()
	if err != nil {
		return err
	}
	return worker.Serve(context.Background(), conn, open)
}

func open(ctx context.Context, cfg worker.OpenConfig) (hsm.Token, error) {
	t, err := pkcs11.Open(ctx, pkcs11.Config{
		Module:      cfg.Module,
		TokenLabel:  cfg.TokenLabel,
		Serial:      cfg.Serial,
		PIN:         cfg.PIN,
		Initialize:  cfg.Initialize,
		MaxSessions: cfg.MaxSessions,
		CallTimeout: cfg.CallTimeout,
		OpenTimeout: cfg.OpenTimeout,
	})
	if err != nil {
		return nil, err // not t: a nil *Token would not be a nil hsm.Token
	}
	return t, nil
}
