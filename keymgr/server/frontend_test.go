package server

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/client"
	"github.com/kmsfs/kmsfs/keymgr/keystore"
)

// forge tries to forward a request for alice's uid, and to advance the anchor, as a front end that has the key ("": none); it returns both codes.
func forge(t testing.TB, socket, key string, volume blockcrypt.VolumeID, cmk string) string {
	opts := client.Options{Timeout: time.Minute, Volume: volume, FrontEndRight: key == "right"}
	if raw, err := hex.DecodeString(key); err == nil && len(raw) == blockcrypt.KeySize {
		opts.FrontEnd = (*blockcrypt.Key)(raw)
	}
	c := client.New(socket, opts)
	defer c.Close()
	alice := keymgr.Caller{UID: 4711, GID: 4711, PID: 1, Via: keymgr.ViaFileDaemon}
	_, err := c.Encrypt(t.Context(), alice, keymgr.EncryptInput{KeyID: cmk, Plaintext: []byte("p"), Context: keymgr.Context{keymgr.ContextVolume: volume.String()}})
	return keymgr.Code(err) + " " + keymgr.Code(c.AdvanceAnchor(t.Context(), volume, keymgr.Anchor{Generation: 9}))
}

// TestForgedForward: no process but the one that has opened the volume forwards for it, and only one process at a time, whatever the other knows. The forger is a
// process of its own, of the same user.
func TestForgedForward(t *testing.T) {
	volume := blockcrypt.VolumeID{7}
	if socket := os.Getenv("KEYD_TEST_FORGE"); socket != "" {
		t.Log("forged:", forge(t, socket, os.Getenv("KEYD_TEST_FORGE_KEY"), volume, os.Getenv("KEYD_TEST_FORGE_CMK")))
		return
	}
	dir := newKeyStore(t, false)
	serve(t, RunConfig{Dir: dir})
	plain := dial(t, dir, client.Options{})
	md, err := plain.CreateKey(t.Context(), self, keymgr.CreateKeyInput{Alias: "alias/x"})
	if err != nil {
		t.Fatal(err)
	}
	forged := func(key string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestForgedForward$", "-test.v")
		cmd.Env = append(os.Environ(), "KEYD_TEST_FORGE="+keystore.SocketPath(dir), "KEYD_TEST_FORGE_KEY="+key, "KEYD_TEST_FORGE_CMK="+md.ARN)
		out, err := cmd.CombinedOutput()
		_, codes, ok := bytes.Cut(out, []byte("forged: "))
		if err != nil || !ok {
			t.Fatalf("forger: %s %v", out, err)
		}
		codes, _, _ = bytes.Cut(codes, []byte("\n"))
		return string(codes)
	}
	const refused = "AccessDeniedException AccessDeniedException"
	enrol(t, dir, volume)
	good, wrong := hex.EncodeToString(frontKey[:]), strings.Repeat("42", blockcrypt.KeySize)
	for _, key := range []string{"", wrong, "right"} {
		if got := forged(key); got != refused {
			t.Errorf("key %q, nobody serves the volume: %s", key, got)
		}
	}
	if got := forged(good); got != " " { // whoever can open the volume may serve it: the rig forwards indeed
		t.Errorf("with the volume's key: %q", got)
	}
	daemon := dial(t, dir, client.Options{Volume: volume, FrontEnd: &frontKey})
	for _, key := range []string{"", wrong, "right", good} {
		if got := forged(key); got != refused {
			t.Errorf("key %.4q, the volume is served: %s", key, got)
		}
	}
	if err := daemon.AdvanceAnchor(t.Context(), volume, keymgr.Anchor{Generation: 10}); err != nil {
		t.Errorf("the front end itself: %v", err)
	}
	log, err := usesIn(dir)
	if err != nil || !bytes.Contains(log, []byte(`"eventName":"RegisterVolume"`)) || !bytes.Contains(log, []byte(`"statement":"it has opened the volume"`)) {
		t.Errorf("the log does not tell of registrations: %v", err)
	}
	if err := plain.PutVolume(t.Context(), self, keymgr.VolumeRecord{ID: volume, CMK: md.ARN, FrontEnd: &blockcrypt.Key{9}}); !errors.Is(err, keymgr.ErrAccessDenied) {
		t.Errorf("another front-end key: %v", err)
	}
}

// TestFrontEndRight: who has the right kmsfs:FrontEnd on the volume's key forwards for the volume without having opened it.
func TestFrontEndRight(t *testing.T) {
	dir := newKeyStore(t, false)
	serve(t, RunConfig{Dir: dir})
	plain, volume := dial(t, dir, client.Options{}), blockcrypt.VolumeID{7}
	md, err := plain.CreateKey(t.Context(), self, keymgr.CreateKeyInput{})
	if err == nil {
		err = plain.PutVolume(t.Context(), self, keymgr.VolumeRecord{ID: volume, CMK: md.ARN})
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := forge(t, keystore.SocketPath(dir), "right", volume, md.ARN); got != "AccessDeniedException AccessDeniedException" {
		t.Errorf("without the right: %s", got)
	}
	me := (&users{owner: os.Geteuid()}).principal(os.Geteuid(), os.Getegid()).ARN
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:root"},"Action":"kms:*","Resource":"*"},
		{"Effect":"Allow","Principal":{"AWS":"` + me + `"},"Action":"kmsfs:FrontEnd","Resource":"*"}]}`
	if err := plain.PutKeyPolicy(t.Context(), self, md.KeyID, "default", policy, false); err != nil {
		t.Fatal(err)
	}
	if got := forge(t, keystore.SocketPath(dir), "right", volume, md.ARN); got != " " {
		t.Errorf("with the right: %q", got)
	}
}
