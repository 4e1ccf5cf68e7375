package mount

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/kmsfs/kmsfs/keymgr/client"
)

// IdentitySource says in whose name the key manager is asked. The zero value: the user's who calls.
type IdentitySource struct {
	File     string // access key of an identity, JSON as `kmsfs identity create --out` writes it
	Endpoint string // where keyd listens, http(s)://HOST:PORT; "": its socket
}

// OpenKeysAs is OpenKeys in the name of an identity. ErrUsage for an endpoint without one, ErrNoSecret for a file that holds no access key.
func OpenKeysAs(ctx context.Context, dir string, secret SecretSource, as IdentitySource) (*Keys, error) {
	if as.File == "" {
		if as.Endpoint != "" {
			return nil, fmt.Errorf("%w: --endpoint answers identities only (--identity FILE)", ErrUsage)
		}
		return OpenKeys(ctx, dir, secret)
	}
	key, err := readAccessKey(as.File)
	if err != nil {
		return nil, err
	}
	if as.Endpoint == "" {
		keys, err := OpenKeys(ctx, dir, secret)
		if err != nil {
			return nil, err
		}
		defer keys.Close()
		if dir, err = keyStoreDir(dir); err != nil {
			return nil, err
		}
		return &Keys{client.New(socketOf(dir), client.Options{Identity: key})}, nil
	}
	if !strings.HasPrefix(as.Endpoint, "http://") && !strings.HasPrefix(as.Endpoint, "https://") {
		return nil, fmt.Errorf("%w: endpoint %q is not like http://127.0.0.1:8200 or https://HOST:8443", ErrUsage, as.Endpoint)
	}
	return &Keys{client.New("", client.Options{Identity: key, Endpoint: strings.TrimRight(as.Endpoint, "/")})}, nil
}

func readAccessKey(path string) (*client.AccessKey, error) {
	b, err := readSecretFile(path, true)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	var k struct{ AccessKeyId, SecretAccessKey string }
	if err := json.Unmarshal(b.Bytes(), &k); err != nil || k.AccessKeyId == "" || k.SecretAccessKey == "" {
		return nil, fmt.Errorf("%w: %s is no access key as kmsfs identity create --out FILE writes it", ErrNoSecret, path)
	}
	return &client.AccessKey{ID: k.AccessKeyId, Secret: k.SecretAccessKey}, nil
}
