//go:build cgo

package pkcs11

// WithoutEd25519 is cfg for a token that has no Ed25519.
func WithoutEd25519(cfg Config) Config {
	cfg.signing = signing(len(curves) - 1)
	return cfg
}
