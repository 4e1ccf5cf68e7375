package e2e

import (
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestPassphraseFD hands the passphrase over by a descriptor, as a service manager would.
func TestPassphraseFD(t *testing.T) {
	r := newRig(t)
	with := func(secret string, args ...string) ([]byte, error) {
		pr, pw, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer pr.Close()
		if _, err := pw.WriteString(secret); err != nil {
			t.Fatal(err)
		}
		pw.Close()
		cmd := exec.Command(filepath.Join(bin, "kmsfs"), append(args, "--passphrase-fd", "3")...)
		cmd.Env, cmd.ExtraFiles = r.env, []*os.File{pr}
		return cmd.CombinedOutput()
	}
	if out, err := with("from a pipe\n", "init", r.volume); err != nil {
		t.Fatalf("init: %v\n%s", err, out)
	}
	if out, err := with("from another pipe\n", "mount", r.volume, r.mnt); err == nil {
		t.Fatalf("wrong passphrase: %s", out)
	}
	if out, err := with("from a pipe", "mount", r.volume, r.mnt); err != nil {
		t.Fatalf("mount: %v\n%s", err, out)
	}
	write(t, r.mnt+"/f", []byte("x"))
}

// TestCredential keeps the key in a systemd credential: the key daemon unlocks itself after a crash.
func TestCredential(t *testing.T) {
	r := newRig(t)
	dir := filepath.Join(r.dir, "credentials")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "vault.key"), []byte(hex.EncodeToString([]byte(strings.Repeat("k", 32)))), 0o600); err != nil {
		t.Fatal(err)
	}
	r.env = append(r.env, "CREDENTIALS_DIRECTORY="+dir)
	r.secret = []string{"--credential", "vault.key"}
	r.init()
	r.mount("--key-ttl", "1s")
	write(t, r.mnt+"/f", []byte("x"))
	old := r.keydPID()
	r.kill(old)
	eventually(t, 30*time.Second, "another key daemon runs", func() bool { pid := r.keydPID(); return pid != 0 && pid != old })
	eventually(t, 30*time.Second, "files can be made", func() bool { return os.WriteFile(r.mnt+"/g", nil, 0o600) == nil })
}

// TestNoSecretShown looks for passphrase and key in the arguments and environment of every process, in logs and in the key store.
func TestNoSecretShown(t *testing.T) {
	r := newRig(t)
	r.withPassphrase()
	r.init()
	r.mount()
	write(t, r.mnt+"/f", []byte("x"))
	for _, pid := range []int{r.daemon(), r.keydPID()} {
		for _, what := range []string{"cmdline", "environ"} {
			text := string(read(t, filepath.Join("/proc", itoa(pid), what)))
			if strings.Contains(text, "correct horse") {
				t.Errorf("the passphrase is in %s of process %d", what, pid)
			}
		}
		status := string(read(t, filepath.Join("/proc", itoa(pid), "status")))
		if os.Geteuid() == 0 && !strings.Contains(status, "CoreDumping:\t0") {
			t.Errorf("process %d: %s", pid, status)
		}
		limits := string(read(t, filepath.Join("/proc", itoa(pid), "limits")))
		if !strings.Contains(strings.Join(strings.Fields(limits), " "), "Max core file size 0 0") {
			t.Errorf("process %d may write a core:\n%s", pid, limits)
		}
	}
	r.umount()
	walk(t, r.dir, func(path string, content []byte) {
		if filepath.Base(path) != "pass" && strings.Contains(string(content), "correct horse") {
			t.Errorf("the passphrase is in %s", path)
		}
	})
}

// TestCopyInUse mounts a copy of a volume while the volume is mounted.
func TestCopyInUse(t *testing.T) {
	r := newRig(t)
	r.init()
	sh(t, r.dir, "cp -a vault copy && mkdir mnt2")
	r.mount()
	r.refused(exitInUse, []string{"copy", r.mnt}, append([]string{"mount", r.dir + "/copy", r.dir + "/mnt2"}, r.secret...)...)
	write(t, r.mnt+"/f", []byte("x"))
	r.umount()
	r.refused(exitRollback, []string{"rolled back"}, append([]string{"mount", r.dir + "/copy", r.dir + "/mnt2"}, r.secret...)...)
	sh(t, r.dir, "rm -rf copy && mv vault moved") // a volume that was moved is the same volume
	r.volume = filepath.Join(r.dir, "moved")
	r.mount()
	r.mustBe(r.mnt+"/f", "x")
	r.umount()
	if err := os.Remove(filepath.Join(r.volume, "kmsfs.json")); err != nil {
		t.Fatal(err)
	}
	r.must(append([]string{"fsck", "--repair", r.volume}, r.secret...)...)
}
