package wire

// The bodies of AWS' operations on imported key material.

// GetParametersForImportRequest is the input of GetParametersForImport.
type GetParametersForImportRequest struct{ KeyId, WrappingAlgorithm, WrappingKeySpec string }

// GetParametersForImportResponse is the output of GetParametersForImport.
type GetParametersForImportResponse struct {
	KeyId             string
	ImportToken       []byte
	PublicKey         []byte
	ParametersValidTo Time
}

// ImportKeyMaterialRequest is the input of ImportKeyMaterial.
type ImportKeyMaterialRequest struct {
	KeyId                string
	ImportToken          []byte
	EncryptedKeyMaterial []byte
	ExpirationModel      string `json:",omitempty"`
	ValidTo              Time   `json:",omitzero"`
	ImportType           string `json:",omitempty"`
	KeyMaterialId        string `json:",omitempty"`
}

// ImportedResponse is the output of ImportKeyMaterial and DeleteImportedKeyMaterial.
type ImportedResponse struct {
	KeyId         string
	KeyMaterialId string `json:",omitempty"`
}
