package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// wrapCMK is a directory with wrap: cmk under a key that root and alice may use, and bob may not.
type wrapCMK struct {
	*rig
	dir, policy string
	alice, bob  *actor
}

const wrapCMKPolicy = "version: 1\nkeys: [alias/guarded]\nwrap: %s\nkey_ttl: 1h\nstatements:\n  - {effect: allow, users: [root, daemon, bin], actions: ['*']}\n"

func newWrapCMK(t *testing.T, r *rig) *wrapCMK {
	t.Helper()
	mounttest.NeedRoot(t)
	w := &wrapCMK{rig: r}
	w.Init()
	w.Mount()
	w.dir, w.policy = w.Mnt+"/d", filepath.Join(w.Dir, "policy.yaml")
	key := filepath.Join(w.Dir, "key.json")
	write(t, key, []byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":["`+principal+`root","`+principal+`daemon"]},"Action":"kms:*","Resource":"*"}}`))
	w.Must("key", "create", "--alias", "guarded", "--policy", key)
	if err := errors.Join(os.Mkdir(w.dir, 0o777), os.Chmod(w.dir, 0o777), os.Chmod(w.Mnt, 0o777)); err != nil {
		t.Fatal(err)
	}
	write(t, w.policy, fmt.Appendf(nil, wrapCMKPolicy, "cmk"))
	w.Must("policy", "set", w.dir, w.policy)
	program := actorProgram(t, w.Dir, "program")
	w.alice, w.bob = newActor(t, "daemon", program, 1), newActor(t, "bin", program, 2)
	return w
}

// calls counts the key manager's records of an operation with a file's own context, by whom ("": by anybody).
func (w *wrapCMK) calls(event, path, user string) (n int) {
	w.T.Helper()
	inode := `"kmsfs:inode":"` + strconv.FormatUint(inodeOf(w.T.(*testing.T), path), 10) + `"`
	for line := range strings.Lines(w.Must("audit", "query", "--json", "--internal", "--event", event)) {
		if strings.Contains(line, inode) && (user == "" || strings.Contains(line, "unix/user/"+user)) {
			n++
		}
	}
	return n
}

func inodeOf(t *testing.T, path string) uint64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// TestWrapCMK: the CMK wraps the key of each file: one call for the first open, decided and recorded for who opens; renames, refusals and a disabled key.
func TestWrapCMK(t *testing.T) {
	w := newWrapCMK(t, newMemoryRig(t))
	f, g := w.dir+"/f", w.dir+"/g"
	w.alice.ok("Create", f)
	if n := w.calls("GenerateDataKey", f, "daemon"); n != 1 {
		t.Errorf("a file of alice's: %d calls of GenerateDataKey in her name, want 1", n)
	}
	write(t, f, []byte("secret"))
	if n := w.calls("Decrypt", f, ""); n != 0 {
		t.Errorf("a file that was just made: %d calls of Decrypt", n)
	}
	w.Remount()
	before := w.calls("Decrypt", f, "")
	for range 3 {
		if got := w.alice.ok("Read", f); got != "secret" {
			t.Errorf("alice reads %q", got)
		}
	}
	if n, hers := w.calls("Decrypt", f, "")-before, w.calls("Decrypt", f, "daemon"); n != 1 || hers == 0 {
		t.Errorf("three opens after a remount: %d calls of Decrypt, %d in alice's name at all; want 1", n, hers)
	}
	for _, op := range [][]string{{"Read", f}, {"Write", f}, {"Rename", f, g}, {"Create", g}} { // hot, and not for bob
		if got := w.bob.do(op...); got != "EACCES" {
			t.Errorf("bob, %s: %s", op, got)
		}
	}
	w.alice.ok("Rename", f, g)
	if n := w.calls("ReEncrypt", g, "daemon"); n != 1 {
		t.Errorf("a rename: %d calls of ReEncrypt in alice's name, want 1", n)
	}
	w.Remount()
	if got := w.alice.ok("Read", g); got != "secret" {
		t.Errorf("renamed, remounted: %q", got)
	}
	if out := w.Must("info", g); !strings.Contains(out, "kmsfs:inode=") || strings.Contains(out, "kmsfs:name=g") {
		t.Errorf("info: %s", out)
	}
	if err := os.Rename(g, w.Mnt+"/g"); !errors.Is(err, syscall.EXDEV) {
		t.Errorf("out of the directory: %v", err)
	}
	w.denied(g)
	w.Must("key", "disable", "alias/guarded")
	mounttest.Eventually(t, 30*time.Second, "the key is disabled", func() bool { return w.alice.do("Read", g) == "EKEYREVOKED" })
	w.Must("key", "enable", "alias/guarded")
	mounttest.Eventually(t, 30*time.Second, "the key is enabled", func() bool { return w.alice.do("Read", g) == "ok secret" })
	w.Umount()
	w.Fsck()
}

// denied has the key policy deny alice one file, by its context: her next open that asks for its key is refused, and those of another file are not.
func (w *wrapCMK) denied(path string) {
	t := w.T.(*testing.T)
	t.Helper()
	other, file := w.dir+"/other", filepath.Join(w.Dir, "denying.json")
	w.alice.ok("Create", other)
	rights := `{"Effect":"Allow","Principal":{"AWS":["` + principal + `root","` + principal + `daemon"]},"Action":"kms:*","Resource":"*"}`
	deny := fmt.Sprintf(`{"Effect":"Deny","Principal":{"AWS":"%sdaemon"},"Action":"kms:Decrypt","Resource":"*","Condition":{"StringEquals":{"kms:EncryptionContext:kmsfs:inode":"%d"}}}`, principal, inodeOf(t, path))
	put := func(statements string) {
		t.Helper()
		write(t, file, []byte(`{"Version":"2012-10-17","Statement":[`+statements+`]}`))
		w.Must("key", "policy", "put", "alias/guarded", file)
	}
	put(rights + "," + deny)
	w.Remount()
	if got := w.alice.do("Read", path); got != "EACCES" {
		t.Errorf("a file that the key policy denies: %s", got)
	}
	w.alice.ok("Read", other)
	put(rights)
	mounttest.Eventually(t, 30*time.Second, "the file is not denied any more", func() bool { return w.alice.do("Read", path) == "ok secret" })
}

// TestWrapCMKUpkeep: another version of the key reaches files by re-encryption, as the census proves; what would need other keys is refused, and says so.
func TestWrapCMKUpkeep(t *testing.T) {
	w := newWrapCMK(t, newMemoryRig(t))
	f := w.dir + "/f"
	write(t, f, []byte("secret"))
	if err := os.Link(f, w.dir+"/g"); err != nil {
		t.Fatal(err)
	}
	w.Must("key", "rotate", "alias/guarded")
	w.Must("rewrap", w.dir)
	w.Must("rewrap", w.dir, "--deep", "--wait")
	var census struct {
		Old uint64 `json:"old_versions"`
	}
	count := func() uint64 {
		t.Helper()
		if err := json.Unmarshal([]byte(w.Must("census", w.dir, "--json")), &census); err != nil {
			t.Fatal(err)
		}
		return census.Old
	}
	zone := count()
	w.Must("reencrypt", w.dir, "--wait")
	if left := count(); left != zone-1 {
		t.Errorf("wraps under older versions: %d before re-encryption, %d after; want one less", zone, left)
	}
	w.Must("census", w.dir, "--newest")
	w.Must("key", "create", "--alias", "alias/other")
	w.Refused(exitUsage, []string{"wrap: cmk", "kmsfs reencrypt"}, "rewrap", w.dir, "--to", "alias/other")
	write(t, w.policy, fmt.Appendf(nil, wrapCMKPolicy, "zone"))
	w.Refused(exitUsage, []string{"first policy", "copy the files"}, "policy", "set", w.dir, w.policy)
	w.Refused(exitUsage, []string{"wrap: cmk", "copy the files"}, "policy", "rm", w.dir)
	if err := errors.Join(os.Mkdir(w.Mnt+"/e", 0o755), os.WriteFile(w.Mnt+"/e/f", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	write(t, w.policy, fmt.Appendf(nil, wrapCMKPolicy, "cmk"))
	w.Refused(exitUsage, []string{"wrap: cmk", "copy the files"}, "policy", "set", w.Mnt+"/e", w.policy)
	w.Remount()
	if got := string(read(t, w.dir+"/g")); got != "secret" {
		t.Errorf("after it all: %q", got)
	}
	w.Umount()
	w.Fsck()
}

// TestWrapCMKWithoutToken: without the token a file that is not in use cannot be opened or renamed, and can be removed.
func TestWrapCMKWithoutToken(t *testing.T) {
	r, token := newHSMRig(t)
	w := newWrapCMK(t, r)
	hot, cold := w.dir+"/hot", w.dir+"/cold"
	write(t, hot, []byte("hot"))
	write(t, cold, []byte("cold"))
	w.Remount()
	read(t, hot)
	token.Away(t)
	w.Kill(w.workerPID())
	w.Within("opens without the token", func() {
		if _, err := os.ReadFile(cold); !errors.Is(err, syscall.ENOKEY) {
			t.Errorf("open: %v", err)
		}
		if err := os.Rename(hot, w.dir+"/other"); !errors.Is(err, syscall.ENOKEY) {
			t.Errorf("rename: %v", err)
		}
		if err := os.WriteFile(w.dir+"/new", nil, 0o600); !errors.Is(err, syscall.ENOKEY) {
			t.Errorf("create: %v", err)
		}
		if err := os.Remove(cold); err != nil {
			t.Errorf("remove: %v", err)
		}
	})
	token.Back(t)
	w.Eventually("renames with the token", func() error { return os.Rename(hot, w.dir+"/other") })
	if got := string(read(t, w.dir+"/other")); got != "hot" {
		t.Errorf("with the token: %q", got)
	}
	w.Umount()
	w.Fsck()
}
