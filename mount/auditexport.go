package mount

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/kmsfs/kmsfs/keymgr/audit/export"
	"github.com/kmsfs/kmsfs/keymgr/audit/trail"
)

// AuditExport says what to export, how and where to.
type AuditExport struct {
	Dir     string // of the log
	Query   trail.Query
	Format  string // "jsonl", "cef" or "cloudtrail"
	Version string // of this program, for CEF
	To      io.Writer
	// Bucket is the directory that an export as CloudTrail's makes, with the digests' signing key from the PEM file RSAKey, which is made if it is not there.
	Bucket, RSAKey string
}

const rsaBits = 3072

// ExportAudit exports events.
func ExportAudit(ctx context.Context, x AuditExport) error {
	w, err := x.writer()
	if err != nil {
		return err
	}
	if err := trail.Search(ctx, x.Dir, x.Query, w.Write); err != nil {
		return err
	}
	return w.Close()
}

func (x *AuditExport) writer() (export.Writer, error) {
	switch x.Format {
	case "jsonl":
		return export.NewLines(x.To), nil
	case "cef":
		return export.NewCEF(x.To, x.Version), nil
	case "cloudtrail":
		if x.Bucket == "" || x.RSAKey == "" {
			return nil, fmt.Errorf("%w: an export as CloudTrail's needs --out DIR and --rsa-key FILE", ErrUsage)
		}
		key, err := rsaKey(x.RSAKey)
		if err != nil {
			return nil, err
		}
		return export.NewCloudTrail(x.Bucket, "kmsfs-audit", key)
	}
	return nil, fmt.Errorf("%w: --format is jsonl, cef or cloudtrail", ErrUsage)
}

// rsaKey reads the key from a PEM file (PKCS #1 or #8), or makes it.
func rsaKey(path string) (*rsa.PrivateKey, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return newRSAKey(path)
	}
	if err != nil {
		return nil, err
	}
	defer clear(data)
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%w: %s is no PEM file", ErrUsage, path)
	}
	defer clear(block.Bytes)
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(*rsa.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("%w: %s holds no RSA key", ErrUsage, path)
	}
	return key, nil
}

func newRSAKey(path string) (*rsa.PrivateKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, rsaBits)
	if err != nil {
		return nil, err
	}
	der := x509.MarshalPKCS1PrivateKey(key)
	defer clear(der)
	data := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: der})
	defer clear(data)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(data)
	return key, errors.Join(err, f.Sync(), f.Close())
}
