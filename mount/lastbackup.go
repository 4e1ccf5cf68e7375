package mount

import (
	"context"
	"time"

	"github.com/kmsfs/kmsfs/hsm/awake"
	"github.com/kmsfs/kmsfs/keymgr"
)

// KeyStoreBackup says what the newest backup of a key store would bring back.
type KeyStoreBackup struct {
	Time       time.Time `json:"time,omitzero"` // zero: none was made
	Generation uint64    `json:"generation,omitempty"`
	Changed    bool      `json:"changed_since"`   // anything of the key store but clean ends of volumes
	Keys       bool      `json:"keys_made_since"` // backing keys, which are not in it
}

// lastBackup is what a key daemon's status says of backups; nil if it is not known.
func lastBackup(st keymgr.Status) *KeyStoreBackup {
	if st.Backup == nil {
		return nil
	}
	b := KeyStoreBackup(*st.Backup)
	return &b
}

// askBackup asks the key daemon; nil if it does not say.
func (v *Volume) askBackup(ctx context.Context) *KeyStoreBackup {
	ctx, cancel := awake.WithTimeout(ctx, askKeys)
	defer cancel()
	st, err := v.keys.Status(ctx)
	if err != nil {
		return nil
	}
	return lastBackup(st)
}
