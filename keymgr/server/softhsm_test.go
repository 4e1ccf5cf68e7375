package server

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/hsm/hsmtest"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/client"
	"github.com/kmsfs/kmsfs/keymgr/keystore"
)

// TestSoftHSM: keyd on a PKCS#11 token in its worker: wrong PIN, token away and back, worker killed, restart.
func TestSoftHSM(t *testing.T) {
	token := hsmtest.NewSoftHSM(t)
	opts := options
	opts.WorkerBinary = filepath.Join(t.TempDir(), "kmsfs-hsm-worker")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", opts.WorkerBinary, "github.com/kmsfs/kmsfs/cmd/kmsfs-hsm-worker")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the worker: %v: %s", err, out)
	}
	dir := filepath.Join(t.TempDir(), "ks")
	init := keystore.InitConfig{Dir: dir, Token: keystore.TokenConfig{Kind: hsm.KindPKCS11, Module: token.Module, Label: token.Label},
		Unlock: keystore.UnlockConfig{Kind: keystore.PIN}, Secret: buffer(t, "not the PIN"), Options: opts}
	if _, err := keystore.Init(t.Context(), init); !errors.Is(err, hsm.ErrPIN) {
		t.Fatalf("init with a wrong PIN: %v", err)
	}
	init.Secret = buffer(t, token.PIN)
	conf, err := keystore.Init(t.Context(), init)
	if err != nil || conf.Token.Serial == "" {
		t.Fatalf("%+v %v", conf, err)
	}
	stop := serve(t, RunConfig{Dir: dir, Options: opts})
	c := dial(t, dir, client.Options{Timeout: 20 * time.Second})
	if err := c.Unlock(t.Context(), buffer(t, "1111")); !errors.Is(err, keymgr.ErrWrongSecret) {
		t.Errorf("wrong PIN: %v", err)
	}
	for range 2 {
		if err := c.Unlock(t.Context(), buffer(t, token.PIN)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Unlock(t.Context(), buffer(t, "1111")); !errors.Is(err, keymgr.ErrWrongSecret) {
		t.Errorf("wrong PIN while unlocked: %v", err)
	}
	st, err := c.Status(t.Context())
	if err != nil || st.Locked || st.Token.Kind != hsm.KindPKCS11 || !st.Token.HSM || st.Token.Label != token.Label || st.Unlock != keystore.PIN {
		t.Errorf("%+v %v", st, err)
	}
	md, err := c.CreateKey(t.Context(), self, keymgr.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	own := keymgr.Context{"a": "bc"}
	key, err := c.GenerateDataKey(t.Context(), self, keymgr.GenerateDataKeyInput{KeyID: md.KeyID, Bytes: 32, Context: own})
	if err != nil {
		t.Fatal(err)
	}
	decrypt := func(context keymgr.Context) error {
		out, err := c.Decrypt(t.Context(), self, keymgr.DecryptInput{Blob: key.Blob, Context: context})
		if err == nil && string(out.Plaintext) != string(key.Plaintext) {
			t.Error("wrong plaintext")
		}
		return err
	}
	if err := decrypt(own); err != nil {
		t.Fatal(err)
	}
	if err := decrypt(keymgr.Context{"ab": "c"}); !errors.Is(err, keymgr.ErrInvalidCiphertext) {
		t.Errorf("wrong context: %v", err)
	}
	killWorker(t, opts.WorkerBinary)
	if err := decrypt(own); err != nil {
		t.Errorf("worker was killed: %v", err)
	}
	token.Away(t)
	if err := decrypt(own); !errors.Is(err, keymgr.ErrKeyUnavailable) {
		t.Errorf("token is away: %v", err)
	}
	if st, err := c.Status(t.Context()); err != nil || st.Token.Error == "" {
		t.Errorf("status with the token away: %+v %v", st, err)
	}
	token.Back(t)
	for deadline := time.Now().Add(30 * time.Second); ; { // it looks again at growing intervals
		err := decrypt(own)
		if err == nil {
			break
		}
		if !errors.Is(err, keymgr.ErrKeyUnavailable) || time.Now().After(deadline) {
			t.Fatalf("token is back: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	stop()
	serve(t, RunConfig{Dir: dir, Options: opts, Secret: buffer(t, token.PIN)})
	if err := decrypt(own); err != nil {
		t.Errorf("after restart: %v", err)
	}
	store := keymgr.Context{"kmsfs:keystore": "x"}
	if err := decrypt(store); !errors.Is(err, keymgr.ErrInvalidCiphertext) {
		t.Errorf("wrong context after restart: %v", err)
	}
}

// killWorker kills the worker processes of this test: children of ours that run the given binary.
func killWorker(t *testing.T, binary string) {
	t.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	killed := 0
	for _, p := range procs {
		cmdline, err := os.ReadFile(p)
		if err != nil || !strings.HasPrefix(string(cmdline), binary) {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(p, "/")[2])
		if err == nil && syscall.Kill(pid, syscall.SIGKILL) == nil {
			killed++
		}
	}
	if killed != 1 {
		t.Fatalf("killed %d workers", killed)
	}
}
