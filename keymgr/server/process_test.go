package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/client"
	"github.com/kmsfs/kmsfs/keymgr/keystore"
)

// TestKilledAndRestarted: what keyd acknowledged is there after SIGKILL, and an unattended key store is open again.
func TestKilledAndRestarted(t *testing.T) {
	dir := newKeyStore(t, false)
	volume := blockcrypt.VolumeID{5}
	c := client.New(keystore.SocketPath(dir), client.Options{Volume: volume, FrontEnd: &frontKey})
	t.Cleanup(func() { _ = c.Close() })
	var keys []keymgr.KeyMetadata
	var blobs [][]byte
	for round := range 4 {
		running := child(t, dir)
		if round == 0 {
			enrol(t, dir, volume)
		}
		for i, md := range keys {
			out, err := c.Decrypt(t.Context(), self, keymgr.DecryptInput{Blob: blobs[i], KeyID: fmt.Sprintf("alias/%d", i)})
			if err != nil || out.KeyID != md.ARN || string(out.Plaintext) != fmt.Sprint(i) {
				t.Fatalf("round %d, key %d: %+v %v", round, i, out, err)
			}
		}
		if round > 0 {
			if a, err := c.Anchor(t.Context(), volume); err != nil || a.Sequence != uint64(round-1) {
				t.Fatalf("round %d: anchor %+v %v", round, a, err)
			}
		}
		md, err := c.CreateKey(t.Context(), self, keymgr.CreateKeyInput{Alias: fmt.Sprintf("alias/%d", round)})
		if err != nil {
			t.Fatal(err)
		}
		out, err := c.Encrypt(t.Context(), self, keymgr.EncryptInput{KeyID: md.KeyID, Plaintext: fmt.Append(nil, round)})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.AdvanceAnchor(t.Context(), volume, keymgr.Anchor{Generation: 1, Sequence: uint64(round)}); err != nil {
			t.Fatal(err)
		}
		keys, blobs = append(keys, md), append(blobs, out.Blob)
		if err := running.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = running.Wait()
		if _, err := c.Status(t.Context()); !errors.Is(err, keymgr.ErrKeyUnavailable) {
			t.Fatalf("nobody there: %v", err)
		}
	}
}

func TestSigtermAndSecondProcess(t *testing.T) {
	dir := newKeyStore(t, false)
	first := child(t, dir)
	second := keyd(t, dir)
	timer := time.AfterFunc(20*time.Second, func() { _ = second.Process.Kill() })
	defer timer.Stop()
	out, err := second.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "in use by another process") {
		t.Errorf("second keyd: %s %v", out, err)
	}
	c := dial(t, dir, client.Options{})
	if _, err := c.CreateKey(t.Context(), self, keymgr.CreateKeyInput{Alias: "alias/x"}); err != nil {
		t.Error(err)
	}
	if err := first.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := first.Wait(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	if _, err := os.Lstat(keystore.SocketPath(dir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket left: %v", err)
	}
	serve(t, RunConfig{Dir: dir})
	if _, err := c.DescribeKey(t.Context(), self, "alias/x"); err != nil {
		t.Error(err)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("KMSFS_REQUIRE") == "1" {
		t.Fatal("this test needs root")
	}
	t.Skip("needs root to be another user")
}

const nobody = 65534

// asNobody runs this test binary as another user, from a place that it can reach.
func asNobody(t *testing.T, base, socket string) string {
	t.Helper()
	binary := filepath.Join(base, "other.test")
	if _, err := os.Stat(binary); err != nil {
		copyFile(t, os.Args[0], binary)
	}
	cmd := exec.Command(binary)
	cmd.Env = []string{"KEYD_TEST_DIAL=" + socket}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v", out, err)
	}
	return string(out)
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestOtherUser: another user gets nothing from keyd, whatever was left open, and trusts no socket of ours.
func TestOtherUser(t *testing.T) {
	needRoot(t)
	dir := newKeyStore(t, false)
	base, err := os.MkdirTemp("", "keyd") // not t.TempDir, which others cannot enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	moved := filepath.Join(base, "ks")
	if err := errors.Join(os.Chmod(base, 0o755), os.Rename(dir, moved)); err != nil {
		t.Fatal(err)
	}
	serve(t, RunConfig{Dir: moved})
	socket := keystore.SocketPath(moved)
	got := asNobody(t, base, socket)
	want := "client: AccessDeniedException\nclient that trusts root: AccessDeniedException\nraw: no connection: true\n"
	if got != want {
		t.Errorf("closed directory: %s", got)
	}
	for _, path := range []string{moved, keystore.RunDir(moved), socket} {
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	got = asNobody(t, base, socket)
	want = "client: AccessDeniedException\nclient that trusts root: AccessDeniedException\n" +
		`raw: 400 {"__type":"AccessDeniedException","message":"this key manager answers its owner only"}` + "\n"
	if got != want {
		t.Errorf("open directory: %s", got)
	}
}

// TestClientTrust: what the client wants of the directory and of who listens.
func TestClientTrust(t *testing.T) {
	dir := newKeyStore(t, false)
	serve(t, RunConfig{Dir: dir})
	run := keystore.RunDir(dir)
	try := func(socket string, owner *int) error {
		c, err := client.Dial(t.Context(), socket, client.Options{Owner: owner})
		if err == nil {
			_ = c.Close()
		}
		return err
	}
	socket := keystore.SocketPath(dir)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(run, link); err != nil {
		t.Fatal(err)
	}
	if err := try(filepath.Join(link, "keyd.sock"), nil); !errors.Is(err, keymgr.ErrAccessDenied) {
		t.Errorf("symlink: %v", err)
	}
	for _, mode := range []os.FileMode{0o755, 0o770, 0o707, 0o701} {
		if err := os.Chmod(run, mode); err != nil {
			t.Fatal(err)
		}
		if err := try(socket, nil); !errors.Is(err, keymgr.ErrAccessDenied) {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if err := os.Chmod(run, 0o700); err != nil {
		t.Fatal(err)
	}
	other := os.Geteuid() + 1
	if err := try(socket, &other); !errors.Is(err, keymgr.ErrAccessDenied) {
		t.Errorf("other owner expected: %v", err)
	}
	if err := try(filepath.Join(dir, "none", "keyd.sock"), nil); !errors.Is(err, keymgr.ErrKeyUnavailable) {
		t.Errorf("no directory: %v", err)
	}
	if err := try(filepath.Join(run, "none.sock"), nil); !errors.Is(err, keymgr.ErrKeyUnavailable) {
		t.Errorf("no socket: %v", err)
	}
	if err := try(socket, nil); err != nil {
		t.Errorf("all in order: %v", err)
	}
	needRoot(t)
	if err := os.Chown(run, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chown(run, 0, 0) })
	if err := try(socket, nil); !errors.Is(err, keymgr.ErrAccessDenied) {
		t.Errorf("directory of another user: %v", err)
	}
	owner := nobody
	if err := try(socket, &owner); !errors.Is(err, keymgr.ErrAccessDenied) { // the right directory, but root listens in it
		t.Errorf("another user's process listens: %v", err)
	}
}

// TestNoSecretLeaks: neither the secret nor a key that was given out stands in any file that keyd wrote.
func TestNoSecretLeaks(t *testing.T) {
	dir := newKeyStore(t, true)
	stop := serve(t, RunConfig{Dir: dir, Secret: buffer(t, keyText)})
	c := dial(t, dir, client.Options{})
	md, err := c.CreateKey(t.Context(), self, keymgr.CreateKeyInput{Alias: "alias/visible", Description: "described"})
	if err != nil {
		t.Fatal(err)
	}
	key, err := c.GenerateDataKey(t.Context(), self, keymgr.GenerateDataKeyInput{KeyID: md.KeyID, Bytes: 32})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.PutVolume(t.Context(), self, keymgr.VolumeRecord{ID: blockcrypt.VolumeID{1}, Name: "volume-name", Path: "/the/path", CMK: md.ARN}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Encrypt(t.Context(), self, keymgr.EncryptInput{KeyID: md.KeyID, Plaintext: []byte("plaintext of a user")}); err != nil {
		t.Fatal(err)
	}
	stop()
	files := 0
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		files++
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, secret := range [][]byte{[]byte(keyText), key.Plaintext, []byte("plaintext of a user")} {
			if bytes.Contains(data, secret) {
				t.Errorf("%s holds a secret", path)
			}
		}
		for _, name := range []string{"alias/visible", "described", "volume-name", "/the/path"} {
			if bytes.Contains(data, []byte(name)) && filepath.Dir(path) != keystore.LogPath(dir) {
				t.Errorf("%s shows %s", path, name)
			}
		}
		return nil
	})
	if err != nil || files < 5 {
		t.Errorf("%d files, %v", files, err)
	}
}
