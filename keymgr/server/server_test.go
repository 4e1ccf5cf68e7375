package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/client"
	"github.com/kmsfs/kmsfs/keymgr/keystore"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// TestEverythingOverTheSocket calls each operation once and looks at what comes back.
func TestEverythingOverTheSocket(t *testing.T) {
	dir := newKeyStore(t, false)
	serve(t, RunConfig{Dir: dir})
	volume := blockcrypt.VolumeID{1, 2, 3}
	c := dial(t, dir, client.Options{Volume: volume})
	ctx := t.Context()
	md, err := c.CreateKey(ctx, self, keymgr.CreateKeyInput{Description: "<d> & ü", Alias: "alias/v"})
	if err != nil || md.Description != "<d> & ü" || !md.Enabled || !reflect.DeepEqual(md.Aliases, []string{"alias/v"}) || len(md.Versions) != 1 ||
		time.Since(md.CreationDate) > time.Minute {
		t.Fatalf("%+v %v", md, err)
	}
	if got, err := c.DescribeKey(ctx, self, "alias/v"); err != nil || !reflect.DeepEqual(got, md) {
		t.Errorf("describe: %+v %v", got, err)
	}
	if list, err := c.ListKeys(ctx, self, keymgr.Page{Limit: 1}); err != nil || len(list.Keys) != 1 || list.Keys[0].ARN != md.ARN || list.NextMarker != "" {
		t.Errorf("list: %+v %v", list, err)
	}
	if err := c.CreateAlias(ctx, self, "alias/w", md.KeyID); err != nil {
		t.Error(err)
	}
	if list, err := c.ListAliases(ctx, self, md.KeyID, keymgr.Page{}); err != nil || len(list.Aliases) != 2 || list.Aliases[0].TargetKeyID != md.KeyID {
		t.Errorf("aliases: %+v %v", list, err)
	}
	if err := c.DeleteAlias(ctx, self, "alias/w"); err != nil {
		t.Error(err)
	}
	context1 := keymgr.Context{"kmsfs:volume": volume.String(), "ü": "<&>\x00\n"}
	key, err := c.GenerateDataKey(ctx, self, keymgr.GenerateDataKeyInput{KeyID: "alias/v", Bytes: 32, Context: context1})
	if err != nil || len(key.Plaintext) != 32 || key.KeyID != md.ARN || key.MaterialID != md.Versions[0].MaterialID {
		t.Fatalf("%+v %v", key, err)
	}
	if out, err := c.Decrypt(ctx, self, keymgr.DecryptInput{Blob: key.Blob, Context: context1, KeyID: "alias/v"}); err != nil ||
		!bytes.Equal(out.Plaintext, key.Plaintext) || out.KeyID != md.ARN || out.Version != 1 || out.MaterialID != key.MaterialID {
		t.Errorf("%+v %v", out, err)
	}
	if w, err := c.GenerateDataKeyWithoutPlaintext(ctx, self, keymgr.GenerateDataKeyInput{KeyID: md.ARN, Bytes: 64}); err != nil || w.Plaintext != nil || len(w.Blob) == 0 {
		t.Errorf("%+v %v", w, err)
	}
	p := bytes.Repeat([]byte{0xff}, 4096)
	enc, err := c.Encrypt(ctx, self, keymgr.EncryptInput{KeyID: md.KeyID, Plaintext: p})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.RotateKeyOnDemand(ctx, self, md.KeyID); err != nil {
		t.Error(err)
	}
	re, err := c.ReEncrypt(ctx, self, keymgr.ReEncryptInput{Blob: enc.Blob, DestinationKeyID: md.KeyID, DestinationContext: context1})
	if err != nil || re.SourceMaterialID == re.DestinationMaterialID {
		t.Fatalf("%+v %v", re, err)
	}
	if out, err := c.Decrypt(ctx, self, keymgr.DecryptInput{Blob: re.Blob, Context: context1}); err != nil || !bytes.Equal(out.Plaintext, p) || out.Version != 2 {
		t.Errorf("version %d, %v", out.Version, err)
	}
	if b, err := c.GenerateRandom(ctx, self, 100); err != nil || len(b) != 100 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	rec := keymgr.VolumeRecord{ID: volume, Name: "v", Path: "/p", CMK: md.ARN, Superblock: bytes.Repeat([]byte("s"), keymgr.MaxSuperblock), Created: time.UnixMilli(1700000000123).UTC()}
	keyed := rec
	keyed.FrontEnd = &frontKey
	if err := c.PutVolume(ctx, self, keyed); err != nil {
		t.Fatal(err)
	}
	if got, err := c.GetVolume(ctx, self, volume); err != nil || !reflect.DeepEqual(got, rec) {
		t.Errorf("%+v %v", got, err)
	}
	if list, err := c.ListVolumes(ctx, self); err != nil || len(list) != 1 || !reflect.DeepEqual(list[0], rec) {
		t.Errorf("%+v %v", list, err)
	}
	a := keymgr.Anchor{Generation: 3, Sequence: 4, Head: [16]byte{5}, Clean: true}
	if err := dial(t, dir, client.Options{Volume: volume, FrontEnd: &frontKey}).AdvanceAnchor(ctx, volume, a); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Anchor(ctx, volume); err != nil || got != a {
		t.Errorf("%+v %v", got, err)
	}
	a.Sequence = 1
	if err := c.RestoreAnchor(ctx, self, volume, a, "test"); err != nil {
		t.Error(err)
	}
	if err := c.DisableKey(ctx, self, md.KeyID); err != nil {
		t.Error(err)
	}
	if err := c.EnableKey(ctx, self, md.KeyID); err != nil {
		t.Error(err)
	}
	st, err := c.Status(ctx)
	if err != nil || st.Locked || st.Dir != dir || st.PID != os.Getpid() || st.Token.Kind != "soft" || st.Token.HSM || st.Token.Error != "" ||
		st.Unlock != keystore.KeyFile || !reflect.DeepEqual(st.Volumes, []string{volume.String()}) || st.LogError != "" {
		t.Errorf("%+v %v", st, err)
	}
	if err := c.Unlock(ctx, buffer(t, keyText)); err != nil {
		t.Errorf("unlock while unlocked: %v", err)
	}
	if err := c.Unlock(ctx, buffer(t, strings.Repeat("x", 32))); !errors.Is(err, keymgr.ErrWrongSecret) {
		t.Errorf("wrong secret while unlocked: %v", err)
	}
	uses, err := usesIn(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range []string{"UnattendedUnlock", "CreateKey", "CreateAlias", "DeleteAlias", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "Decrypt", "Encrypt",
		"RotateKeyOnDemand", "ReEncrypt", "GenerateRandom", "PutVolume", "RestoreAnchor", "DisableKey", "EnableKey", "Unlock"} {
		if !bytes.Contains(uses, []byte(`"eventName":"`+op+`"`)) {
			t.Errorf("%s is not in the log", op)
		}
	}
	if !bytes.Contains(uses, fmt.Appendf(nil, `"pid":%d`, os.Getpid())) || bytes.Contains(uses, []byte(keyText[:20])) {
		t.Error("the log lacks the caller, or has the secret")
	}
}

// TestErrorsThroughTheClient: each class that the service answers is the same class at the client.
func TestErrorsThroughTheClient(t *testing.T) {
	dir := newKeyStore(t, false)
	serve(t, RunConfig{Dir: dir})
	c := dial(t, dir, client.Options{})
	ctx := t.Context()
	md, err := c.CreateKey(ctx, self, keymgr.CreateKeyInput{Alias: "alias/on"})
	if err != nil {
		t.Fatal(err)
	}
	off, err := c.CreateKey(ctx, self, keymgr.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.DisableKey(ctx, self, off.KeyID); err != nil {
		t.Fatal(err)
	}
	blob, err := c.Encrypt(ctx, self, keymgr.EncryptInput{KeyID: md.KeyID, Plaintext: []byte("p"), Context: keymgr.Context{"a": "bc"}})
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(blob.Blob)
	flipped[len(flipped)-1] ^= 1
	decrypt := func(in keymgr.DecryptInput) error { _, err := c.Decrypt(ctx, self, in); return err }
	volume := blockcrypt.VolumeID{1}
	for name, c := range map[string]struct {
		err  error
		want error
		msg  string
	}{
		"unknown key":      {c.EnableKey(ctx, self, "fake-key-id"), keymgr.ErrNotFound, "Invalid keyId 'fake-key-id'"},
		"disabled":         {second(c.Encrypt(ctx, self, keymgr.EncryptInput{KeyID: off.KeyID, Plaintext: []byte("p")})), keymgr.ErrDisabled, off.ARN + " is disabled."},
		"context":          {decrypt(keymgr.DecryptInput{Blob: blob.Blob, Context: keymgr.Context{"ab": "c"}}), keymgr.ErrInvalidCiphertext, ""},
		"flipped":          {decrypt(keymgr.DecryptInput{Blob: flipped, Context: keymgr.Context{"a": "bc"}}), keymgr.ErrInvalidCiphertext, ""},
		"garbage":          {decrypt(keymgr.DecryptInput{Blob: []byte("garbage")}), keymgr.ErrInvalidCiphertext, ""},
		"no blob":          {decrypt(keymgr.DecryptInput{}), keymgr.ErrValidation, "*"},
		"foreign blob":     {decrypt(keymgr.DecryptInput{Blob: append([]byte{1}, bytes.Repeat([]byte{2}, 100)...)}), keymgr.ErrAccessDenied, "*"},
		"other key":        {decrypt(keymgr.DecryptInput{Blob: blob.Blob, Context: keymgr.Context{"a": "bc"}, KeyID: off.KeyID}), keymgr.ErrIncorrectKey, "*"},
		"alias taken":      {c.CreateAlias(ctx, self, "alias/on", off.KeyID), keymgr.ErrAlreadyExists, "*"},
		"alias reserved":   {c.CreateAlias(ctx, self, "alias/aws/s3", md.KeyID), keymgr.ErrNotAuthorized, ""},
		"alias malformed":  {c.CreateAlias(ctx, self, "alias/ ", md.KeyID), keymgr.ErrInvalidAlias, "*"},
		"arn":              {c.DisableKey(ctx, self, "arn:x"), keymgr.ErrInvalidArn, "*"},
		"marker":           {second(c.ListKeys(ctx, self, keymgr.Page{Marker: "!"})), keymgr.ErrInvalidMarker, ""},
		"bytes":            {second(c.GenerateRandom(ctx, self, 0)), keymgr.ErrValidation, "*"},
		"no volume":        {second(c.GetVolume(ctx, self, volume)), keymgr.ErrNotFound, "*"},
		"no anchor":        {second(c.Anchor(ctx, volume)), keymgr.ErrNotFound, "*"},
		"anchor, no right": {c.AdvanceAnchor(ctx, volume, keymgr.Anchor{}), keymgr.ErrAccessDenied, "*"},
		"wrong secret":     {c.Unlock(ctx, buffer(t, strings.Repeat("w", 32))), keymgr.ErrWrongSecret, ""},
	} {
		if !errors.Is(c.err, c.want) || c.msg != "*" && keymgr.Message(c.err) != c.msg {
			t.Errorf("%s: %v, want %v", name, c.err, c.want)
		}
	}
	front := front(t, dir, volume)
	if err := front.AdvanceAnchor(ctx, volume, keymgr.Anchor{Generation: 2}); err != nil {
		t.Fatal(err)
	}
	if err := front.AdvanceAnchor(ctx, volume, keymgr.Anchor{Generation: 1}); !errors.Is(err, keymgr.ErrRollback) {
		t.Errorf("anchor backwards: %v", err)
	}
	if err := front.AdvanceAnchor(ctx, blockcrypt.VolumeID{2}, keymgr.Anchor{Generation: 1}); !errors.Is(err, keymgr.ErrAccessDenied) {
		t.Errorf("another volume's anchor: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestForwarding(t *testing.T) {
	dir := newKeyStore(t, false)
	serve(t, RunConfig{Dir: dir})
	volume := blockcrypt.VolumeID{7}
	front, plain := front(t, dir, volume), dial(t, dir, client.Options{})
	md, err := plain.CreateKey(t.Context(), self, keymgr.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	alice := keymgr.Caller{UID: 4711, GID: 4712, PID: 4713, Via: keymgr.ViaFileDaemon, Program: "/bin/cat", Path: "/m/f", Principal: "forged", Volume: "forged", RequestID: "forged"}
	gen := func(c *client.Client, volume string) error {
		_, err := c.GenerateDataKey(t.Context(), alice, keymgr.GenerateDataKeyInput{KeyID: md.KeyID, Bytes: 32, Context: keymgr.Context{keymgr.ContextVolume: volume}})
		return err
	}
	if err := gen(front, volume.String()); err != nil {
		t.Fatal(err)
	}
	uses, err := usesIn(dir)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(uses)), "\n")
	got := lines[len(lines)-1]
	for _, want := range []string{`"uid":4711`, `"gid":4712`, `"pid":4713`, `"via":"kmsfs.local.amazonaws.com"`, `"program":"/bin/cat"`, `"path":"/m/f"`,
		`"volume":"` + volume.String() + `"`, `"principal":"arn:aws:iam::000000000000:unix/uid/4711"`, `"decision":"allow"`} {
		if !strings.Contains(got, want) {
			t.Errorf("record %s lacks %s", got, want)
		}
	}
	if strings.Contains(got, "forged") {
		t.Errorf("record holds what the client made up: %s", got)
	}
	for name, err := range map[string]error{
		"another volume":  gen(front, blockcrypt.VolumeID{8}.String()),
		"not registered":  gen(plain, volume.String()),
		"management":      front.DisableKey(t.Context(), alice, md.KeyID),
		"listing":         second(front.ListKeys(t.Context(), alice, keymgr.Page{})),
		"volume registry": front.PutVolume(t.Context(), alice, keymgr.VolumeRecord{ID: volume, CMK: md.ARN}),
	} {
		if !errors.Is(err, keymgr.ErrAccessDenied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := gen(front, volume.String()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestLockedAndUnlock(t *testing.T) {
	dir := newKeyStore(t, true)
	stop := serve(t, RunConfig{Dir: dir, Secret: buffer(t, keyText)})
	volume := blockcrypt.VolumeID{1}
	enrol(t, dir, volume)
	stop()
	stop = serve(t, RunConfig{Dir: dir})
	c := dial(t, dir, client.Options{Volume: volume, FrontEnd: &frontKey}) // registers although locked
	if st, err := c.Status(t.Context()); err != nil || !st.Locked || st.Unlock != keystore.KeyFile || st.Token.Kind != "soft" {
		t.Errorf("%+v %v", st, err)
	}
	_, err := c.CreateKey(t.Context(), self, keymgr.CreateKeyInput{})
	if !errors.Is(err, keymgr.ErrLocked) || !errors.Is(err, keymgr.ErrKeyUnavailable) || !strings.Contains(err.Error(), "kmsfs keystore unlock") {
		t.Errorf("locked: %v", err)
	}
	if err := c.AdvanceAnchor(t.Context(), volume, keymgr.Anchor{}); !errors.Is(err, keymgr.ErrLocked) {
		t.Errorf("locked: %v", err)
	}
	for _, wrong := range []string{strings.Repeat("x", 32), "short", strings.Repeat("y", keystore.MaxSecret)} {
		if err := c.Unlock(t.Context(), buffer(t, wrong)); !errors.Is(err, keymgr.ErrWrongSecret) {
			t.Errorf("wrong secret: %v", err)
		}
	}
	if err := c.Unlock(t.Context(), buffer(t, keyText)); err != nil {
		t.Fatal(err)
	}
	if err := c.AdvanceAnchor(t.Context(), volume, keymgr.Anchor{}); err != nil { // the claim made while it was locked counts
		t.Errorf("unlocked: %v", err)
	}
	md, err := c.CreateKey(t.Context(), self, keymgr.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	uses, err := usesIn(dir)
	if err != nil || bytes.Count(uses, []byte(`"errorCode":"IncorrectSecretException"`)) != 3 || bytes.Contains(uses, []byte("short")) {
		t.Errorf("log: %s %v", uses, err)
	}
	stop()
	if _, err := c.DescribeKey(t.Context(), self, md.KeyID); !errors.Is(err, keymgr.ErrKeyUnavailable) || errors.Is(err, keymgr.ErrLocked) {
		t.Errorf("nobody there: %v", err)
	}
	serve(t, RunConfig{Dir: dir, Secret: buffer(t, keyText)})
	if got, err := c.DescribeKey(t.Context(), self, md.KeyID); err != nil || got.KeyID != md.KeyID { // the client reconnects by itself
		t.Errorf("after restart: %+v %v", got, err)
	}
	if err := c.AdvanceAnchor(t.Context(), volume, keymgr.Anchor{Generation: 1}); err != nil { // and is registered again
		t.Errorf("after restart: %v", err)
	}
}

// TestPassphraseOverTheSocket is the one test here that pays for Argon2id.
func TestPassphraseOverTheSocket(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ks")
	if _, err := keystore.Init(t.Context(), keystore.InitConfig{Dir: dir, Unlock: keystore.UnlockConfig{Kind: keystore.Passphrase}, Secret: buffer(t, "open sesame"), Options: options}); err != nil {
		t.Fatal(err)
	}
	serve(t, RunConfig{Dir: dir})
	c := dial(t, dir, client.Options{})
	if err := c.Unlock(t.Context(), buffer(t, "open sesam")); !errors.Is(err, keymgr.ErrWrongSecret) {
		t.Errorf("wrong passphrase: %v", err)
	}
	if err := c.Unlock(t.Context(), buffer(t, "open sesame")); err != nil {
		t.Errorf("right passphrase: %v", err)
	}
	if st, err := c.Status(t.Context()); err != nil || st.Locked {
		t.Errorf("%+v %v", st, err)
	}
}

func TestStartRefuses(t *testing.T) {
	dir := newKeyStore(t, false)
	run := func(cfg RunConfig) error {
		var told error
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		cfg.Options, cfg.Ready = options, func(err error) { told = err; cancel() } // should it start, it ends at once
		err := Run(ctx, cfg)
		if err == nil || !errors.Is(told, err) {
			t.Errorf("Run returns %v, Ready was told %v", err, told)
		}
		return err
	}
	if err := run(RunConfig{Dir: filepath.Join(dir, "none")}); !errors.Is(err, keystore.ErrNone) {
		t.Errorf("no key store: %v", err)
	}
	if err := run(RunConfig{Dir: dir, Secret: buffer(t, strings.Repeat("x", 32))}); !errors.Is(err, keymgr.ErrWrongSecret) {
		t.Errorf("wrong secret: %v", err)
	}
	if err := os.Chmod(keystore.RunDir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := run(RunConfig{Dir: dir}); err == nil {
		t.Error("started in an open directory")
	}
	if err := os.Chmod(keystore.RunDir(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	stop := serve(t, RunConfig{Dir: dir})
	if err := run(RunConfig{Dir: dir}); !errors.Is(err, keystore.ErrInUse) {
		t.Errorf("second keyd: %v", err)
	}
	dial(t, dir, client.Options{}) // the first one's socket is untouched
	stop()
	if _, err := os.Lstat(keystore.SocketPath(dir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket was left behind: %v", err)
	}
}

// TestUnattendedFails: a key store whose key file is gone starts locked, and opens when it is told the secret.
func TestUnattendedFails(t *testing.T) {
	dir := newKeyStore(t, false)
	if err := os.Remove(filepath.Join(filepath.Dir(dir), "key")); err != nil {
		t.Fatal(err)
	}
	serve(t, RunConfig{Dir: dir})
	c := dial(t, dir, client.Options{})
	if _, err := c.ListKeys(t.Context(), self, keymgr.Page{}); !errors.Is(err, keymgr.ErrLocked) {
		t.Errorf("%v", err)
	}
	if err := c.Unlock(t.Context(), buffer(t, keyText)); err != nil {
		t.Error(err)
	}
}

// TestUnattendedLater: an unattended key store that cannot be opened at the start, for want of room, is open when there is room.
func TestUnattendedLater(t *testing.T) {
	dir := newKeyStore(t, false)
	var full atomic.Bool
	full.Store(true)
	opts := options
	opts.OpenKV = func(ctx context.Context, p keystore.KVParams) (kv.Store, error) {
		if full.Load() {
			return nil, kv.ErrNoSpace
		}
		return options.OpenKV(ctx, p)
	}
	bounds := defaultBounds
	bounds.again, bounds.againAtMost = time.Millisecond, 10*time.Millisecond
	serve(t, RunConfig{Dir: dir, bounds: &bounds, Options: opts})
	c := dial(t, dir, client.Options{})
	if _, err := c.ListKeys(t.Context(), self, keymgr.Page{}); !errors.Is(err, keymgr.ErrLocked) {
		t.Errorf("%v", err)
	}
	full.Store(false)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if _, err := c.ListKeys(t.Context(), self, keymgr.Page{}); err == nil {
			return
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestLongPath(t *testing.T) {
	dir := newKeyStore(t, false)
	long := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	if err := os.Rename(dir, long); err != nil {
		t.Fatal(err)
	}
	serve(t, RunConfig{Dir: long, Secret: buffer(t, keyText)})
	dial(t, long, client.Options{})
}

// TestLogFull: keyd whose log cannot be written refuses, and goes on when it can.
func TestLogFull(t *testing.T) {
	dir := newKeyStore(t, false)
	serve(t, RunConfig{Dir: dir})
	c := dial(t, dir, client.Options{})
	md, err := c.CreateKey(t.Context(), self, keymgr.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	path := keystore.LogPath(dir)
	swap := func() { // at once: a log that finds its directory gone makes it again
		t.Helper()
		if err := unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, path+".other", unix.RENAME_EXCHANGE); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path+".other", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	swap()
	if _, err := c.GenerateDataKey(t.Context(), self, keymgr.GenerateDataKeyInput{KeyID: md.KeyID, Bytes: 32}); !errors.Is(err, keymgr.ErrRecord) {
		t.Errorf("no log: %v", err)
	}
	if err := c.DisableKey(t.Context(), self, md.KeyID); !errors.Is(err, keymgr.ErrRecord) {
		t.Errorf("no log: %v", err)
	}
	if st, err := c.Status(t.Context()); err != nil || st.LogError == "" {
		t.Errorf("status %+v %v", st, err)
	}
	swap()
	if _, err := c.GenerateDataKey(t.Context(), self, keymgr.GenerateDataKeyInput{KeyID: md.KeyID, Bytes: 32}); err != nil {
		t.Errorf("log is back: %v", err)
	}
}

func TestManyClients(t *testing.T) {
	dir := newKeyStore(t, false)
	serve(t, RunConfig{Dir: dir})
	c := dial(t, dir, client.Options{})
	md, err := c.CreateKey(t.Context(), self, keymgr.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		volume := blockcrypt.VolumeID{1, byte(i)}
		enrol(t, dir, volume)
		wg.Go(func() {
			c := client.New(keystore.SocketPath(dir), client.Options{Volume: volume, FrontEnd: &frontKey, Timeout: 20 * time.Second})
			defer c.Close()
			own := keymgr.Context{keymgr.ContextVolume: volume.String()}
			for n := range 20 {
				key, err := c.GenerateDataKey(t.Context(), self, keymgr.GenerateDataKeyInput{KeyID: md.KeyID, Bytes: 32, Context: own})
				if err != nil {
					t.Error(err)
					return
				}
				out, err := c.Decrypt(t.Context(), self, keymgr.DecryptInput{Blob: key.Blob, Context: own})
				if err != nil || !bytes.Equal(out.Plaintext, key.Plaintext) {
					t.Error(err)
					return
				}
				if err := c.AdvanceAnchor(t.Context(), volume, keymgr.Anchor{Generation: 1, Sequence: uint64(n)}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
