package attack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/client"
	"github.com/kmsfs/kmsfs/keymgr/keystore"
	"github.com/kmsfs/kmsfs/keymgr/server"
	"github.com/kmsfs/kmsfs/meta/kv"
	"github.com/kmsfs/kmsfs/meta/kv/local"
)

// openTables opens the tables of a key store as mount does, only smaller.
func openTables(ctx context.Context, p keystore.KVParams) (kv.Store, error) {
	opts := local.Options{Dir: p.Dir, Volume: blockcrypt.VolumeID(p.ID), Key: p.Key, SegmentSize: 64 << 10, MaxJournal: 256 << 10, MinFree: -1}
	if p.Create {
		if err := local.Create(ctx, opts); err != nil {
			return nil, err
		}
	}
	store, err := local.Open(ctx, opts)
	if err != nil {
		return nil, err // a nil *local.Store must not become a Store
	}
	return store, nil
}

// keyDaemon is the key manager of a key store with an embedded token, running in this process.
type keyDaemon struct {
	*client.Client
	dir    string
	cancel context.CancelFunc
	ended  chan error
}

// makeKeyStore makes a key store in base/keys that base/key unlocks.
func makeKeyStore(ctx context.Context, base string) error {
	text := strings.Repeat("0123456789abcdef", 4)
	keyFile := filepath.Join(base, "key")
	if err := os.WriteFile(keyFile, []byte(text), 0o600); err != nil {
		return err
	}
	secret, err := locked.FromBytes([]byte(text))
	if err != nil {
		return err
	}
	defer secret.Close()
	_, err = keystore.Init(ctx, keystore.InitConfig{
		Dir: filepath.Join(base, "keys"), Unlock: keystore.UnlockConfig{Kind: keystore.KeyFile, KeyFile: keyFile}, Secret: secret,
		Options: keystore.Options{OpenKV: openTables},
	})
	return err
}

// startKeys serves a key store until stop.
func startKeys(dir string) (*keyDaemon, error) {
	ctx, cancel := context.WithCancel(context.Background())
	d := &keyDaemon{dir: dir, cancel: cancel, ended: make(chan error, 1)}
	ready := make(chan error, 1)
	cfg := server.RunConfig{
		Dir: dir, Ready: func(err error) { ready <- err }, Options: keystore.Options{OpenKV: openTables, Log: slog.New(slog.DiscardHandler)},
	}
	go func() { d.ended <- server.Run(ctx, cfg) }()
	if err := <-ready; err != nil {
		cancel()
		return nil, fmt.Errorf("start the key manager: %w", err)
	}
	d.Client = client.New(d.socket(), client.Options{})
	return d, nil
}

func (d *keyDaemon) socket() string { return keystore.SocketPath(d.dir) }

func (d *keyDaemon) stop() error {
	err := d.Close()
	d.cancel()
	return errors.Join(err, <-d.ended)
}

// setAnchor makes the key store believe that a is the newest state of a volume.
func (d *keyDaemon) setAnchor(ctx context.Context, id blockcrypt.VolumeID, a keymgr.Anchor) error {
	return d.RestoreAnchor(ctx, keymgr.Caller{}, id, a, "a test put the volume back")
}
