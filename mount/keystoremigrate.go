package mount

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/keymgr/keystore"
)

// MigrateKeyStore moves a key store to a PKCS#11 token, while its daemon does not run: keystore.Migrate. pin is the new token's; auditDir where the new key
// store's audit log begins ("": in it, if the old one's is in the old one).
func MigrateKeyStore(ctx context.Context, dir string, secret SecretSource, token TokenConfig, pin SecretSource, auditDir string) (keystore.Migrated, error) {
	var none keystore.Migrated
	dir, err := keyStoreDir(dir)
	if err != nil {
		return none, err
	}
	if err := errors.Join(secret.absolute(), pin.absolute()); err != nil {
		return none, err
	}
	if auditDir != "" {
		if auditDir, err = filepath.Abs(auditDir); err != nil {
			return none, fmt.Errorf("audit directory: %w", err)
		}
	}
	to, err := token.resolve()
	if err != nil {
		return none, err
	}
	if to.Kind != hsm.KindPKCS11 {
		return none, fmt.Errorf("%w: a key store moves to a PKCS#11 token: --pkcs11-module and --pkcs11-token name it", ErrUsage)
	}
	was, err := loadKeyStore(dir)
	if err != nil {
		return none, err
	}
	unlock, err := unlockConfig(&pin, to.Kind)
	if err != nil {
		return none, err
	}
	cfg := keystore.MigrateConfig{Dir: dir, Token: to, Unlock: unlock, AuditDir: auditDir, Options: keyStoreOptions(slog.New(slog.DiscardHandler))}
	if given, err := secret.given(); err != nil || given != "" || !was.Unlock.Unattended() {
		buf, err := secret.read(was.Unlock.Kind)
		if err != nil {
			return none, fmt.Errorf("the present secret: %w", err)
		}
		defer buf.Close()
		cfg.Secret = buf
	}
	buf, err := pin.read(unlock.Kind)
	if err != nil {
		return none, fmt.Errorf("the new token's PIN: %w", err)
	}
	defer buf.Close()
	cfg.PIN = buf
	out, err := keystore.Migrate(ctx, cfg)
	if errors.Is(err, keystore.ErrInUse) {
		err = advise(err, "unmount its volumes and end its daemon first: kmsfs keystore lock")
	}
	return out, err
}
