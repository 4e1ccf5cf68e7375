//go:build !cgo

package kms

import (
	"testing"

	"github.com/kmsfs/kmsfs/hsm/hsmtest"
)

func rawEncrypt(t *testing.T, _ *hsmtest.SoftHSM) *subject {
	t.Fatal("C_Encrypt needs cgo: CGO_ENABLED=1")
	return nil
}
