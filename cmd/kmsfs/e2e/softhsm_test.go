package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/hsm/hsmtest"
	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// newHSMRig is a rig whose keys lie in a SoftHSM token.
func newHSMRig(t *testing.T) (*rig, *hsmtest.SoftHSM) {
	t.Helper()
	mounttest.NeedWorker(t)
	token := hsmtest.NewSoftHSM(t)
	r := newRig(t)
	pin := filepath.Join(r.Dir, "pin")
	if err := os.WriteFile(pin, []byte(token.PIN+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.Secret = []string{"--pin-file", pin}
	r.Token = []string{"--token", "pkcs11", "--pkcs11-module", token.Module, "--pkcs11-token", token.Label}
	return r, token
}

func TestSoftHSM(t *testing.T) {
	r, token := newHSMRig(t)
	r.Init()
	r.Mount()
	st, ok := r.Status()
	if !ok || !st.Keys.HSM || st.Keys.State != "Enabled" || !strings.Contains(st.Keys.Token, token.Label) {
		t.Fatalf("status: %+v", st)
	}
	sh(t, r.Mnt, `cp -r "$SRC" copy`, "SRC="+filepath.Join(goRoot(t), "src", "fmt"))
	want := summary(t, r.Mnt+"/copy")
	r.Remount()
	sameTree(t, "after remount", summary(t, r.Mnt+"/copy"), want)
	var info struct {
		Key        string `json:"key"`
		KeyVersion int    `json:"key_version"`
		Context    map[string]string
		Volume     string            `json:"volume_id"`
		Encryption map[string]string `json:"encryption_context"`
	}
	if err := json.Unmarshal([]byte(r.Must("info", "--json", r.Mnt+"/copy/print.go")), &info); err != nil {
		t.Fatal(err)
	}
	if info.KeyVersion != 1 || !strings.HasPrefix(info.Key, "arn:aws:kms:") || info.Encryption["kmsfs:volume"] != info.Volume || info.Volume == "" {
		t.Fatalf("%+v", info)
	}
	r.Fsck()
}

// TestWrongPIN and a token or module that is not there are clear errors, and leave no key store behind.
func TestWrongPIN(t *testing.T) {
	r, token := newHSMRig(t)
	wrong := filepath.Join(r.Dir, "wrong")
	if err := os.WriteFile(wrong, []byte("00000000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.Refused(exitWrongSecret, []string{"PIN"}, append([]string{"init", r.Volume, "--pin-file", wrong}, r.Token...)...)
	other := append([]string{"init", r.Volume, "--token", "pkcs11", "--pkcs11-module", token.Module, "--pkcs11-token", "no such token"}, r.Secret...)
	r.Refused(exitKeyAway, []string{"no such token"}, other...)
	module := append([]string{"init", r.Volume, "--token", "pkcs11", "--pkcs11-module", "/nowhere/module.so", "--pkcs11-token", token.Label}, r.Secret...)
	r.Refused(exitKeyAway, []string{"/nowhere/module.so"}, module...)
	r.Refused(exitUsage, []string{"PIN"}, append([]string{"init", r.Volume, "--key-file", wrong}, r.Token...)...)
	for _, left := range []string{r.Volume, filepath.Join(r.Store, "keystore.json")} {
		if _, err := os.Stat(left); !os.IsNotExist(err) {
			t.Errorf("%s was left behind: %v", left, err)
		}
	}
	r.Init()
	r.Refused(exitWrongSecret, []string{"PIN"}, "mount", r.Volume, r.Mnt, "--pin-file", wrong)
	r.Mount()
}

// TestTokenAway pulls the token's directory away and puts it back: a fresh mount fails with a clear error, open handles go on for the time-to-live of
// the zone key and no longer, and all works again without a restart.
func TestTokenAway(t *testing.T) {
	const ttl = 4 * time.Second
	r, token := newHSMRig(t)
	r.Init()
	r.Must("keystore", "lock")
	token.Away(t)
	started := time.Now()
	r.Refused(exitKeyAway, []string{"token"}, r.MountArgs()...)
	if took := time.Since(started); took > 60*time.Second {
		t.Errorf("a mount without its token took %v to fail", took)
	}
	token.Back(t)

	r.Mount("--key-ttl", ttl.String())
	path := filepath.Join(r.Mnt, "file")
	write(t, path, []byte("before"))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	token.Away(t)
	gone := time.Now()
	if _, err := f.WriteAt([]byte("during"), 0); err != nil {
		t.Fatalf("write right after the token went: %v", err)
	}
	if err := f.Sync(); err != nil {
		t.Fatalf("fsync right after the token went: %v", err)
	}
	mounttest.Eventually(t, 60*time.Second, "a new file is refused with ENOKEY", func() bool {
		return errors.Is(os.WriteFile(fmt.Sprintf("%s.%d", path, time.Now().UnixNano()), []byte("x"), 0o600), syscall.ENOKEY)
	})
	if took := time.Since(gone); took > ttl+15*time.Second {
		t.Errorf("keys were used %v after the token went; their time to live is %v", took, ttl)
	}
	if st, ok := r.Status(); !ok || st.Problem == "" {
		t.Errorf("status says nothing about the token: %+v", st)
	}
	token.Back(t)
	mounttest.Eventually(t, 60*time.Second, "files can be made again", func() bool { return os.WriteFile(path+".after", []byte("after"), 0o600) == nil })
	if _, err := f.WriteAt([]byte("behind"), 0); err != nil {
		t.Fatalf("the handle that was open: %v", err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	r.mustBe(path, "behind")
	f.Close()
	r.Remount()
	r.mustBe(path, "behind")
	r.mustBe(path+".after", "after")
	r.Fsck()
}

func (r *rig) mustBe(path, want string) {
	r.T.Helper()
	if got := string(read(r.T, path)); got != want {
		r.T.Fatalf("%s: %q, want %q", path, got, want)
	}
}

// second adds a second volume on the same key store and token to a rig.
func (r *rig) second() *rig {
	r.T.Helper()
	c := *r.Rig
	s := &rig{&c}
	s.Volume, s.Mnt = filepath.Join(r.Dir, "vault2"), filepath.Join(r.Dir, "mnt2")
	if err := os.Mkdir(s.Mnt, 0o755); err != nil {
		r.T.Fatal(err)
	}
	r.T.Cleanup(func() {
		if _, ok := s.Status(); ok {
			s.Must("umount", s.Mnt)
		}
	})
	s.Token = nil
	return s
}

// busy writes files in the mount until stop is called, which returns how many were written and the errors other than a missing key's: that is ENOKEY, or
// EIO of a close if it goes missing between the write and the write-back, because that is what the kernel makes of it.
func busy(dir string) (stop func() (int, []error)) {
	quit, done := make(chan struct{}), make(chan struct{})
	written, errs := 0, []error(nil)
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-quit:
				return
			default:
			}
			name := filepath.Join(dir, fmt.Sprintf("busy%d", i))
			switch err := os.WriteFile(name, []byte(name), 0o600); {
			case err == nil:
				written++
			case !errors.Is(err, syscall.ENOKEY) && !isCloseEIO(err):
				errs = append(errs, err)
			}
			time.Sleep(time.Millisecond)
		}
	}()
	return func() (int, []error) {
		close(quit)
		<-done
		return written, errs
	}
}

func isCloseEIO(err error) bool {
	var p *os.PathError
	return errors.As(err, &p) && p.Op == "close" && errors.Is(err, syscall.EIO)
}

// workerPID finds the HSM worker below the key daemon.
func (r *rig) workerPID() int {
	r.T.Helper()
	keyd := r.KeydPID()
	children := strings.Fields(string(read(r.T, fmt.Sprintf("/proc/%d/task/%d/children", keyd, keyd))))
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", keyd))
	for _, task := range tasks {
		children = append(children, strings.Fields(string(read(r.T, task)))...)
	}
	for _, child := range children {
		var pid int
		if _, err := fmt.Sscan(child, &pid); err == nil {
			return pid
		}
	}
	r.T.Fatal("no worker")
	return 0
}

// TestTwoVolumesHSM mounts two volumes on one key store at once and kills worker and key daemon while both are in use.
func TestTwoVolumesHSM(t *testing.T) {
	const ttl = 3 * time.Second
	r, _ := newHSMRig(t)
	s := r.second()
	r.Init()
	s.Init()
	r.Mount("--key-ttl", ttl.String())
	s.Mount("--key-ttl", ttl.String())
	stop1, stop2 := busy(r.Mnt), busy(s.Mnt)

	r.Kill(r.workerPID())
	mounttest.Eventually(t, 30*time.Second, "the worker is started again", func() bool { return r.Run("key", "describe", "alias/vault").Code == 0 && r.encrypts() })

	r.Kill(r.KeydPID())
	for _, v := range []*rig{r, s} {
		mounttest.Eventually(t, 60*time.Second, "ENOKEY until the key store is unlocked", func() bool {
			return errors.Is(os.WriteFile(v.Mnt+"/new", nil, 0o600), syscall.ENOKEY)
		})
	}
	r.Must(append([]string{"keystore", "unlock"}, r.Secret...)...)
	for _, v := range []*rig{r, s} {
		mounttest.Eventually(t, 30*time.Second, "works again after keystore unlock", func() bool { return os.WriteFile(v.Mnt+"/new", []byte("x"), 0o600) == nil })
	}
	for _, stop := range []func() (int, []error){stop1, stop2} {
		if written, errs := stop(); written == 0 || len(errs) > 0 {
			t.Errorf("%d files written, errors %v", written, errs)
		}
	}
	checkBusy(t, r, s)
}

// encrypts says whether the key manager can use the token: it makes a volume's data key.
func (r *rig) encrypts() bool {
	scratch := filepath.Join(r.Dir, fmt.Sprint("scratch", time.Now().UnixNano()))
	return r.Run(append([]string{"init", scratch}, r.Secret...)...).Code == 0
}

// checkBusy remounts both volumes and checks that each file holds its name.
func checkBusy(t *testing.T, rigs ...*rig) {
	t.Helper()
	for _, r := range rigs {
		r.Remount()
		names, err := filepath.Glob(filepath.Join(r.Mnt, "busy*"))
		if err != nil || len(names) == 0 {
			t.Fatalf("no files: %v", err)
		}
		for _, name := range names {
			if got := string(read(t, name)); got != name && got != "" { // empty: made, but refused its key before the first byte
				t.Errorf("%s holds %q", name, got)
			}
		}
		r.Fsck()
	}
}

// TestTwoVolumesKeyFile is the same with an embedded token opened by a key file: the key daemon comes back by itself.
func TestTwoVolumesKeyFile(t *testing.T) {
	r := newRig(t)
	s := r.second()
	r.Init()
	s.Init()
	r.Mount("--key-ttl", "2s")
	s.Mount("--key-ttl", "2s")
	stop1, stop2 := busy(r.Mnt), busy(s.Mnt)
	for range 3 {
		old := r.KeydPID()
		if old == 0 {
			t.Fatal("no key daemon")
		}
		r.Kill(old)
		mounttest.Eventually(t, 30*time.Second, "another key daemon runs", func() bool { pid := r.KeydPID(); return pid != 0 && pid != old })
	}
	mounttest.Eventually(t, 30*time.Second, "key operations work", func() bool { return r.Run("key", "describe", "alias/vault").Code == 0 })
	for _, v := range []*rig{r, s} {
		mounttest.Eventually(t, 30*time.Second, "files can be made", func() bool { return os.WriteFile(v.Mnt+"/new", []byte("x"), 0o600) == nil })
	}
	for _, stop := range []func() (int, []error){stop1, stop2} {
		if written, errs := stop(); written == 0 || len(errs) > 0 {
			t.Errorf("%d files written, errors %v", written, errs)
		}
	}
	mounttest.Eventually(t, 30*time.Second, "the new key daemon knows both mounts", func() bool {
		return strings.Count(r.Must("keystore", "status"), "mounted volume") == 2
	})
	r.Refused(exitInUse, []string{"mounted"}, "keystore", "lock")
	checkBusy(t, r, s)
}
