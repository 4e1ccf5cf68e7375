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
)

// newHSMRig is a rig whose keys lie in a SoftHSM token.
func newHSMRig(t *testing.T) (*rig, *hsmtest.SoftHSM) {
	t.Helper()
	need(t, worker, "kmsfs-hsm-worker was not built (is there a C compiler?)")
	token := hsmtest.NewSoftHSM(t)
	r := newRig(t)
	pin := filepath.Join(r.dir, "pin")
	if err := os.WriteFile(pin, []byte(token.PIN+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.secret = []string{"--pin-file", pin}
	r.token = []string{"--token", "pkcs11", "--pkcs11-module", token.Module, "--pkcs11-token", token.Label}
	return r, token
}

func TestSoftHSM(t *testing.T) {
	r, token := newHSMRig(t)
	r.init()
	r.mount()
	st, ok := r.status()
	if !ok || !st.Keys.HSM || st.Keys.State != "Enabled" || !strings.Contains(st.Keys.Token, token.Label) {
		t.Fatalf("status: %+v", st)
	}
	sh(t, r.mnt, `cp -r "$SRC" copy`, "SRC="+filepath.Join(goRoot(t), "src", "fmt"))
	want := summary(t, r.mnt+"/copy")
	r.remount()
	sameTree(t, "after remount", summary(t, r.mnt+"/copy"), want)
	var info struct {
		Key        string `json:"key"`
		KeyVersion int    `json:"key_version"`
		Context    map[string]string
		Volume     string            `json:"volume_id"`
		Encryption map[string]string `json:"encryption_context"`
	}
	if err := json.Unmarshal([]byte(r.must("info", "--json", r.mnt+"/copy/print.go")), &info); err != nil {
		t.Fatal(err)
	}
	if info.KeyVersion != 1 || !strings.HasPrefix(info.Key, "arn:aws:kms:") || info.Encryption["kmsfs:volume"] != info.Volume || info.Volume == "" {
		t.Fatalf("%+v", info)
	}
	r.fsck()
}

// TestWrongPIN and a token or module that is not there are clear errors, and leave no key store behind.
func TestWrongPIN(t *testing.T) {
	r, token := newHSMRig(t)
	wrong := filepath.Join(r.dir, "wrong")
	if err := os.WriteFile(wrong, []byte("00000000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.refused(exitWrongSecret, []string{"PIN"}, append([]string{"init", r.volume, "--pin-file", wrong}, r.token...)...)
	other := append([]string{"init", r.volume, "--token", "pkcs11", "--pkcs11-module", token.Module, "--pkcs11-token", "no such token"}, r.secret...)
	r.refused(exitKeyAway, []string{"no such token"}, other...)
	module := append([]string{"init", r.volume, "--token", "pkcs11", "--pkcs11-module", "/nowhere/module.so", "--pkcs11-token", token.Label}, r.secret...)
	r.refused(exitKeyAway, []string{"/nowhere/module.so"}, module...)
	r.refused(exitUsage, []string{"PIN"}, append([]string{"init", r.volume, "--key-file", wrong}, r.token...)...)
	for _, left := range []string{r.volume, filepath.Join(r.store, "keystore.json")} {
		if _, err := os.Stat(left); !os.IsNotExist(err) {
			t.Errorf("%s was left behind: %v", left, err)
		}
	}
	r.init()
	r.refused(exitWrongSecret, []string{"PIN"}, "mount", r.volume, r.mnt, "--pin-file", wrong)
	r.mount()
}

// TestTokenAway pulls the token's directory away and puts it back: a fresh mount fails with a clear error, open handles go on for the time-to-live of
// the zone key and no longer, and all works again without a restart.
func TestTokenAway(t *testing.T) {
	const ttl = 4 * time.Second
	r, token := newHSMRig(t)
	r.init()
	r.must("keystore", "lock")
	token.Away(t)
	started := time.Now()
	r.refused(exitKeyAway, []string{"token"}, r.mountArgs()...)
	if took := time.Since(started); took > 60*time.Second {
		t.Errorf("a mount without its token took %v to fail", took)
	}
	token.Back(t)

	r.mount("--key-ttl", ttl.String())
	path := filepath.Join(r.mnt, "file")
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
	eventually(t, 60*time.Second, "a new file is refused with ENOKEY", func() bool {
		return errors.Is(os.WriteFile(fmt.Sprintf("%s.%d", path, time.Now().UnixNano()), []byte("x"), 0o600), syscall.ENOKEY)
	})
	if took := time.Since(gone); took > ttl+15*time.Second {
		t.Errorf("keys were used %v after the token went; their time to live is %v", took, ttl)
	}
	if st, ok := r.status(); !ok || st.Problem == "" {
		t.Errorf("status says nothing about the token: %+v", st)
	}
	token.Back(t)
	eventually(t, 60*time.Second, "files can be made again", func() bool { return os.WriteFile(path+".after", []byte("after"), 0o600) == nil })
	if _, err := f.WriteAt([]byte("behind"), 0); err != nil {
		t.Fatalf("the handle that was open: %v", err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	r.mustBe(path, "behind")
	f.Close()
	r.remount()
	r.mustBe(path, "behind")
	r.mustBe(path+".after", "after")
	r.fsck()
}

func (r *rig) mustBe(path, want string) {
	r.t.Helper()
	if got := string(read(r.t, path)); got != want {
		r.t.Fatalf("%s: %q, want %q", path, got, want)
	}
}

// second adds a second volume on the same key store and token to a rig.
func (r *rig) second() *rig {
	r.t.Helper()
	s := *r
	s.volume, s.mnt = filepath.Join(r.dir, "vault2"), filepath.Join(r.dir, "mnt2")
	if err := os.Mkdir(s.mnt, 0o755); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if _, ok := s.status(); ok {
			s.must("umount", s.mnt)
		}
	})
	s.token = nil
	return &s
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
	r.t.Helper()
	keyd := r.keydPID()
	children := strings.Fields(string(read(r.t, fmt.Sprintf("/proc/%d/task/%d/children", keyd, keyd))))
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", keyd))
	for _, task := range tasks {
		children = append(children, strings.Fields(string(read(r.t, task)))...)
	}
	for _, child := range children {
		var pid int
		if _, err := fmt.Sscan(child, &pid); err == nil {
			return pid
		}
	}
	r.t.Fatal("no worker")
	return 0
}

// TestTwoVolumesHSM mounts two volumes on one key store at once and kills worker and key daemon while both are in use.
func TestTwoVolumesHSM(t *testing.T) {
	const ttl = 3 * time.Second
	r, _ := newHSMRig(t)
	s := r.second()
	r.init()
	s.init()
	r.mount("--key-ttl", ttl.String())
	s.mount("--key-ttl", ttl.String())
	stop1, stop2 := busy(r.mnt), busy(s.mnt)

	r.kill(r.workerPID())
	eventually(t, 30*time.Second, "the worker is started again", func() bool { return r.run("key", "describe", "alias/vault").code == 0 && r.encrypts() })

	r.kill(r.keydPID())
	for _, v := range []*rig{r, s} {
		eventually(t, 60*time.Second, "ENOKEY until the key store is unlocked", func() bool {
			return errors.Is(os.WriteFile(v.mnt+"/new", nil, 0o600), syscall.ENOKEY)
		})
	}
	r.must(append([]string{"keystore", "unlock"}, r.secret...)...)
	for _, v := range []*rig{r, s} {
		eventually(t, 30*time.Second, "works again after keystore unlock", func() bool { return os.WriteFile(v.mnt+"/new", []byte("x"), 0o600) == nil })
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
	scratch := filepath.Join(r.dir, fmt.Sprint("scratch", time.Now().UnixNano()))
	return r.run(append([]string{"init", scratch}, r.secret...)...).code == 0
}

// checkBusy remounts both volumes and checks that each file holds its name.
func checkBusy(t *testing.T, rigs ...*rig) {
	t.Helper()
	for _, r := range rigs {
		r.remount()
		names, err := filepath.Glob(filepath.Join(r.mnt, "busy*"))
		if err != nil || len(names) == 0 {
			t.Fatalf("no files: %v", err)
		}
		for _, name := range names {
			if got := string(read(t, name)); got != name && got != "" { // empty: made, but refused its key before the first byte
				t.Errorf("%s holds %q", name, got)
			}
		}
		r.fsck()
	}
}

// TestTwoVolumesKeyFile is the same with an embedded token opened by a key file: the key daemon comes back by itself.
func TestTwoVolumesKeyFile(t *testing.T) {
	r := newRig(t)
	s := r.second()
	r.init()
	s.init()
	r.mount("--key-ttl", "2s")
	s.mount("--key-ttl", "2s")
	stop1, stop2 := busy(r.mnt), busy(s.mnt)
	for range 3 {
		old := r.keydPID()
		if old == 0 {
			t.Fatal("no key daemon")
		}
		r.kill(old)
		eventually(t, 30*time.Second, "another key daemon runs", func() bool { pid := r.keydPID(); return pid != 0 && pid != old })
	}
	eventually(t, 30*time.Second, "key operations work", func() bool { return r.run("key", "describe", "alias/vault").code == 0 })
	for _, v := range []*rig{r, s} {
		eventually(t, 30*time.Second, "files can be made", func() bool { return os.WriteFile(v.mnt+"/new", []byte("x"), 0o600) == nil })
	}
	for _, stop := range []func() (int, []error){stop1, stop2} {
		if written, errs := stop(); written == 0 || len(errs) > 0 {
			t.Errorf("%d files written, errors %v", written, errs)
		}
	}
	eventually(t, 30*time.Second, "the new key daemon knows both mounts", func() bool {
		return strings.Count(r.must("keystore", "status"), "mounted volume") == 2
	})
	r.refused(exitInUse, []string{"mounted"}, "keystore", "lock")
	checkBusy(t, r, s)
}
