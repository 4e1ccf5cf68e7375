package conformance

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/keystore"
)

// behind is a key daemon whose keys are another one's: the answers are its own, the keys are not.
func behind(t *testing.T, far *rig, where string) *rig {
	t.Helper()
	id, err := far.CreateIdentity(t.Context(), self, "host-b", true)
	if err != nil {
		t.Fatal(err)
	}
	access, err := json.Marshal(map[string]string{"AccessKeyId": id.AccessKeyID, "SecretAccessKey": id.Secret})
	if err != nil {
		t.Fatal(err)
	}
	return newRig(t, keystore.InitConfig{Token: keystore.TokenConfig{Kind: hsm.KindKMS, Module: where}, Unlock: keystore.UnlockConfig{Kind: keystore.KeyFile},
		Secret: secret(t, string(access)), Options: keystore.Options{OpenKV: openTables}})
}

// keysOf lists the keys of a daemon.
func (r *rig) keysOf() (out []keymgr.KeyMetadata) {
	r.t.Helper()
	list, err := r.ListKeys(r.t.Context(), self, keymgr.Page{})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, k := range list.Keys {
		md, err := r.DescribeKey(r.t.Context(), self, k.KeyID)
		if err != nil {
			r.t.Fatal(err)
		}
		out = append(out, md)
	}
	return out
}

// TestRemoteKeys: keys in the key manager of another host, by AWS' protocol. Who may do what is decided here; there, nothing is learnt of names; what is disabled there counts here.
func TestRemoteKeys(t *testing.T) {
	for _, scheme := range []string{"kmsfs", "aws-kms"} {
		t.Run(scheme, func(t *testing.T) {
			far := embedded(t)
			where := "kmsfs://" + far.address
			if scheme == "aws-kms" {
				where = "aws-kms://local?endpoint=http://" + far.address
			}
			near := behind(t, far, where)
			md, err := near.CreateKey(t.Context(), self, keymgr.CreateKeyInput{Alias: "alias/salaries", Description: "a secret name"})
			if err != nil {
				t.Fatal(err)
			}
			before := far.keysOf()
			if len(before) != 3 { // the root key of the key store, the one for its audit log, and this one
				t.Fatalf("%d keys there", len(before))
			}
			names := keymgr.Context{"kmsfs:path": "/salaries/boss"}
			seal := func() []byte {
				t.Helper()
				out, err := near.Encrypt(t.Context(), self, keymgr.EncryptInput{KeyID: md.KeyID, Plaintext: make([]byte, 4096), Context: names})
				if err != nil {
					t.Fatal(err)
				}
				return out.Blob
			}
			opens := func(blob []byte, c keymgr.Context) error {
				_, err := near.Decrypt(t.Context(), self, keymgr.DecryptInput{Blob: blob, Context: c})
				return err
			}
			old := seal()
			if err := near.RotateKeyOnDemand(t.Context(), self, md.KeyID); err != nil {
				t.Fatal(err)
			}
			fresh := seal()
			if err := errors.Join(opens(old, names), opens(fresh, names)); err != nil {
				t.Errorf("before and after a rotation: %v", err)
			}
			if err := opens(old, keymgr.Context{"kmsfs:path": "/salaries/other"}); !errors.Is(err, keymgr.ErrInvalidCiphertext) {
				t.Errorf("another context: %v", err)
			}
			near.decidesHere(md.KeyID, fresh, names)
			far.disabledThere(before, opens, old, fresh, names)
			far.learnsNothing("salaries", "secret name", "kmsfs:path", md.KeyID)
		})
	}
}

// decidesHere denies by the policy here, and sees that the far side is not asked.
func (r *rig) decidesHere(key string, blob []byte, c keymgr.Context) {
	r.t.Helper()
	if err := r.DisableKey(r.t.Context(), self, key); err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.Decrypt(r.t.Context(), self, keymgr.DecryptInput{Blob: blob, Context: c}); !errors.Is(err, keymgr.ErrDisabled) {
		r.t.Errorf("disabled here: %v", err)
	}
	if err := r.EnableKey(r.t.Context(), self, key); err != nil {
		r.t.Fatal(err)
	}
}

// disabledThere disables the backing key of the first version, and enables it again.
func (r *rig) disabledThere(before []keymgr.KeyMetadata, opens func([]byte, keymgr.Context) error, old, fresh []byte, c keymgr.Context) {
	r.t.Helper()
	for _, k := range before { // the root key is not asked while the key store is open
		if err := r.DisableKey(r.t.Context(), self, k.KeyID); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := opens(old, c); !errors.Is(err, keymgr.ErrInvalidState) || !strings.Contains(err.Error(), "cannot be used where it is kept") {
		r.t.Errorf("disabled there: %v", err)
	}
	if err := opens(fresh, c); err != nil {
		r.t.Errorf("another version: %v", err)
	}
	for _, k := range before {
		if err := r.EnableKey(r.t.Context(), self, k.KeyID); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := opens(old, c); err != nil {
		r.t.Errorf("enabled there again: %v", err)
	}
}

// learnsNothing looks for words in what the daemon has written down in clear: its audit log.
func (r *rig) learnsNothing(words ...string) {
	r.t.Helper()
	st, err := r.Status(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	seen := 0
	err = filepath.WalkDir(filepath.Join(st.Dir, "audit"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		seen += strings.Count(string(b), "kmsfs:binding")
		for _, w := range words {
			if strings.Contains(string(b), w) {
				r.t.Errorf("%s says %q", path, w)
			}
		}
		return err
	})
	if err != nil || seen < 5 {
		r.t.Errorf("%d bindings in the audit log, %v", seen, err)
	}
}
