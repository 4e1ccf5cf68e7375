package hsm

import "context"

// Exporter is a Token whose keys can be taken out: the embedded one, which is not an HSM.
type Exporter interface {
	// ExportKey calls fn with a key of KeySize bytes, which is only there while fn runs. Errors: ErrKeyNotFound, those of fn.
	ExportKey(ctx context.Context, id KeyID, fn func(key []byte) error) error
}
