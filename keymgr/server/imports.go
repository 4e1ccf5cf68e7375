package server

import (
	"context"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

func getParametersForImport(ctx context.Context, m *keymgr.Manager, r *request, in *wire.GetParametersForImportRequest) (wire.GetParametersForImportResponse, error) {
	p, err := m.GetParametersForImport(ctx, r.by, in.KeyId, in.WrappingAlgorithm, in.WrappingKeySpec)
	return wire.GetParametersForImportResponse{KeyId: p.KeyID, ImportToken: p.Token, PublicKey: p.PublicKey, ParametersValidTo: wire.Time{Time: p.ValidTo}}, err
}

func importKeyMaterial(ctx context.Context, m *keymgr.Manager, r *request, in *wire.ImportKeyMaterialRequest) (wire.ImportedResponse, error) {
	out, err := m.ImportKeyMaterial(ctx, r.by, keymgr.ImportInput{KeyID: in.KeyId, Token: in.ImportToken, Encrypted: in.EncryptedKeyMaterial, Model: in.ExpirationModel,
		ValidTo: in.ValidTo.Time, MaterialID: in.KeyMaterialId, Type: in.ImportType})
	return wire.ImportedResponse{KeyId: out.KeyID, KeyMaterialId: out.MaterialID}, err
}

func deleteImportedKeyMaterial(ctx context.Context, m *keymgr.Manager, r *request, in *wire.KeyRequest) (wire.ImportedResponse, error) {
	out, err := m.DeleteImportedKeyMaterial(ctx, r.by, in.KeyId)
	return wire.ImportedResponse{KeyId: out.KeyID, KeyMaterialId: out.MaterialID}, err
}
