package wire

import "github.com/kmsfs/kmsfs/keymgr"

// The bodies of AWS' operations, under AWS' names. Members that begin with Kmsfs are ours.

// KeyRequest is the input of all operations that take a key alone.
type KeyRequest struct{ KeyId string }

// DescribeKeyRequest is the input of DescribeKey.
type DescribeKeyRequest struct {
	KeyId       string
	GrantTokens []string `json:",omitempty" audit:"-"`
}

// CreateKeyRequest is the input of CreateKey. The values of the other members that AWS knows must be the defaults.
type CreateKeyRequest struct {
	Description           string `json:",omitempty" audit:"-"`
	KeyUsage              string `json:",omitempty"`
	KeySpec               string `json:",omitempty"`
	CustomerMasterKeySpec string `json:",omitempty"`
	Origin                string `json:",omitempty"`
	MultiRegion           bool   `json:",omitempty"`
	Policy                string `json:",omitempty"`
	Tags                  []Tag  `json:",omitempty"`
	CustomKeyStoreId      string `json:",omitempty"`
	XksKeyId              string `json:",omitempty"`
	KmsfsAlias            string `json:",omitempty"`

	BypassPolicyLockoutSafetyCheck bool `json:",omitempty"`
}

// KeyMetadata describes a key.
type KeyMetadata struct {
	AWSAccountId          string
	KeyId                 string
	Arn                   string
	CreationDate          Time
	Enabled               bool
	Description           string
	KeyUsage              string
	KeyState              string
	Origin                string
	KeyManager            string
	CustomerMasterKeySpec string
	KeySpec               string
	EncryptionAlgorithms  []string
	MultiRegion           bool
	CurrentKeyMaterialId  string `json:",omitempty"`
	ExpirationModel       string `json:",omitempty"`
	ValidTo               Time   `json:",omitzero"`
	DeletionDate          Time   `json:",omitzero"`
	KmsfsDeletionHalted   bool   `json:",omitempty"`
	KmsfsVersions         []KeyVersion
	KmsfsAliases          []string
}

// KeyVersion is one backing key.
type KeyVersion struct {
	Version       uint32
	KeyMaterialId string
	CreationDate  Time
	MadeIn        string `json:",omitempty"`
	Destroyed     Time   `json:",omitzero"`
}

// KeyMetadataResponse is the output of CreateKey and DescribeKey.
type KeyMetadataResponse struct{ KeyMetadata KeyMetadata }

// KeyIDResponse is the output of operations that answer with the key's ARN.
type KeyIDResponse struct{ KeyId string }

// ListRequest is the input of ListKeys, and with a KeyId of the lists of what belongs to a key.
type ListRequest struct {
	KeyId  string `json:",omitempty"`
	Limit  int    `json:",omitempty"`
	Marker string `json:",omitempty"`
}

// ListKeysResponse is the output of ListKeys.
type ListKeysResponse struct {
	Keys       []KeyEntry
	Truncated  bool
	NextMarker string `json:",omitempty"`
}

// KeyEntry is a line of ListKeys.
type KeyEntry struct{ KeyId, KeyArn string }

// AliasRequest is the input of CreateAlias, UpdateAlias and DeleteAlias.
type AliasRequest struct {
	AliasName   string
	TargetKeyId string `json:",omitempty"`
}

// ListAliasesResponse is the output of ListAliases.
type ListAliasesResponse struct {
	Aliases    []AliasEntry
	Truncated  bool
	NextMarker string `json:",omitempty"`
}

// AliasEntry is a line of ListAliases.
type AliasEntry struct {
	AliasName, AliasArn, TargetKeyId string
	CreationDate, LastUpdatedDate    Time
}

// GenerateDataKeyRequest is the input of GenerateDataKey and GenerateDataKeyWithoutPlaintext.
type GenerateDataKeyRequest struct {
	KeyId             string
	KeySpec           string            `json:",omitempty"`
	NumberOfBytes     *int              `json:",omitempty"`
	EncryptionContext map[string]string `json:",omitempty"`
	GrantTokens       []string          `json:",omitempty" audit:"-"`
	DryRun            bool              `json:",omitempty"`
}

// GenerateDataKeyResponse is the output of GenerateDataKey and GenerateDataKeyWithoutPlaintext.
type GenerateDataKeyResponse struct {
	CiphertextBlob []byte
	KeyId          string
	KeyMaterialId  string
	Plaintext      Secret `json:"-" secret:"Plaintext"`
}

// EncryptRequest is the input of Encrypt.
type EncryptRequest struct {
	KeyId               string
	EncryptionContext   map[string]string `json:",omitempty"`
	EncryptionAlgorithm string            `json:",omitempty"`
	GrantTokens         []string          `json:",omitempty" audit:"-"`
	DryRun              bool              `json:",omitempty"`
	Plaintext           Secret            `json:"-" secret:"Plaintext"`
}

// EncryptResponse is the output of Encrypt.
type EncryptResponse struct {
	CiphertextBlob      []byte
	KeyId               string
	EncryptionAlgorithm string
}

// DecryptRequest is the input of Decrypt.
type DecryptRequest struct {
	CiphertextBlob      []byte
	KeyId               string            `json:",omitempty"`
	EncryptionContext   map[string]string `json:",omitempty"`
	EncryptionAlgorithm string            `json:",omitempty"`
	GrantTokens         []string          `json:",omitempty" audit:"-"`
	DryRun              bool              `json:",omitempty"`
}

// DecryptResponse is the output of Decrypt.
type DecryptResponse struct {
	KeyId               string
	EncryptionAlgorithm string
	KeyMaterialId       string
	KmsfsVersion        uint32
	Plaintext           Secret `json:"-" secret:"Plaintext"`
}

// ReEncryptRequest is the input of ReEncrypt.
type ReEncryptRequest struct {
	CiphertextBlob                 []byte
	SourceKeyId                    string            `json:",omitempty"`
	SourceEncryptionContext        map[string]string `json:",omitempty"`
	SourceEncryptionAlgorithm      string            `json:",omitempty"`
	DestinationKeyId               string
	DestinationEncryptionContext   map[string]string `json:",omitempty"`
	DestinationEncryptionAlgorithm string            `json:",omitempty"`
	GrantTokens                    []string          `json:",omitempty" audit:"-"`
	DryRun                         bool              `json:",omitempty"`
}

// ReEncryptResponse is the output of ReEncrypt.
type ReEncryptResponse struct {
	CiphertextBlob                                            []byte
	SourceKeyId, KeyId                                        string
	SourceEncryptionAlgorithm, DestinationEncryptionAlgorithm string
	SourceKeyMaterialId, DestinationKeyMaterialId             string
}

// GenerateRandomRequest is the input of GenerateRandom.
type GenerateRandomRequest struct {
	NumberOfBytes *int `json:",omitempty"`
}

// GenerateRandomResponse is the output of GenerateRandom.
type GenerateRandomResponse struct {
	Plaintext Secret `json:"-" secret:"Plaintext"`
}

// Symmetric is the only key spec and encryption algorithm.
const Symmetric = "SYMMETRIC_DEFAULT"

// FromMetadata makes AWS' shape of a key's metadata.
func FromMetadata(m keymgr.KeyMetadata) KeyMetadata {
	out := KeyMetadata{
		AWSAccountId: keymgr.AccountID, KeyId: m.KeyID, Arn: m.ARN, CreationDate: Time{m.CreationDate}, Enabled: m.Enabled, Description: m.Description,
		KeyUsage: "ENCRYPT_DECRYPT", KeyState: m.State, Origin: m.Origin, KeyManager: m.Manager, CustomerMasterKeySpec: Symmetric, KeySpec: Symmetric,
		EncryptionAlgorithms: []string{Symmetric}, ExpirationModel: m.Expiration, ValidTo: Time{m.ValidTo}, DeletionDate: Time{m.DeletionDate}, KmsfsDeletionHalted: m.DeletionSuspended, KmsfsAliases: m.Aliases,
	}
	for _, v := range m.Versions {
		out.KmsfsVersions = append(out.KmsfsVersions, KeyVersion{v.Number, v.MaterialID, Time{v.Created}, v.MadeIn, Time{v.Destroyed}})
		out.CurrentKeyMaterialId = v.MaterialID
	}
	return out
}

// Metadata is the inverse of FromMetadata.
func (m KeyMetadata) Metadata() keymgr.KeyMetadata {
	out := keymgr.KeyMetadata{KeyID: m.KeyId, ARN: m.Arn, Description: m.Description, State: m.KeyState, Enabled: m.Enabled, Manager: m.KeyManager,
		Origin: m.Origin, CreationDate: m.CreationDate.Time, Aliases: m.KmsfsAliases, Expiration: m.ExpirationModel, ValidTo: m.ValidTo.Time, DeletionDate: m.DeletionDate.Time, DeletionSuspended: m.KmsfsDeletionHalted}
	for _, v := range m.KmsfsVersions {
		out.Versions = append(out.Versions, keymgr.VersionInfo{Number: v.Version, MaterialID: v.KeyMaterialId, Created: v.CreationDate.Time, MadeIn: v.MadeIn, Destroyed: v.Destroyed.Time})
	}
	return out
}
