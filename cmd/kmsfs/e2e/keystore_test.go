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

// recorded fails the test unless the words stand in the audit log.
func (r *rig) recorded(words string) {
	r.T.Helper()
	sh(r.T, r.Store, `grep -rqF "$WORDS" audit`, "WORDS="+words)
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
	r.recorded("RestoreKeyStore")
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

// TestKeyStoreRestored: the key store is destroyed, restored from a backup, and mounts its volume, which has gone on since if that is accepted.
func TestKeyStoreRestored(t *testing.T) {
	r := newRig(t)
	r.Init()
	r.Mount()
	write(t, r.Mnt+"/f", []byte("kept"))
	r.Refused(exitUsage, []string{"lost with it"}, "keystore", "backup", r.Store+"/backup")
	backup := r.Dir + "/backup"
	r.backedUp("never made")
	if out := r.Must("backup", r.Mnt, r.Dir+"/volume"); !strings.Contains(out, "its last backup: never made") {
		t.Errorf("backup of the volume:\n%s", out)
	}
	r.Must("keystore", "backup", backup) // while it is in use
	r.backedUp("nothing has changed since")
	r.Refused(exitExists, []string{"already exists"}, "keystore", "backup", backup)
	if strings.Contains(string(read(t, backup)), "alias/vault") {
		t.Error("the backup shows a name")
	}
	r.Umount()
	r.Mount()
	write(t, r.Mnt+"/g", []byte("later"))
	r.backedUp("nothing has changed since")
	r.Umount()
	if out := r.Must(append([]string{"backup", r.Volume, r.Dir + "/volume"}, r.Secret...)...); !strings.Contains(out, "nothing has changed since") {
		t.Errorf("backup of the volume:\n%s", out)
	}
	r.Must("keystore", "backup", backup+"2")
	r.Mount()
	r.Must("key", "disable", "alias/vault")
	r.backedUp("changed since, but no key was made")
	r.Must("key", "enable", "alias/vault")
	r.Must("key", "rotate", "alias/vault")
	r.backedUp("keys were made since")
	write(t, r.Mnt+"/h", []byte("last"))
	r.Umount()
	r.Must("keystore", "lock")
	if err := os.Rename(r.Store, r.Store+".gone"); err != nil {
		t.Fatal(err)
	}
	restore := func(file string, more ...string) []string {
		return append(append([]string{"keystore", "restore", file}, r.Secret...), more...)
	}
	whole := read(t, backup)
	for name, bad := range map[string][]byte{
		"cut": whole[:len(whole)-1], "longer": append(append([]byte{}, whole...), 0), "empty": nil, "another": []byte("kmsfs key store"),
		"last byte": append(append([]byte{}, whole[:len(whole)-1]...), whole[len(whole)-1]^1), "head": append([]byte(strings.Replace(string(whole[:2000]), `"created"`, `"creatad"`, 1)), whole[2000:]...),
		"token": append(append(append([]byte{}, whole[:1200]...), whole[1200]^1), whole[1201:]...),
	} {
		write(t, r.Dir+"/bad", bad)
		if res := r.Run(restore(r.Dir + "/bad")...); res.Code == 0 {
			t.Errorf("a backup that is %s was restored", name)
		}
		if left, _ := os.ReadDir(r.Store); len(left) > 1 || len(left) == 1 && left[0].Name() != "lock" {
			t.Errorf("%s: %v is left", name, left)
		}
	}
	write(t, r.Dir+"/other", []byte(strings.Repeat("z", 64)))
	if err := os.Chmod(r.Dir+"/other", 0o600); err != nil {
		t.Fatal(err)
	}
	r.Refused(exitWrongSecret, nil, "keystore", "restore", backup, "--key-file", r.Dir+"/other")

	r.Must(restore(backup + "2")...)
	r.Refused(exitExists, nil, restore(backup)...)
	r.Refused(exitRollback, nil, append([]string{"mount", r.Volume, r.Mnt}, r.Secret...)...) // closed, as far as it knows, before the last file
	r.Must("keystore", "lock")
	if err := os.RemoveAll(r.Store); err != nil {
		t.Fatal(err)
	}
	r.Must(restore(backup+"2", "--accept-restore")...)
	r.recorded("newer volumes are accepted")
	r.Mount()
	if got := string(read(t, r.Mnt+"/f")) + string(read(t, r.Mnt+"/g")) + string(read(t, r.Mnt+"/h")); got != "keptlaterlast" {
		t.Errorf("content %q", got)
	}
	r.Remount()
	r.Must("key", "rotate", "alias/vault")
	r.Fsck()
}

// backedUp sees what the two commands say of the key store's last backup.
func (r *rig) backedUp(words string) {
	r.T.Helper()
	for _, command := range []string{"status", "keystore status"} {
		if out := r.Must(strings.Fields(command)...); !strings.Contains(out, "backup: ") || !strings.Contains(strings.Join(strings.Fields(out), " "), words) {
			r.T.Errorf("kmsfs %s does not say %q:\n%s", command, words, out)
		}
	}
}
