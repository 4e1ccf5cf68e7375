package mount

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/audit/trail"
	"github.com/kmsfs/kmsfs/keymgr/client"
	"github.com/kmsfs/kmsfs/keymgr/keystore"
)

// Keys is the key manager of a key store, for the key commands.
type Keys struct{ *client.Client }

// OpenKeys returns the key manager of a key store ("": the default one), whose daemon it starts if none runs.
func OpenKeys(ctx context.Context, dir string, secret SecretSource) (*Keys, error) {
	dir, err := keyStoreDir(dir)
	if err != nil {
		return nil, err
	}
	if err := secret.absolute(); err != nil {
		return nil, err
	}
	if err := ensureKeyd(ctx, dir, &secret); err != nil {
		return nil, err
	}
	return &Keys{dialKeys(dir)}, nil
}

// Enable enables a CMK, however it is named: the service itself takes no alias here, as AWS' does not.
func (k *Keys) Enable(ctx context.Context, name string) error {
	key, err := k.DescribeKey(ctx, keymgr.Caller{}, name)
	if err != nil {
		return err
	}
	return k.EnableKey(ctx, keymgr.Caller{}, key.ARN)
}

// Disable disables a CMK, however it is named.
func (k *Keys) Disable(ctx context.Context, name string) error {
	key, err := k.DescribeKey(ctx, keymgr.Caller{}, name)
	if err != nil {
		return err
	}
	return k.DisableKey(ctx, keymgr.Caller{}, key.ARN)
}

// Each calls fn for every CMK, in the order of their ids.
func (k *Keys) Each(ctx context.Context, fn func(keymgr.KeyMetadata)) error {
	for page := (keymgr.Page{}); ; {
		list, err := k.ListKeys(ctx, keymgr.Caller{}, page)
		if err != nil {
			return err
		}
		for _, entry := range list.Keys {
			key, err := k.DescribeKey(ctx, keymgr.Caller{}, entry.KeyID)
			if err != nil {
				return err
			}
			fn(key)
		}
		if page.Marker = list.NextMarker; page.Marker == "" {
			return nil
		}
	}
}

// KeyStoreState is what `kmsfs keystore status` says.
type KeyStoreState struct {
	KeyStore  string    `json:"key_store"`
	ID        string    `json:"key_store_id"`
	Unlock    string    `json:"unlock"` // kind of its secret
	State     string    `json:"state"`  // "unlocked", "locked", "no daemon"
	PID       int       `json:"pid,omitempty"`
	Started   time.Time `json:"started,omitzero"`
	Token     string    `json:"token"` // for people
	HSM       bool      `json:"hsm"`
	Imports   bool      `json:"imports"` // the token takes keys from outside; known while it is unlocked
	KeyUseLog string    `json:"key_use_log"`
	Listen    string    `json:"listen,omitempty"` // address and port for signed requests
	TLS       bool      `json:"tls,omitempty"`    // Listen speaks TLS
	Volumes   []string  `json:"mounted_volumes"`
	Problem   string    `json:"problem,omitempty"`

	Approvers  int    `json:"approvers"`             // who approve changes; 0: nobody need
	BreakGlass string `json:"break_glass,omitempty"` // how it stands, for people

	Backup *KeyStoreBackup `json:"last_backup,omitempty"` // nil: not known; it is while it is unlocked
}

// KeyStoreStatus describes a key store; it needs no secret and starts nothing.
func KeyStoreStatus(ctx context.Context, dir string) (KeyStoreState, error) {
	dir, err := keyStoreDir(dir)
	if err != nil {
		return KeyStoreState{}, err
	}
	cfg, err := loadKeyStore(dir)
	if err != nil {
		return KeyStoreState{}, err
	}
	out := KeyStoreState{
		KeyStore: dir, ID: fmt.Sprintf("%x", cfg.ID), Unlock: cfg.Unlock.Kind, State: "no daemon", KeyUseLog: filepath.Join(keystore.AuditDir(dir, cfg), trail.KeyStream), Volumes: []string{},
		Token: describeToken(keymgr.TokenStatus{Kind: cfg.Token.Kind, Label: cmp.Or(cfg.Token.Label, cfg.Token.Module), Serial: cfg.Token.Serial}),
	}
	keys := dialKeys(dir)
	defer keys.Close()
	st, err := keys.Status(ctx)
	if errors.Is(err, keymgr.ErrKeyUnavailable) {
		return out, nil
	}
	if err != nil {
		return out, err
	}
	out.State, out.PID, out.Started, out.HSM, out.Imports, out.Listen, out.TLS = "unlocked", st.PID, st.Started, st.Token.HSM, st.Token.Imports, st.Listen, st.TLS
	if st.Locked {
		out.State = "locked"
	}
	out.Token, out.Problem = describeToken(st.Token), st.LogError
	if st.Token.Error != "" {
		out.Problem = "token: " + st.Token.Error
	}
	out.Volumes = append(out.Volumes, st.Volumes...)
	out.Approvers, out.BreakGlass, out.Backup = st.Approvers, describeEmergency(st.Emergency), lastBackup(st)
	return out, nil
}

// describeEmergency says how break-glass stands.
func describeEmergency(e keymgr.Emergency) string {
	switch {
	case e.Open:
		return fmt.Sprintf("OPEN until %s, by %s: %s", e.Until.Format(time.RFC3339), e.By, e.Reason)
	case !e.Opened.IsZero():
		return fmt.Sprintf("was opened on %s by %s (%s); look at the audit log, then kmsfs break-glass setup", e.Opened.Format(time.RFC3339), e.By, e.Reason)
	case !e.Set.IsZero():
		return "set up on " + e.Set.Format(time.RFC3339)
	}
	return ""
}

// UnlockKeyStore unlocks a key store's daemon, or starts one. On an unlocked one it checks the secret, if one was given. A key store that is older than its token knows is
// keymgr.ErrRollback, unless acceptRestore is set: then it goes on from there, which is recorded.
func UnlockKeyStore(ctx context.Context, dir string, secret SecretSource, acceptRestore bool) error {
	dir, err := keyStoreDir(dir)
	if err != nil {
		return err
	}
	if err := secret.absolute(); err != nil {
		return err
	}
	held := heldSecret{source: &secret, acceptRestore: acceptRestore}
	defer held.close()
	if acceptRestore {
		held.args = []string{"--accept-restore"}
	}
	_, err = startKeydBy(ctx, dir, &held)
	return err
}

// LockKeyStore ends a key store's daemon. ErrInUse while volumes are mounted.
func LockKeyStore(ctx context.Context, dir string) error {
	dir, err := keyStoreDir(dir)
	if err != nil {
		return err
	}
	if _, err := loadKeyStore(dir); err != nil {
		return err
	}
	return stopKeyd(ctx, dir)
}

// workerProgram is the cgo program beside this one.
const workerProgram = "kmsfs-hsm-worker"

// ExecWorker becomes the worker program.
func ExecWorker(args []string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	path := filepath.Join(filepath.Dir(self), workerProgram)
	err = unix.Exec(path, append([]string{workerProgram}, args...), os.Environ())
	return advise(fmt.Errorf("run %s: %w", path, err), "make build builds it where there is a C compiler (apt-get install gcc libc6-dev)")
}
