package server

import (
	"context"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

func validation(message string) error {
	return &keymgr.Fault{Class: keymgr.ErrValidation, Message: message}
}

func unsupported(message string) error {
	return &keymgr.Fault{Class: keymgr.ErrUnsupported, Message: message}
}

func createKey(ctx context.Context, m *keymgr.Manager, r *request, in *wire.CreateKeyRequest) (wire.KeyMetadataResponse, error) {
	for _, c := range []struct{ got, only, name string }{
		{in.KeyUsage, "ENCRYPT_DECRYPT", "KeyUsage"}, {in.KeySpec, wire.Symmetric, "KeySpec"},
		{in.CustomerMasterKeySpec, wire.Symmetric, "CustomerMasterKeySpec"},
	} {
		if c.got != "" && c.got != c.only {
			return wire.KeyMetadataResponse{}, unsupported(c.name + " can only be " + c.only)
		}
	}
	if in.MultiRegion || in.CustomKeyStoreId != "" || in.XksKeyId != "" {
		return wire.KeyMetadataResponse{}, unsupported("MultiRegion, CustomKeyStoreId and XksKeyId are not supported")
	}
	md, err := m.CreateKey(ctx, r.by, keymgr.CreateKeyInput{Description: in.Description, Alias: in.KmsfsAlias, Tags: wire.Tags(in.Tags),
		Policy: in.Policy, Bypass: in.BypassPolicyLockoutSafetyCheck, Origin: in.Origin})
	return wire.KeyMetadataResponse{KeyMetadata: wire.FromMetadata(md)}, err
}

func getManagedKey(ctx context.Context, m *keymgr.Manager, r *request, _ *struct{}) (wire.KeyMetadataResponse, error) {
	md, err := m.ManagedKey(ctx, r.by)
	return wire.KeyMetadataResponse{KeyMetadata: wire.FromMetadata(md)}, err
}

func describeKey(ctx context.Context, m *keymgr.Manager, r *request, in *wire.DescribeKeyRequest) (wire.KeyMetadataResponse, error) {
	md, err := m.DescribeKey(ctx, r.by, in.KeyId, in.GrantTokens...)
	return wire.KeyMetadataResponse{KeyMetadata: wire.FromMetadata(md)}, err
}

func listKeys(ctx context.Context, m *keymgr.Manager, r *request, in *wire.ListRequest) (wire.ListKeysResponse, error) {
	list, err := m.ListKeys(ctx, r.by, keymgr.Page{Limit: in.Limit, Marker: in.Marker})
	out := wire.ListKeysResponse{Keys: []wire.KeyEntry{}, Truncated: list.NextMarker != "", NextMarker: list.NextMarker}
	for _, k := range list.Keys {
		out.Keys = append(out.Keys, wire.KeyEntry{KeyId: k.KeyID, KeyArn: k.ARN})
	}
	return out, err
}

func enableKey(ctx context.Context, m *keymgr.Manager, r *request, in *wire.KeyRequest) (none, error) {
	return none{}, m.EnableKey(ctx, r.by, in.KeyId)
}

func disableKey(ctx context.Context, m *keymgr.Manager, r *request, in *wire.KeyRequest) (none, error) {
	return none{}, m.DisableKey(ctx, r.by, in.KeyId)
}

func rotateKeyOnDemand(ctx context.Context, m *keymgr.Manager, r *request, in *wire.KeyRequest) (wire.KeyIDResponse, error) {
	arn, err := m.RotateKeyOnDemand(ctx, r.by, in.KeyId)
	return wire.KeyIDResponse{KeyId: arn}, err
}

func createAlias(ctx context.Context, m *keymgr.Manager, r *request, in *wire.AliasRequest) (none, error) {
	return none{}, m.CreateAlias(ctx, r.by, in.AliasName, in.TargetKeyId)
}

func deleteAlias(ctx context.Context, m *keymgr.Manager, r *request, in *wire.AliasRequest) (none, error) {
	return none{}, m.DeleteAlias(ctx, r.by, in.AliasName)
}

func listAliases(ctx context.Context, m *keymgr.Manager, r *request, in *wire.ListRequest) (wire.ListAliasesResponse, error) {
	list, err := m.ListAliases(ctx, r.by, in.KeyId, keymgr.Page{Limit: in.Limit, Marker: in.Marker})
	out := wire.ListAliasesResponse{Aliases: []wire.AliasEntry{}, Truncated: list.NextMarker != "", NextMarker: list.NextMarker}
	for _, a := range list.Aliases {
		out.Aliases = append(out.Aliases, wire.AliasEntry{AliasName: a.Name, AliasArn: a.ARN, TargetKeyId: a.TargetKeyID,
			CreationDate: wire.Time{Time: a.Created}, LastUpdatedDate: wire.Time{Time: a.Updated}})
	}
	return out, err
}

// dataKeyInput checks what is particular to the wire: the length is given in one of two ways.
func dataKeyInput(in *wire.GenerateDataKeyRequest) (keymgr.GenerateDataKeyInput, error) {
	out := keymgr.GenerateDataKeyInput{KeyID: in.KeyId, Context: in.EncryptionContext, Tokens: in.GrantTokens, DryRun: in.DryRun}
	if (in.KeySpec == "") == (in.NumberOfBytes == nil) {
		return out, validation("Please specify either number of bytes or key spec.")
	}
	switch {
	case in.NumberOfBytes != nil:
		out.Bytes = *in.NumberOfBytes
	case in.KeySpec == "AES_256":
		out.Bytes = 32
	case in.KeySpec == "AES_128":
		out.Bytes = 16
	default:
		return out, validation("1 validation error detected: Value at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set: [AES_256, AES_128]")
	}
	return out, nil
}

func generateDataKey(ctx context.Context, m *keymgr.Manager, r *request, in *wire.GenerateDataKeyRequest) (wire.GenerateDataKeyResponse, error) {
	input, err := dataKeyInput(in)
	if err != nil {
		return wire.GenerateDataKeyResponse{}, err
	}
	key, err := m.GenerateDataKey(ctx, r.by, input)
	return wire.GenerateDataKeyResponse{CiphertextBlob: key.Blob, KeyId: key.KeyID, KeyMaterialId: key.MaterialID, Plaintext: key.Plaintext}, err
}

func generateDataKeyWithoutPlaintext(ctx context.Context, m *keymgr.Manager, r *request, in *wire.GenerateDataKeyRequest) (wire.GenerateDataKeyResponse, error) {
	input, err := dataKeyInput(in)
	if err != nil {
		return wire.GenerateDataKeyResponse{}, err
	}
	key, err := m.GenerateDataKeyWithoutPlaintext(ctx, r.by, input)
	return wire.GenerateDataKeyResponse{CiphertextBlob: key.Blob, KeyId: key.KeyID, KeyMaterialId: key.MaterialID}, err
}

// checkAlgorithms refuses algorithms that no key here has.
func checkAlgorithms(algorithms ...string) error {
	for _, a := range algorithms {
		if a != "" && a != wire.Symmetric {
			return &keymgr.Fault{Class: keymgr.ErrValidation, Message: "EncryptionAlgorithm can only be " + wire.Symmetric}
		}
	}
	return nil
}

func encrypt(ctx context.Context, m *keymgr.Manager, r *request, in *wire.EncryptRequest) (wire.EncryptResponse, error) {
	if err := checkAlgorithms(in.EncryptionAlgorithm); err != nil {
		return wire.EncryptResponse{}, err
	}
	out, err := m.Encrypt(ctx, r.by, keymgr.EncryptInput{KeyID: in.KeyId, Plaintext: in.Plaintext, Context: in.EncryptionContext,
		Tokens: in.GrantTokens, DryRun: in.DryRun})
	return wire.EncryptResponse{CiphertextBlob: out.Blob, KeyId: out.KeyID, EncryptionAlgorithm: wire.Symmetric}, err
}

func decrypt(ctx context.Context, m *keymgr.Manager, r *request, in *wire.DecryptRequest) (wire.DecryptResponse, error) {
	if err := checkAlgorithms(in.EncryptionAlgorithm); err != nil {
		return wire.DecryptResponse{}, err
	}
	out, err := m.Decrypt(ctx, r.by, keymgr.DecryptInput{Blob: in.CiphertextBlob, Context: in.EncryptionContext, KeyID: in.KeyId,
		Tokens: in.GrantTokens, DryRun: in.DryRun})
	return wire.DecryptResponse{KeyId: out.KeyID, EncryptionAlgorithm: wire.Symmetric, KeyMaterialId: out.MaterialID, KmsfsVersion: out.Version,
		Plaintext: out.Plaintext}, err
}

func reEncrypt(ctx context.Context, m *keymgr.Manager, r *request, in *wire.ReEncryptRequest) (wire.ReEncryptResponse, error) {
	if err := checkAlgorithms(in.SourceEncryptionAlgorithm, in.DestinationEncryptionAlgorithm); err != nil {
		return wire.ReEncryptResponse{}, err
	}
	out, err := m.ReEncrypt(ctx, r.by, keymgr.ReEncryptInput{Blob: in.CiphertextBlob, SourceContext: in.SourceEncryptionContext,
		SourceKeyID: in.SourceKeyId, DestinationKeyID: in.DestinationKeyId, DestinationContext: in.DestinationEncryptionContext,
		Tokens: in.GrantTokens, DryRun: in.DryRun})
	return wire.ReEncryptResponse{CiphertextBlob: out.Blob, SourceKeyId: out.SourceKeyID, KeyId: out.KeyID, SourceEncryptionAlgorithm: wire.Symmetric,
		DestinationEncryptionAlgorithm: wire.Symmetric, SourceKeyMaterialId: out.SourceMaterialID, DestinationKeyMaterialId: out.DestinationMaterialID}, err
}

func generateRandom(ctx context.Context, m *keymgr.Manager, r *request, in *wire.GenerateRandomRequest) (wire.GenerateRandomResponse, error) {
	if in.NumberOfBytes == nil {
		return wire.GenerateRandomResponse{}, validation("NumberOfBytes is required.")
	}
	b, err := m.GenerateRandom(ctx, r.by, *in.NumberOfBytes)
	return wire.GenerateRandomResponse{Plaintext: b}, err
}
