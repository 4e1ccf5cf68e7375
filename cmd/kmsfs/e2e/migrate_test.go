package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/hsm/hsmtest"
	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// TestMigrateKeyStore: a volume goes on under an HSM after its key store has moved there, and says what has been outside of it.
func TestMigrateKeyStore(t *testing.T) {
	mounttest.NeedWorker(t)
	token := hsmtest.NewSoftHSM(t)
	r := newRig(t)
	r.Init()
	r.Mount()
	write(t, r.Mnt+"/f", []byte("from the embedded token"))
	pin := r.secretFile("pin", token.PIN+"\n")
	to := append([]string{"keystore", "migrate", "--keystore", r.Store, "--pkcs11-module", token.Module, "--pkcs11-token", token.Label, "--new-pin-file", pin}, r.Secret...)
	r.Refused(exitInUse, []string{"kmsfs keystore lock"}, to...)
	r.Umount()
	r.Must("keystore", "lock", "--keystore", r.Store)
	r.Refused(exitUsage, []string{"--pkcs11-module"}, append([]string{"keystore", "migrate", "--keystore", r.Store}, r.Secret...)...)
	oldLog, newLog := filepath.Join(r.Dir, "log"), filepath.Join(r.Dir, "newlog")
	if err := os.Rename(filepath.Join(r.Store, "audit"), oldLog); err != nil {
		t.Fatal(err)
	}
	r.Must("audit", "configure", "--audit-dir", oldLog, "--keystore", r.Store)
	r.Refused(exitUsage, []string{oldLog, "--audit-dir"}, to...)
	if out := r.Run(append(to, "--audit-dir", newLog)...); out.Code != 0 || !strings.Contains(out.Err, "made outside of it") || !strings.Contains(out.Err, "its audit log "+oldLog) {
		t.Fatalf("migrate: %s", out)
	}
	r.Secret = []string{"--pin-file", pin}
	r.Mount()
	if got := string(read(t, r.Mnt+"/f")); got != "from the embedded token" {
		t.Errorf("after the move: %q", got)
	}
	r.Must("rewrap", r.Volume)
	r.wrapped("renewed", "2 Enabled")
	if st, ok := r.Status(); !ok || !st.Keys.HSM {
		t.Errorf("status: %+v", st)
	}
	if k := r.Must("key", "describe", "alias/vault", "--keystore", r.Store); !strings.Contains(k, "made in a soft token") {
		t.Errorf("key describe:\n%s", k)
	}
	if log := r.Must("audit", "query", "--json", "--keystore", r.Store); !strings.Contains(log, `"eventName":"MigrateKeyStore"`) {
		t.Error("the new audit log does not tell of the move")
	}
	if _, err := os.Stat(filepath.Join(r.Store+".before-migration", "token", "token.json")); err != nil {
		t.Errorf("the old key store: %v", err)
	}
	r.Must("audit", "verify", "--keystore", r.Store)
	if streams, err := os.ReadDir(newLog); err != nil || len(streams) != 2 {
		t.Errorf("streams of the new log: %v, %v", streams, err)
	}
	r.Umount()
	r.Fsck()
}
