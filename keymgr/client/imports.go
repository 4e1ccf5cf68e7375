package client

import (
	"context"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

// GetParametersForImport as keymgr.Manager.GetParametersForImport. Making a wrapping key may take a second.
func (c *Client) GetParametersForImport(ctx context.Context, by keymgr.Caller, keyID, algorithm, spec string) (keymgr.ImportParameters, error) {
	var out wire.GetParametersForImportResponse
	in := wire.GetParametersForImportRequest{KeyId: keyID, WrappingAlgorithm: algorithm, WrappingKeySpec: spec}
	err := c.callWithin(ctx, max(c.opts.Timeout, UnlockTimeout), by, wire.ServiceAWS+"GetParametersForImport", in, &out)
	return keymgr.ImportParameters{KeyID: out.KeyId, Token: out.ImportToken, PublicKey: out.PublicKey, ValidTo: out.ParametersValidTo.Time}, err
}

// ImportKeyMaterial as keymgr.Manager.ImportKeyMaterial.
func (c *Client) ImportKeyMaterial(ctx context.Context, by keymgr.Caller, in keymgr.ImportInput) (materialID string, err error) {
	var out wire.ImportedResponse
	err = c.call(ctx, by, wire.ServiceAWS+"ImportKeyMaterial", wire.ImportKeyMaterialRequest{KeyId: in.KeyID, ImportToken: in.Token, EncryptedKeyMaterial: in.Encrypted,
		ExpirationModel: in.Model, ValidTo: wire.Time{Time: in.ValidTo}, ImportType: in.Type, KeyMaterialId: in.MaterialID}, &out)
	return out.KeyMaterialId, err
}

// DeleteImportedKeyMaterial as keymgr.Manager.DeleteImportedKeyMaterial.
func (c *Client) DeleteImportedKeyMaterial(ctx context.Context, by keymgr.Caller, keyID string) error {
	return c.call(ctx, by, wire.ServiceAWS+"DeleteImportedKeyMaterial", wire.KeyRequest{KeyId: keyID}, nil)
}
