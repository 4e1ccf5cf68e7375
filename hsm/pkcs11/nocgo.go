//go:build !cgo

package pkcs11

import (
	"context"
	"fmt"

	"github.com/kmsfs/kmsfs/hsm"
)

// Token is not available without cgo.
type Token struct{ hsm.Token }

// Open fails with hsm.ErrModule: this program was built without cgo.
func Open(context.Context, Config) (*Token, error) {
	return nil, fmt.Errorf("%w: this program was built without cgo, which loading a module needs: "+
		"install a C compiler and build with CGO_ENABLED=1", hsm.ErrModule)
}
