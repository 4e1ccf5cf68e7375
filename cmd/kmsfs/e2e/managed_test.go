package e2e

import (
	"strings"
	"testing"
)

// TestManagedKeyVolumes: two volumes under the key that the service manages; one of them moves to a key of its own while it is mounted.
func TestManagedKeyVolumes(t *testing.T) {
	r := newRig(t)
	r.Init("--managed-key")
	r.Mount()
	write(t, r.Mnt+"/f", []byte("under the managed key"))
	key := jsonOf[struct{ ID, Manager string }](r, "key", "describe", "alias/kmsfs/files")
	if key.Manager != "AWS" {
		t.Errorf("key describe: %+v", key)
	}
	r.Must(append([]string{"init", "--managed-key", r.Dir + "/second", "--keystore", r.Store}, r.Secret...)...)
	if all := jsonOf[[]struct{ ID string }](r, "key", "list"); len(all) != 1 || all[0].ID != key.ID {
		t.Errorf("keys of two volumes: %+v", all)
	}
	r.Remount()
	if got := string(read(t, r.Mnt+"/f")); got != "under the managed key" {
		t.Errorf("after a remount: %q", got)
	}
	for _, args := range [][]string{{"key", "disable"}, {"key", "rotate"}, {"key", "delete", "--yes"}} {
		r.Refused(exitKeyRefused, []string{"not authorized"}, append(append(args, "alias/kmsfs/files"), "--keystore", r.Store)...)
	}
	if policy := r.Must("key", "policy", "get", "alias/kmsfs/files", "--keystore", r.Store); !strings.Contains(policy, "kms:ViaService") {
		t.Errorf("its policy: %s", policy)
	}
	r.Must("key", "create", "--alias", "alias/own", "--keystore", r.Store)
	r.Must("rewrap", r.Volume, "--to", "alias/own")
	r.Remount()
	r.wrapped("moved to a key of its own", "1 Enabled")
	r.Must("rewrap", r.Volume, "--add", "alias/kmsfs/files")
	r.Must("key", "disable", "alias/own", "--keystore", r.Store)
	r.Remount() // by the second wrap
	if got := string(read(t, r.Mnt+"/f")); got != "under the managed key" {
		t.Errorf("by the second wrap: %q", got)
	}
	r.Umount()
	r.Fsck()
}
