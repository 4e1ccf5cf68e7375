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

func (r *rig) mountArgs(more ...string) []string {
	return append(append([]string{"mount", r.volume, r.mnt}, r.secret...), more...)
}

// withPassphrase makes the rig's key store open by a passphrase from a file.
func (r *rig) withPassphrase() {
	path := filepath.Join(r.dir, "pass")
	if err := os.WriteFile(path, []byte("correct horse\n"), 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.secret = []string{"--passphrase-file", path}
}

func TestWrongPassphrase(t *testing.T) {
	r := newRig(t)
	r.withPassphrase()
	r.init()
	wrong := filepath.Join(r.dir, "wrong")
	if err := os.WriteFile(wrong, []byte("battery staple\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.refused(exitWrongSecret, []string{"wrong"}, "mount", r.volume, r.mnt, "--passphrase-file", wrong)
	r.refused(exitNoSecret, []string{"passphrase"}, "mount", r.volume, r.mnt)
	r.refused(exitNoSecret, []string{"no such file"}, "mount", r.volume, r.mnt, "--passphrase-file", wrong+"x")
	r.refused(exitUsage, []string{"key-file"}, "mount", r.volume, r.mnt, "--key-file", wrong)
	r.mount()
	write(t, r.mnt+"/f", []byte("x"))
	r.umount()
	r.refused(exitWrongSecret, []string{"wrong"}, "mount", r.volume, r.mnt, "--passphrase-file", wrong) // the key daemon runs and is unlocked
	r.mount()
	if string(read(t, r.mnt+"/f")) != "x" {
		t.Fatal("content lost")
	}
}

func TestWrongKeyFile(t *testing.T) {
	r := newRig(t)
	r.init()
	other := filepath.Join(r.dir, "other")
	if err := os.WriteFile(other, bytes.Repeat([]byte("k"), 40), 0o600); err != nil {
		t.Fatal(err)
	}
	r.refused(exitWrongSecret, []string{"wrong"}, "mount", r.volume, r.mnt, "--key-file", other)
	if err := os.Chmod(other, 0o644); err != nil {
		t.Fatal(err)
	}
	r.refused(exitNoSecret, []string{"read by others", "chmod 600"}, "mount", r.volume, r.mnt, "--key-file", other)
	r.must("mount", r.volume, r.mnt) // the key store knows its own key file
}

// TestDamagedSuperblock damages kmsfs.json in many ways; each is refused with the way out, which works.
func TestDamagedSuperblock(t *testing.T) {
	r := newRig(t)
	r.init()
	r.mount()
	write(t, r.mnt+"/f", []byte("precious"))
	r.umount()
	path := filepath.Join(r.volume, "kmsfs.json")
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
		res := r.refused(exitDamaged, []string{"kmsfs.json", "fsck --repair"}, r.mountArgs()...)
		if t.Failed() {
			t.Fatalf("%s: %s", name, res)
		}
		r.must(append([]string{"fsck", "--repair", r.volume}, r.secret...)...)
		if !bytes.Equal(read(t, path), good) {
			t.Fatalf("%s: not restored", name)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	r.refused(exitNotVolume, []string{"kmsfs.json", "fsck --repair"}, r.mountArgs()...)
	r.must(append([]string{"fsck", "--repair", r.volume}, r.secret...)...)
	r.mount()
	if string(read(t, r.mnt+"/f")) != "precious" {
		t.Fatal("content lost")
	}
}

func TestUnknownVersionAndFeature(t *testing.T) {
	r := newRig(t)
	r.init()
	path := filepath.Join(r.volume, "kmsfs.json")
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
	r.refused(exitUnsupported, []string{"version 2", "later kmsfs"}, r.mountArgs()...)
	r.refused(exitUnsupported, []string{"version 2"}, append([]string{"fsck", "--repair", r.volume}, r.secret...)...)
	edit("features", []string{"compression"})
	r.refused(exitUnsupported, []string{`"compression"`}, r.mountArgs()...)
	write(t, path, good)
	r.mount()
}

func TestBadMountPoint(t *testing.T) {
	r := newRig(t)
	r.init()
	at := func(point string) []string { return append([]string{"mount", r.volume, point}, r.secret...) }
	r.refused(exitMountPoint, []string{"not there"}, at(r.dir+"/nowhere")...)
	write(t, r.dir+"/file", nil)
	r.refused(exitMountPoint, []string{"not a directory"}, at(r.dir+"/file")...)
	full := filepath.Join(r.dir, "full")
	sh(t, r.dir, "mkdir full && touch full/x")
	r.refused(exitMountPoint, []string{"not empty"}, at(full)...)
	r.refused(exitMountPoint, []string{"volume", "inside the mount point"}, at(r.dir)...)
	r.refused(exitMountPoint, []string{"inside the volume"}, at(r.volume+"/objects")...)
	r.refused(exitMountPoint, []string{"inside the mount point"}, at(r.volume)...)
	r.mount()
	r.refused(exitMountPoint, []string{"already the mount"}, r.mountArgs()...)
	other := filepath.Join(r.dir, "other")
	sh(t, r.dir, "mkdir other")
	started := time.Now()
	r.refused(exitInUse, []string{"in use", r.mnt, "kmsfs umount"}, at(other)...)
	if took := time.Since(started); took > 8*time.Second {
		t.Errorf("it took %v to refuse a second daemon of a volume in use", took)
	}
	elsewhere := *r // whose runtime directory does not know of the mount
	elsewhere.env = append(r.env, "KMSFS_RUNTIME_DIR="+filepath.Join(r.dir, "run2"))
	elsewhere.refused(exitInUse, []string{"in use"}, append([]string{"fsck", r.volume}, r.secret...)...)
}

func TestBadUsage(t *testing.T) {
	r := newRig(t)
	for _, args := range [][]string{
		{"nonsense"}, {"mount"}, {"mount", "a"}, {"mount", "a", "b", "c"}, {"mount", "--nonsense", "a", "b"}, {"info"}, {"fsck"}, {"key", "nonsense"},
		{"mount", r.volume, r.mnt, "-o", "nonsense"}, {"mount", r.volume, r.mnt, "-o", "ro=1"}, {"init"},
		{"init", r.volume, "--token", "nonsense"}, {"init", r.volume, "--token", "pkcs11"}, {"init", r.volume, "--pin-file", "x"},
		{"init", r.volume, "--key-file", "a", "--passphrase-file", "b"}, {"init", r.volume, "--token", "soft", "--pkcs11-module", "x"},
	} {
		r.refused(exitUsage, []string{"wrong usage"}, args...)
	}
	r.refused(exitNotFound, []string{"key store"}, "mount", r.dir, r.mnt)
	r.init()
	r.refused(exitExists, []string{"volume already"}, append([]string{"init", r.volume}, r.secret...)...)
	sh(t, r.dir, "mkdir full && touch full/x")
	r.refused(exitExists, []string{"not empty"}, append([]string{"init", r.dir + "/full"}, r.secret...)...)
	r.refused(exitNotVolume, []string{"kmsfs init"}, append([]string{"mount", r.dir + "/full", r.mnt}, r.secret...)...)
	r.refused(exitNotMounted, []string{r.mnt}, "umount", r.mnt)
	r.refused(exitNotMounted, []string{"lies in none"}, "info", r.dir)
	r.refused(exitNotFound, []string{"not found"}, "key", "describe", "alias/nothing")
	r.refused(exitUsage, []string{"inside the key store"}, "init", r.dir+"/v2", "--keystore", r.dir+"/k2", "--key-file", r.dir+"/k2/key")
	if _, err := os.Stat(r.dir + "/v2"); !os.IsNotExist(err) {
		t.Error("a failed init left a directory")
	}
}

// TestInterruptedInit leaves what a killed init leaves; the next one cleans it.
func TestInterruptedInit(t *testing.T) {
	r := newRig(t)
	r.init()
	v2 := filepath.Join(r.dir, "v2")
	for _, name := range []string{"meta", "journal", "objects"} {
		if err := os.MkdirAll(filepath.Join(v2, name, "x"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	again := append([]string{"init", v2}, r.secret...)
	r.refused(exitExists, []string{"not empty"}, again...) // nothing says that this is ours
	write(t, filepath.Join(v2, "kmsfs.init"), nil)
	write(t, filepath.Join(v2, "mine"), nil)
	r.refused(exitExists, []string{"not empty"}, again...)
	if err := os.Remove(filepath.Join(v2, "mine")); err != nil {
		t.Fatal(err)
	}
	r.must(again...)
	r.must(append([]string{"fsck", v2}, r.secret...)...)
}

// TestBusy unmounts while a program works in the mount, and ends the daemon by SIGTERM while it does.
func TestBusy(t *testing.T) {
	r := newRig(t)
	r.init()
	r.mount()
	cmd := exec.Command("sh", "-c", "exec 3>open; echo written >&3; echo ready; read -r line")
	cmd.Dir = r.mnt
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
	r.refused(exitBusy, []string{"busy", "fuser"}, "umount", r.mnt)
	pid := r.daemon()
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, pid)
	if _, mounted := r.status(); mounted {
		t.Fatal("still mounted after SIGTERM")
	}
	r.mount()
	if got := string(read(t, r.mnt+"/open")); got != "written\n" {
		t.Fatalf("what was written before SIGTERM: %q", got)
	}
	r.fsck()
}

// TestClosing mounts while the daemon before is still closing: the mount waits.
func TestClosing(t *testing.T) {
	r := newRig(t)
	r.init()
	for range 5 {
		r.mount()
		sh(t, r.mnt, "for i in 1 2 3 4 5 6 7 8 9; do echo $i > f$i; done")
		if err := syscall.Kill(r.daemon(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		eventually(t, 20*time.Second, "the mount is gone", func() bool {
			table := string(read(t, "/proc/self/mounts"))
			return !strings.Contains(table, r.mnt+" fuse.kmsfs")
		})
		r.mount()
		r.umount()
	}
	r.fsck()
}

// TestRollback puts the whole volume back to an older copy.
func TestRollback(t *testing.T) {
	r := newRig(t)
	r.init()
	r.mount()
	write(t, r.mnt+"/f", []byte("old"))
	r.umount()
	sh(t, r.dir, "cp -a vault old")
	r.mount()
	write(t, r.mnt+"/f", []byte("new"))
	r.umount()
	sh(t, r.dir, "mv vault new && cp -a old vault")
	r.refused(exitRollback, []string{"rolled back", "--accept-restore"}, r.mountArgs()...)
	r.must(r.mountArgs("--accept-restore")...)
	if string(read(t, r.mnt+"/f")) != "old" {
		t.Fatal("not the restored state")
	}
	write(t, r.mnt+"/g", []byte("goes on"))
	r.remount()
	r.fsck()
	r.umount()
	sh(t, r.dir, "rm -rf vault && mv new vault")
	r.refused(exitRollback, []string{"rolled back"}, r.mountArgs()...) // the other history is not accepted either
}

// TestDisabledKey disables the volume's key: a fresh mount is refused, and works again when it is enabled.
func TestDisabledKey(t *testing.T) {
	r := newRig(t)
	r.init()
	r.must("key", "disable", "alias/vault")
	r.refused(exitKeyRefused, []string{"disabled", "key enable"}, r.mountArgs()...)
	r.must("key", "enable", "alias/vault")
	r.mount()
	st, ok := r.status()
	if !ok || st.Keys.State != "Enabled" || st.Keys.HSM || !strings.Contains(st.Keys.Token, "not an HSM") {
		t.Fatalf("%+v", st)
	}
}

// TestPasswd changes a passphrase and a key file.
func TestPasswd(t *testing.T) {
	r := newRig(t)
	r.withPassphrase()
	r.init()
	fresh := filepath.Join(r.dir, "fresh")
	if err := os.WriteFile(fresh, []byte("staple battery\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	passwd := append([]string{"keystore", "passwd", "--new-passphrase-file", fresh}, r.secret...)
	r.mount()
	r.refused(exitInUse, []string{"keystore lock"}, passwd...)
	r.umount()
	r.must("keystore", "lock")
	r.refused(exitWrongSecret, nil, "keystore", "passwd", "--passphrase-file", fresh, "--new-passphrase-file", fresh)
	r.must(passwd...)
	r.refused(exitWrongSecret, nil, r.mountArgs()...)
	r.secret = []string{"--passphrase-file", fresh}
	r.mount()

	k := newRig(t)
	k.init()
	k.must("keystore", "passwd", "--new-key-file", filepath.Join(k.dir, "key2"))
	k.refused(exitWrongSecret, nil, k.mountArgs()...)
	k.secret = nil // the key store knows where its new key file is
	k.mount()
}

// TestOtherNamespace unmounts while another mount namespace has a copy of the mount: umount says so instead of waiting for it, the volume is closed when
// the other lets go, and SIGTERM does not wait either.
func TestOtherNamespace(t *testing.T) {
	needRoot(t)
	needProgram(t, "unshare")
	r := newRig(t)
	r.init()
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
	r.mount()
	write(t, r.mnt+"/f", []byte("x"))
	pid := r.daemon()
	release := hold()
	r.refused(exitBusy, []string{"another mount namespace", "SIGTERM to process"}, "umount", r.mnt)
	release()
	awaitGone(t, pid)
	r.mount()
	r.mustBe(r.mnt+"/f", "x")

	pid = r.daemon()
	release = hold()
	defer release()
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, pid)
	r.mount()
	r.mustBe(r.mnt+"/f", "x")
	r.fsck()
	r.umount()
}
