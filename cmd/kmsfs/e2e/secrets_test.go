package e2e

import (
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/mount/mounttest"
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
		cmd := exec.Command(mounttest.Program(r.T), append(args, "--passphrase-fd", "3")...)
		cmd.Env, cmd.ExtraFiles = r.Env, []*os.File{pr}
		return cmd.CombinedOutput()
	}
	if out, err := with("from a pipe\n", "init", r.Volume); err != nil {
		t.Fatalf("init: %v\n%s", err, out)
	}
	if out, err := with("from another pipe\n", "mount", r.Volume, r.Mnt); err == nil {
		t.Fatalf("wrong passphrase: %s", out)
	}
	if out, err := with("from a pipe", "mount", r.Volume, r.Mnt); err != nil {
		t.Fatalf("mount: %v\n%s", err, out)
	}
	write(t, r.Mnt+"/f", []byte("x"))
}

// TestCredential keeps the key in a systemd credential: the key daemon unlocks itself after a crash.
func TestCredential(t *testing.T) {
	r := newRig(t)
	dir := filepath.Join(r.Dir, "credentials")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "vault.key"), []byte(hex.EncodeToString([]byte(strings.Repeat("k", 32)))), 0o600); err != nil {
		t.Fatal(err)
	}
	r.Env = append(r.Env, "CREDENTIALS_DIRECTORY="+dir)
	r.Secret = []string{"--credential", "vault.key"}
	r.Init()
	r.Mount("--key-ttl", "1s")
	write(t, r.Mnt+"/f", []byte("x"))
	old := r.KeydPID()
	r.Kill(old)
	mounttest.Eventually(t, 30*time.Second, "another key daemon runs", func() bool { pid := r.KeydPID(); return pid != 0 && pid != old })
	mounttest.Eventually(t, 30*time.Second, "files can be made", func() bool { return os.WriteFile(r.Mnt+"/g", nil, 0o600) == nil })
}

// TestNoSecretShown looks for passphrase and key in the arguments and environment of every process, in logs and in the key store.
func TestNoSecretShown(t *testing.T) {
	r := newRig(t)
	r.withPassphrase()
	r.Init()
	r.Mount()
	write(t, r.Mnt+"/f", []byte("x"))
	for _, pid := range []int{r.Daemon(), r.KeydPID()} {
		for _, what := range []string{"cmdline", "environ"} {
			text := string(read(t, filepath.Join("/proc", strconv.Itoa(pid), what)))
			if strings.Contains(text, "correct horse") {
				t.Errorf("the passphrase is in %s of process %d", what, pid)
			}
		}
		status := string(read(t, filepath.Join("/proc", strconv.Itoa(pid), "status")))
		if os.Geteuid() == 0 && !strings.Contains(status, "CoreDumping:\t0") {
			t.Errorf("process %d: %s", pid, status)
		}
		limits := string(read(t, filepath.Join("/proc", strconv.Itoa(pid), "limits")))
		if !strings.Contains(strings.Join(strings.Fields(limits), " "), "Max core file size 0 0") {
			t.Errorf("process %d may write a core:\n%s", pid, limits)
		}
	}
	r.Umount()
	walk(t, r.Dir, func(path string, content []byte) {
		if filepath.Base(path) != "pass" && strings.Contains(string(content), "correct horse") {
			t.Errorf("the passphrase is in %s", path)
		}
	})
}

// TestCopyInUse mounts a copy of a volume while the volume is mounted.
func TestCopyInUse(t *testing.T) {
	r := newRig(t)
	r.Init()
	sh(t, r.Dir, "cp -a vault copy && mkdir mnt2")
	r.Mount()
	r.Refused(exitInUse, []string{"copy", r.Mnt}, append([]string{"mount", r.Dir + "/copy", r.Dir + "/mnt2"}, r.Secret...)...)
	write(t, r.Mnt+"/f", []byte("x"))
	r.Umount()
	r.Refused(exitRollback, []string{"rolled back"}, append([]string{"mount", r.Dir + "/copy", r.Dir + "/mnt2"}, r.Secret...)...)
	sh(t, r.Dir, "rm -rf copy && mv vault moved") // a volume that was moved is the same volume
	r.Volume = filepath.Join(r.Dir, "moved")
	r.Mount()
	r.mustBe(r.Mnt+"/f", "x")
	r.Umount()
	if err := os.Remove(filepath.Join(r.Volume, "kmsfs.json")); err != nil {
		t.Fatal(err)
	}
	r.Must(append([]string{"fsck", "--repair", r.Volume}, r.Secret...)...)
}
