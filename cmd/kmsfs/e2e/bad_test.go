package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// Exit codes of docs/CLI.md that these tests expect.
const (
	exitUsage       = 2
	exitNotVolume   = 3
	exitDamaged     = 4
	exitUnsupported = 5
	exitInUse       = 6
	exitMountPoint  = 7
	exitNotMounted  = 8
	exitBusy        = 9
	exitNoSecret    = 11
	exitWrongSecret = 12
	exitKeyAway     = 14
	exitKeyRefused  = 15
	exitNotFound    = 16
	exitExists      = 17
	exitRollback    = 18
	exitFaults      = 19
)

// withPassphrase makes the rig's key store open by a passphrase from a file.
func (r *rig) withPassphrase() {
	path := filepath.Join(r.Dir, "pass")
	if err := os.WriteFile(path, []byte("correct horse\n"), 0o600); err != nil {
		r.T.Fatal(err)
	}
	r.Secret = []string{"--passphrase-file", path}
}

func TestWrongPassphrase(t *testing.T) {
	r := newRig(t)
	r.withPassphrase()
	r.Init()
	wrong := filepath.Join(r.Dir, "wrong")
	if err := os.WriteFile(wrong, []byte("battery staple\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.Refused(exitWrongSecret, []string{"wrong"}, "mount", r.Volume, r.Mnt, "--passphrase-file", wrong)
	r.Refused(exitNoSecret, []string{"passphrase"}, "mount", r.Volume, r.Mnt)
	r.Refused(exitNoSecret, []string{"no such file"}, "mount", r.Volume, r.Mnt, "--passphrase-file", wrong+"x")
	r.Refused(exitUsage, []string{"key-file"}, "mount", r.Volume, r.Mnt, "--key-file", wrong)
	r.Mount()
	write(t, r.Mnt+"/f", []byte("x"))
	r.Umount()
	r.Refused(exitWrongSecret, []string{"wrong"}, "mount", r.Volume, r.Mnt, "--passphrase-file", wrong) // the key daemon runs and is unlocked
	r.Mount()
	if string(read(t, r.Mnt+"/f")) != "x" {
		t.Fatal("content lost")
	}
}

func TestWrongKeyFile(t *testing.T) {
	r := newRig(t)
	r.Init()
	other := filepath.Join(r.Dir, "other")
	if err := os.WriteFile(other, bytes.Repeat([]byte("k"), 40), 0o600); err != nil {
		t.Fatal(err)
	}
	r.Refused(exitWrongSecret, []string{"wrong"}, "mount", r.Volume, r.Mnt, "--key-file", other)
	if err := os.Chmod(other, 0o644); err != nil {
		t.Fatal(err)
	}
	r.Refused(exitNoSecret, []string{"read by others", "chmod 600"}, "mount", r.Volume, r.Mnt, "--key-file", other)
	r.Must("mount", r.Volume, r.Mnt) // the key store knows its own key file
}

// TestDamagedSuperblock damages kmsfs.json in many ways; each is refused with the way out, which works.
func TestDamagedSuperblock(t *testing.T) {
	r := newRig(t)
	r.Init()
	r.Mount()
	write(t, r.Mnt+"/f", []byte("precious"))
	r.Umount()
	path := filepath.Join(r.Volume, "kmsfs.json")
	good := read(t, path)
	flip := func(i int) []byte {
		b := bytes.Clone(good)
		b[i] ^= 1
		return b
	}
	field := func(name string) int { return bytes.Index(good, []byte(`"`+name+`"`)) + len(name) + 6 }
	cases := map[string][]byte{
		"emptied": {}, "truncated": good[:len(good)/2], "not json": []byte("hello\n"), "larger": append(bytes.Clone(good), make([]byte, 1<<20)...),
		"volume": flip(field("volume")), "created": flip(field("created") + 3), "wrap": flip(field("volume_key") + 20),
		"commitment": flip(field("commitment")), "secrets": flip(field("secrets") + 8), "mac": flip(field("mac")),
	}
	for name, damaged := range cases {
		write(t, path, damaged)
		res := r.Refused(exitDamaged, []string{"kmsfs.json", "fsck --repair"}, r.MountArgs()...)
		if t.Failed() {
			t.Fatalf("%s: %s", name, res)
		}
		r.Must(append([]string{"fsck", "--repair", r.Volume}, r.Secret...)...)
		if !bytes.Equal(read(t, path), good) {
			t.Fatalf("%s: not restored", name)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	r.Refused(exitNotVolume, []string{"kmsfs.json", "fsck --repair"}, r.MountArgs()...)
	r.Must(append([]string{"fsck", "--repair", r.Volume}, r.Secret...)...)
	r.Mount()
	if string(read(t, r.Mnt+"/f")) != "precious" {
		t.Fatal("content lost")
	}
}

func TestUnknownVersionAndFeature(t *testing.T) {
	r := newRig(t)
	r.Init()
	path := filepath.Join(r.Volume, "kmsfs.json")
	good := read(t, path)
	edit := func(key string, value any) {
		var m map[string]any
		if err := json.Unmarshal(good, &m); err != nil {
			t.Fatal(err)
		}
		m[key] = value
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, b)
	}
	edit("version", 2)
	r.Refused(exitUnsupported, []string{"version 2", "later kmsfs"}, r.MountArgs()...)
	r.Refused(exitUnsupported, []string{"version 2"}, append([]string{"fsck", "--repair", r.Volume}, r.Secret...)...)
	edit("features", []string{"compression"})
	r.Refused(exitUnsupported, []string{`"compression"`}, r.MountArgs()...)
	write(t, path, good)
	r.Mount()
}

func TestBadMountPoint(t *testing.T) {
	r := newRig(t)
	r.Init()
	at := func(point string) []string { return append([]string{"mount", r.Volume, point}, r.Secret...) }
	r.Refused(exitMountPoint, []string{"not there"}, at(r.Dir+"/nowhere")...)
	write(t, r.Dir+"/file", nil)
	r.Refused(exitMountPoint, []string{"not a directory"}, at(r.Dir+"/file")...)
	full := filepath.Join(r.Dir, "full")
	sh(t, r.Dir, "mkdir full && touch full/x")
	r.Refused(exitMountPoint, []string{"not empty"}, at(full)...)
	r.Refused(exitMountPoint, []string{"volume", "inside the mount point"}, at(r.Dir)...)
	r.Refused(exitMountPoint, []string{"inside the volume"}, at(r.Volume+"/objects")...)
	r.Refused(exitMountPoint, []string{"inside the mount point"}, at(r.Volume)...)
	r.Mount()
	r.Refused(exitMountPoint, []string{"already the mount"}, r.MountArgs()...)
	other := filepath.Join(r.Dir, "other")
	sh(t, r.Dir, "mkdir other")
	started := time.Now()
	r.Refused(exitInUse, []string{"in use", r.Mnt, "kmsfs umount"}, at(other)...)
	if took := time.Since(started); took > 8*time.Second {
		t.Errorf("it took %v to refuse a second daemon of a volume in use", took)
	}
	elsewhere := *r.Rig // whose runtime directory does not know of the mount
	elsewhere.Env = append(r.Env, "KMSFS_RUNTIME_DIR="+filepath.Join(r.Dir, "run2"))
	elsewhere.Refused(exitInUse, []string{"in use"}, append([]string{"fsck", r.Volume}, r.Secret...)...)
}

func TestBadUsage(t *testing.T) {
	r := newRig(t)
	for _, args := range [][]string{
		{"nonsense"}, {"mount"}, {"mount", "a"}, {"mount", "a", "b", "c"}, {"mount", "--nonsense", "a", "b"}, {"info"}, {"fsck"}, {"key", "nonsense"},
		{"mount", r.Volume, r.Mnt, "-o", "nonsense"}, {"mount", r.Volume, r.Mnt, "-o", "ro=1"}, {"init"},
		{"init", r.Volume, "--token", "nonsense"}, {"init", r.Volume, "--token", "pkcs11"}, {"init", r.Volume, "--pin-file", "x"},
		{"init", r.Volume, "--key-file", "a", "--passphrase-file", "b"}, {"init", r.Volume, "--token", "soft", "--pkcs11-module", "x"},
	} {
		r.Refused(exitUsage, []string{"wrong usage"}, args...)
	}
	r.Refused(exitNotVolume, []string{"kmsfs init"}, "mount", r.Dir, r.Mnt)
	r.Refused(exitUsage, []string{"is empty"}, "mount", "", r.Mnt)
	r.Init()
	r.Refused(exitNotFound, []string{"key store"}, "mount", r.Volume, r.Mnt, "--keystore", r.Dir+"/elsewhere")
	r.Refused(exitExists, []string{"volume already"}, append([]string{"init", r.Volume}, r.Secret...)...)
	sh(t, r.Dir, "mkdir full && touch full/x")
	r.Refused(exitExists, []string{"not empty"}, append([]string{"init", r.Dir + "/full"}, r.Secret...)...)
	r.Refused(exitNotVolume, []string{"kmsfs init"}, append([]string{"mount", r.Dir + "/full", r.Mnt}, r.Secret...)...)
	r.Refused(exitNotMounted, []string{r.Mnt}, "umount", r.Mnt)
	r.Refused(exitNotMounted, []string{"lies in none"}, "info", r.Dir)
	r.Refused(exitNotFound, []string{"not found"}, "key", "describe", "alias/nothing")
	r.Refused(exitUsage, []string{"inside the key store"}, "init", r.Dir+"/v2", "--keystore", r.Dir+"/k2", "--key-file", r.Dir+"/k2/key")
	if _, err := os.Stat(r.Dir + "/v2"); !os.IsNotExist(err) {
		t.Error("a failed init left a directory")
	}
}

// TestInterruptedInit leaves what a killed init leaves; the next one cleans it.
func TestInterruptedInit(t *testing.T) {
	r := newRig(t)
	r.Init()
	v2 := filepath.Join(r.Dir, "v2")
	for _, name := range []string{"meta", "journal", "objects"} {
		if err := os.MkdirAll(filepath.Join(v2, name, "x"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	again := append([]string{"init", v2}, r.Secret...)
	r.Refused(exitExists, []string{"not empty"}, again...) // nothing says that this is ours
	write(t, filepath.Join(v2, "kmsfs.init"), nil)
	write(t, filepath.Join(v2, "mine"), nil)
	r.Refused(exitExists, []string{"not empty"}, again...)
	if err := os.Remove(filepath.Join(v2, "mine")); err != nil {
		t.Fatal(err)
	}
	r.Must(again...)
	r.Must(append([]string{"fsck", v2}, r.Secret...)...)
}

// TestBusy unmounts while a program works in the mount, and ends the daemon by SIGTERM while it does.
func TestBusy(t *testing.T) {
	r := newRig(t)
	r.Init()
	r.Mount()
	cmd := exec.Command("sh", "-c", "exec 3>open; echo written >&3; echo ready; read -r line")
	cmd.Dir = r.Mnt
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { stdin.Close(); _ = cmd.Wait() }()
	if _, err := stdout.Read(make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	r.Refused(exitBusy, []string{"busy", "fuser"}, "umount", r.Mnt)
	pid := r.Daemon()
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	r.Ends(pid)
	if _, mounted := r.Status(); mounted {
		t.Fatal("still mounted after SIGTERM")
	}
	r.Mount()
	if got := string(read(t, r.Mnt+"/open")); got != "written\n" {
		t.Fatalf("what was written before SIGTERM: %q", got)
	}
	r.Fsck()
}

// TestClosing mounts while the daemon before is still closing: the mount waits.
func TestClosing(t *testing.T) {
	r := newRig(t)
	r.Init()
	for range 5 {
		r.Mount()
		sh(t, r.Mnt, "for i in 1 2 3 4 5 6 7 8 9; do echo $i > f$i; done")
		if err := syscall.Kill(r.Daemon(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		mounttest.Eventually(t, 20*time.Second, "the mount is gone", func() bool {
			table := string(read(t, "/proc/self/mounts"))
			return !strings.Contains(table, r.Mnt+" fuse.kmsfs")
		})
		r.Mount()
		r.Umount()
	}
	r.Fsck()
}

// TestRollback puts the whole volume back to an older copy.
func TestRollback(t *testing.T) {
	r := newRig(t)
	r.Init()
	r.Mount()
	write(t, r.Mnt+"/f", []byte("old"))
	r.Umount()
	sh(t, r.Dir, "cp -a vault old")
	r.Mount()
	write(t, r.Mnt+"/f", []byte("new"))
	r.Umount()
	sh(t, r.Dir, "mv vault new && cp -a old vault")
	r.Refused(exitRollback, []string{"rolled back", "--accept-restore"}, r.MountArgs()...)
	r.Must(r.MountArgs("--accept-restore")...)
	if string(read(t, r.Mnt+"/f")) != "old" {
		t.Fatal("not the restored state")
	}
	write(t, r.Mnt+"/g", []byte("goes on"))
	r.Remount()
	r.Fsck()
	r.Umount()
	sh(t, r.Dir, "rm -rf vault && mv new vault")
	r.Refused(exitRollback, []string{"rolled back"}, r.MountArgs()...) // the other history is not accepted either
}

// TestDisabledKey disables the volume's key: a fresh mount is refused, and works again when it is enabled.
func TestDisabledKey(t *testing.T) {
	r := newRig(t)
	r.Init()
	r.Must("key", "disable", "alias/vault")
	r.Refused(exitKeyRefused, []string{"disabled", "key enable"}, r.MountArgs()...)
	r.Must("key", "enable", "alias/vault")
	r.Mount()
	st, ok := r.Status()
	if !ok || st.Keys.State != "Enabled" || st.Keys.HSM || !strings.Contains(st.Keys.Token, "not an HSM") {
		t.Fatalf("%+v", st)
	}
}

// TestPasswd changes a passphrase and a key file.
func TestPasswd(t *testing.T) {
	r := newRig(t)
	r.withPassphrase()
	r.Init()
	fresh := filepath.Join(r.Dir, "fresh")
	if err := os.WriteFile(fresh, []byte("staple battery\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	passwd := append([]string{"keystore", "passwd", "--new-passphrase-file", fresh}, r.Secret...)
	r.Mount()
	r.Refused(exitInUse, []string{"keystore lock"}, passwd...)
	r.Umount()
	r.Must("keystore", "lock")
	r.Refused(exitWrongSecret, nil, "keystore", "passwd", "--passphrase-file", fresh, "--new-passphrase-file", fresh)
	r.Must(passwd...)
	r.Refused(exitWrongSecret, nil, r.MountArgs()...)
	r.Secret = []string{"--passphrase-file", fresh}
	r.Mount()

	k := newRig(t)
	k.Init()
	k.Must("keystore", "passwd", "--new-key-file", filepath.Join(k.Dir, "key2"))
	k.Refused(exitWrongSecret, nil, k.MountArgs()...)
	k.Secret = nil // the key store knows where its new key file is
	k.Mount()
}

// TestOtherNamespace unmounts while another mount namespace has a copy of the mount: umount says so instead of waiting for it, the volume is closed when
// the other lets go, and SIGTERM does not wait either.
func TestOtherNamespace(t *testing.T) {
	mounttest.NeedRoot(t)
	mounttest.NeedProgram(t, "unshare")
	r := newRig(t)
	r.Init()
	hold := func() (release func()) {
		cmd := exec.Command("unshare", "-m", "--propagation", "private", "sh", "-c", "echo ready; read -r line")
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := stdout.Read(make([]byte, 6)); err != nil {
			t.Fatal(err)
		}
		return func() { stdin.Close(); _ = cmd.Wait() }
	}
	r.Mount()
	write(t, r.Mnt+"/f", []byte("x"))
	pid := r.Daemon()
	release := hold()
	r.Refused(exitBusy, []string{"another mount namespace", "SIGTERM to process"}, "umount", r.Mnt)
	release()
	r.Ends(pid)
	r.Mount()
	r.mustBe(r.Mnt+"/f", "x")

	pid = r.Daemon()
	release = hold()
	defer release()
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	r.Ends(pid)
	r.Mount()
	r.mustBe(r.Mnt+"/f", "x")
	r.Fsck()
	r.Umount()
}
