package soft

import (
	"fmt"

	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/hsm"
)

// KeyBytes opens a token by the content of a key file that somebody else has
// read, in the forms that KeyFile takes. The buffer stays the caller's; it is
// read during Create, Open and ChangeSecret only.
func KeyBytes(content *locked.Buffer) Unlocker {
	return Unlocker{name: "the key", method: methodKeyFile, load: func() (*locked.Buffer, error) {
		if len(content.Bytes()) > maxSecret {
			return nil, fmt.Errorf("%w: longer than %d bytes", hsm.ErrPIN, maxSecret)
		}
		raw, err := content.Clone()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", hsm.ErrPIN, err)
		}
		return keySecret(raw)
	}}
}
