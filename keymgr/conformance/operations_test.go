package conformance

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// inputs are the operations that are built, as the SDK's inputs. ReEncrypt stands twice in the matrix of states.
func (m material) inputs() map[string]any {
	key := aws.String(m.key)
	return map[string]any{
		"CancelKeyDeletion":    &kms.CancelKeyDeletionInput{KeyId: key},
		"CreateAlias":          &kms.CreateAliasInput{AliasName: aws.String("alias/z-" + m.key), TargetKeyId: key},
		"CreateGrant":          &kms.CreateGrantInput{KeyId: key, GranteePrincipal: aws.String(root), Operations: []types.GrantOperation{types.GrantOperationDecrypt}},
		"CreateKey":            &kms.CreateKeyInput{},
		"Decrypt":              &kms.DecryptInput{CiphertextBlob: m.blob},
		"DeleteAlias":          &kms.DeleteAliasInput{AliasName: aws.String("alias/x-" + m.key)},
		"DescribeKey":          &kms.DescribeKeyInput{KeyId: aws.String("alias/x-" + m.key)},
		"DisableKey":           &kms.DisableKeyInput{KeyId: key},
		"DisableKeyRotation":   &kms.DisableKeyRotationInput{KeyId: key},
		"EnableKey":            &kms.EnableKeyInput{KeyId: key},
		"EnableKeyRotation":    &kms.EnableKeyRotationInput{KeyId: key, RotationPeriodInDays: aws.Int32(90)},
		"Encrypt":              &kms.EncryptInput{KeyId: key, Plaintext: []byte("hello")},
		"GenerateDataKey":      &kms.GenerateDataKeyInput{KeyId: key, KeySpec: types.DataKeySpecAes256},
		"GenerateRandom":       &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(16)},
		"GetKeyPolicy":         &kms.GetKeyPolicyInput{KeyId: key},
		"GetKeyRotationStatus": &kms.GetKeyRotationStatusInput{KeyId: key},
		"ListAliases":          &kms.ListAliasesInput{KeyId: key},
		"ListGrants":           &kms.ListGrantsInput{KeyId: key},
		"ListKeyPolicies":      &kms.ListKeyPoliciesInput{KeyId: key},
		"ListKeyRotations":     &kms.ListKeyRotationsInput{KeyId: key},
		"ListKeys":             &kms.ListKeysInput{},
		"ListResourceTags":     &kms.ListResourceTagsInput{KeyId: key},
		"ListRetirableGrants":  &kms.ListRetirableGrantsInput{RetiringPrincipal: aws.String(root)},
		"PutKeyPolicy":         &kms.PutKeyPolicyInput{KeyId: key, Policy: aws.String(m.policy)},
		"ReEncrypt":            &kms.ReEncryptInput{CiphertextBlob: m.blob, DestinationKeyId: key},
		"ReEncryptFrom":        &kms.ReEncryptInput{CiphertextBlob: m.blob, DestinationKeyId: aws.String(m.other)},
		"ReEncryptTo":          &kms.ReEncryptInput{CiphertextBlob: m.otherBlob, DestinationKeyId: key},
		"RetireGrant":          &kms.RetireGrantInput{GrantToken: aws.String(m.grant.Token)},
		"RevokeGrant":          &kms.RevokeGrantInput{KeyId: key, GrantId: aws.String(m.grant.ID)},
		"RotateKeyOnDemand":    &kms.RotateKeyOnDemandInput{KeyId: key},
		"ScheduleKeyDeletion":  &kms.ScheduleKeyDeletionInput{KeyId: key, PendingWindowInDays: aws.Int32(7)},
		"TagResource":          &kms.TagResourceInput{KeyId: key, Tags: []types.Tag{{TagKey: aws.String("a"), TagValue: aws.String("b")}}},
		"UntagResource":        &kms.UntagResourceInput{KeyId: key, TagKeys: []string{"a"}},
		"UpdateAlias":          &kms.UpdateAliasInput{AliasName: aws.String("alias/y-" + m.key), TargetKeyId: key},
		"UpdateKeyDescription": &kms.UpdateKeyDescriptionInput{KeyId: key, Description: aws.String("new")},

		"DeleteImportedKeyMaterial": &kms.DeleteImportedKeyMaterialInput{KeyId: aws.String(m.external)},
		"GetParametersForImport": &kms.GetParametersForImportInput{KeyId: aws.String(m.external), WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256,
			WrappingKeySpec: types.WrappingKeySpecRsa2048},
		"ImportKeyMaterial": &kms.ImportKeyMaterialInput{KeyId: aws.String(m.external), ImportToken: m.token, EncryptedKeyMaterial: m.encrypted,
			ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire},

		"GenerateDataKeyWithoutPlaintext": &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: key, NumberOfBytes: aws.Int32(64)},
	}
}

// refusedInputs are the others. All have the same error.
func (m material) refusedInputs() map[string]any {
	key, store := aws.String(m.key), aws.String("cks-1")
	return map[string]any{
		"ConnectCustomKeyStore":    &kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: store},
		"CreateCustomKeyStore":     &kms.CreateCustomKeyStoreInput{CustomKeyStoreName: store},
		"DeleteCustomKeyStore":     &kms.DeleteCustomKeyStoreInput{CustomKeyStoreId: store},
		"DescribeCustomKeyStores":  &kms.DescribeCustomKeyStoresInput{},
		"DisconnectCustomKeyStore": &kms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: store},
		"UpdateCustomKeyStore":     &kms.UpdateCustomKeyStoreInput{CustomKeyStoreId: store},
		"DeriveSharedSecret": &kms.DeriveSharedSecretInput{KeyId: key, KeyAgreementAlgorithm: types.KeyAgreementAlgorithmSpecEcdh,
			PublicKey: []byte("k")},
		"Decapsulate": &kms.DecapsulateInput{KeyId: key, EncapsulationAlgorithm: types.EncapsulationAlgorithmSpecMlKem,
			SharedSecretCiphertextBlob: []byte("c")},
		"Encapsulate":         &kms.EncapsulateInput{KeyId: key, EncapsulationAlgorithm: types.EncapsulationAlgorithmSpecMlKem},
		"GenerateDataKeyPair": &kms.GenerateDataKeyPairInput{KeyId: key, KeyPairSpec: types.DataKeyPairSpecRsa2048},
		"GenerateMac":         &kms.GenerateMacInput{KeyId: key, MacAlgorithm: types.MacAlgorithmSpecHmacSha256, Message: []byte("m")},
		"GetKeyLastUsage":     &kms.GetKeyLastUsageInput{KeyId: key},
		"GetPublicKey":        &kms.GetPublicKeyInput{KeyId: key},
		"ReplicateKey":        &kms.ReplicateKeyInput{KeyId: key, ReplicaRegion: aws.String("x")},
		"Sign":                &kms.SignInput{KeyId: key, Message: []byte("m"), SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256},
		"UpdatePrimaryRegion": &kms.UpdatePrimaryRegionInput{KeyId: key, PrimaryRegion: aws.String("x")},
		"Verify": &kms.VerifyInput{KeyId: key, Message: []byte("m"), Signature: []byte("s"),
			SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256},
		"VerifyMac": &kms.VerifyMacInput{KeyId: key, MacAlgorithm: types.MacAlgorithmSpecHmacSha256, Message: []byte("m"), Mac: []byte("m")},

		"GenerateDataKeyPairWithoutPlaintext": &kms.GenerateDataKeyPairWithoutPlaintextInput{KeyId: key, KeyPairSpec: types.DataKeyPairSpecRsa2048},
	}
}
