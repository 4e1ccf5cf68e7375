package keyring

import (
	"context"
	"fmt"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/meta"
)

// KeyMaker makes data keys: keymgr/client.Client is one.
type KeyMaker interface {
	GenerateDataKey(ctx context.Context, by keymgr.Caller, in keymgr.GenerateDataKeyInput) (keymgr.DataKey, error)
}

// NewRootZone makes the zone of a new volume's root directory: a zone key generated and wrapped under cmk (id, ARN or alias), and a names key
// wrapped under it. The raw keys are wiped. Nothing is stored.
func NewRootZone(ctx context.Context, keys KeyMaker, by keymgr.Caller, cmk string, volume blockcrypt.VolumeID) (*meta.Zone, error) {
	data, err := keys.GenerateDataKey(ctx, by, keymgr.GenerateDataKeyInput{
		KeyID:   cmk,
		Bytes:   blockcrypt.KeySize,
		Context: meta.ZoneContext(volume, meta.RootZone, 0, rootName),
	})
	defer clear(data.Plaintext)
	if err != nil {
		return nil, fmt.Errorf("make zone key: %w", err)
	}
	zoneKey, err := blockcrypt.KeyFromBytes(data.Plaintext)
	if err != nil {
		return nil, fmt.Errorf("make zone key: %w", err)
	}
	defer zoneKey.Wipe()
	z, err := meta.NewZone(volume, meta.RootZone, meta.RootIno, zoneKey)
	if err != nil {
		return nil, fmt.Errorf("make root zone: %w", err)
	}
	z.Wraps = []meta.ZoneWrap{{KeyID: data.KeyID, Blob: data.Blob}}
	return z, nil
}
