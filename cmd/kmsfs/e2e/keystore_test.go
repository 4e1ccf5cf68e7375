package e2e

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// revive puts a copy of the key store in its place; its daemon does not run.
func (r *rig) revive(copied string) {
	r.T.Helper()
	if err := os.RemoveAll(r.Store); err != nil {
		r.T.Fatal(err)
	}
	sh(r.T, r.Dir, `cp -a "$FROM" "$TO"`, "FROM="+copied, "TO="+r.Store)
}

func (r *rig) copyStore(name string) (copied string) {
	r.T.Helper()
	r.Must("keystore", "lock")
	copied = r.Store + name
	sh(r.T, r.Dir, `cp -a "$FROM" "$TO"`, "FROM="+r.Store, "TO="+copied)
	return copied
}

// TestOlderKeyStore: with a PKCS#11 token, a key store that was put back to before a grant was revoked, or a volume closed, is refused; accepting it is recorded.
func TestOlderKeyStore(t *testing.T) {
	r, _ := newHSMRig(t)
	r.Init()
	unlock := append([]string{"keystore", "unlock"}, r.Secret...)
	r.Must(unlock...)
	var made struct{ ID string }
	out := r.Must("grant", "create", "alias/vault", "--grantee", "arn:aws:iam::000000000000:unix/user/nobody", "--operations", "Decrypt", "--json")
	if err := json.Unmarshal([]byte(out), &made); err != nil || made.ID == "" {
		t.Fatalf("%s %v", out, err)
	}
	granted := r.copyStore(".granted")
	r.Must(unlock...)
	r.Must("grant", "revoke", "alias/vault", made.ID)
	revoked := r.copyStore(".revoked")

	r.revive(granted)
	r.Refused(exitRollback, []string{"older state"}, unlock...)
	r.Refused(exitRollback, []string{"older state"}, append([]string{"mount", r.Volume, r.Mnt}, r.Secret...)...)
	r.revive(revoked) // the newest one is as good as ever
	r.Mount()
	write(t, r.Mnt+"/f", []byte("kept"))
	r.Umount()
	r.Must("keystore", "lock")

	r.revive(revoked) // from before the clean unmount
	r.Refused(exitRollback, []string{"older state"}, unlock...)
	r.Must(append(unlock, "--accept-restore")...)
	if log := string(read(t, r.Store+"/audit/keyuse.jsonl")); !strings.Contains(log, `"operation":"RestoreKeyStore"`) {
		t.Errorf("the decision is not recorded: %s", log)
	}
	r.Must("keystore", "lock")
	r.Must(unlock...) // it is the newest one now
	r.Refused(exitRollback, nil, append([]string{"mount", r.Volume, r.Mnt}, r.Secret...)...)
	r.Mount("--accept-restore")
	if got := string(read(t, r.Mnt+"/f")); got != "kept" {
		t.Errorf("content %q", got)
	}
	r.Umount()
	r.Must("keystore", "lock")
	r.revive(granted)
	r.Refused(exitRollback, []string{"older state"}, unlock...)
	r.revive(revoked)
}
