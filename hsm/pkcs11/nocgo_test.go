//go:build !cgo

package pkcs11

import (
	"errors"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/hsm"
)

func TestOpenWithoutCgo(t *testing.T) {
	tok, err := Open(t.Context(), Config{})
	if tok != nil || !errors.Is(err, hsm.ErrModule) || !strings.Contains(err.Error(), "CGO_ENABLED=1") {
		t.Errorf("got %v, %v", tok, err)
	}
}
