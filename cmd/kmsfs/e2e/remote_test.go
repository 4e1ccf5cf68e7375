package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// TestRemoteKeyManager: a volume whose keys are in the key daemon of another host.
func TestRemoteKeyManager(t *testing.T) {
	far := keyRig(t, "--listen", "127.0.0.1:0")
	access := far.Must("identity", "create", "host-b", "--admin", "--json", "--keystore", far.Store)
	address := jsonOf[struct{ Listen string }](far, "keystore", "status").Listen
	r := newRig(t)
	r.Secret = []string{"--key-file", filepath.Join(r.Dir, "access")}
	where := []string{"--keymanager", "kmsfs://" + address + "?forward=users"}
	front := filepath.Join(far.Dir, "front.json")
	write(t, front, []byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kmsfs:FrontEnd","Resource":"*"}}`))
	far.Must("identity", "policy", "put", "host-b", "front", front, "--keystore", far.Store)
	r.Refused(exitUsage, []string{"needs the access key"}, append([]string{"keystore", "init", "--passphrase-file", far.Secret[1]}, where...)...)
	r.Refused(exitUsage, []string{"neither aws-kms://REGION nor kmsfs://HOST:PORT"}, append([]string{"keystore", "init", "--keymanager", "https://x"}, r.Secret...)...)
	write(t, filepath.Join(r.Dir, "access"), []byte(strings.Replace(access, `"SecretAccessKey": "`, `"SecretAccessKey": "x`, 1)))
	if err := os.Chmod(filepath.Join(r.Dir, "access"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.Refused(exitWrongSecret, []string{"InvalidSignatureException"}, append(append([]string{"keystore", "init"}, r.Secret...), where...)...)
	write(t, filepath.Join(r.Dir, "access"), []byte(access))

	r.Must(append(append([]string{"init", r.Volume}, r.Secret...), where...)...)
	r.Mount("--key-ttl", "20m")
	write(t, r.Mnt+"/f", []byte("kept"))
	if out := r.Must("status"); !strings.Contains(out, "another key manager, "+address+"; what it revokes counts here within 20m0s") {
		t.Errorf("status says\n%s", out)
	}
	if out := far.Must("audit", "query", "--keystore", far.Store, "--json"); !strings.Contains(out, `"forwardedBy":"arn:aws:iam::000000000000:user/host-b"`) {
		t.Error("the other key manager has recorded no user")
	}
	r.Umount()
	r.Must("keystore", "lock")
	old := far.KeydPID()
	if err := syscall.Kill(old, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	far.Ends(old)
	if res := r.Run(r.MountArgs()...); res.Code == 0 {
		t.Errorf("mounted without the other key manager: %s", res)
	}
	far.Must(append([]string{"keyd", "--keystore", far.Store, "--listen", address}, far.Secret...)...)
	mounttest.Eventually(t, 30*time.Second, "the volume mounts", func() bool { return r.Run(r.MountArgs()...).Code == 0 })
	if got := string(read(t, r.Mnt+"/f")); got != "kept" {
		t.Errorf("content %q", got)
	}
	r.Umount()
}
