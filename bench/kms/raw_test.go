//go:build cgo

package kms

import (
	"crypto/rand"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/kmsfs/kmsfs/hsm/hsmtest"
)

// rawEncrypt is C_EncryptInit and C_Encrypt of 32 bytes by AES-256-GCM, in this process, each worker with a session of its own.
func rawEncrypt(t *testing.T, token *hsmtest.SoftHSM) *subject {
	t.Helper()
	ctx := p11.New(token.Module)
	if ctx == nil {
		t.Fatalf("load %s", token.Module)
	}
	fatal := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	fatal(ctx.Initialize())
	t.Cleanup(func() { _ = ctx.Finalize(); ctx.Destroy() })
	slots, err := ctx.GetSlotList(true)
	fatal(err)
	sessions := make([]p11.SessionHandle, workers)
	for i := range sessions {
		sessions[i], err = ctx.OpenSession(slots[0], p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
		fatal(err)
	}
	fatal(ctx.Login(sessions[0], p11.CKU_USER, token.PIN))
	key, err := ctx.GenerateKey(sessions[0], []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_KEY_GEN, nil)}, []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_AES), p11.NewAttribute(p11.CKA_VALUE_LEN, 32),
		p11.NewAttribute(p11.CKA_TOKEN, false), p11.NewAttribute(p11.CKA_SENSITIVE, true), p11.NewAttribute(p11.CKA_ENCRYPT, true)})
	fatal(err)
	plain, aad := make([]byte, 32), make([]byte, 120)
	return &subject{name: "C_Encrypt in one process", call: func(w int) error {
		iv := make([]byte, 12)
		_, _ = rand.Read(iv)
		params := p11.NewGCMParams(iv, aad, 128)
		defer params.Free()
		if err := ctx.EncryptInit(sessions[w], []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_GCM, params)}, key); err != nil {
			return err
		}
		_, err := ctx.Encrypt(sessions[w], plain)
		return err
	}}
}
