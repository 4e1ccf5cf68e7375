package conformance

import (
	"encoding/json"
	"errors"
	"os/user"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/keymgr"
)

// mayForward lets an identity forward users of its host.
const mayForward = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kmsfs:FrontEnd","Resource":"*"}}`

// TestRemoteUsers: a key daemon tells another one for which user it asks, if that lets it; the other one decides about the user, and records it.
func TestRemoteUsers(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	far := embedded(t)
	near := behind(t, far, "kmsfs://"+far.address+"?forward=users")
	md, err := near.CreateKey(t.Context(), self, keymgr.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	c := keymgr.Context{"a": "b"}
	encrypt := func() ([]byte, error) {
		out, err := near.Encrypt(t.Context(), self, keymgr.EncryptInput{KeyID: md.KeyID, Plaintext: []byte("x"), Context: c})
		return out.Blob, err
	}
	if _, err := encrypt(); !errors.Is(err, keymgr.ErrInvalidState) || !strings.Contains(err.Error(), "cannot be used where it is kept") {
		t.Errorf("the host may not forward: %v", err)
	}
	if err := far.PutIdentityPolicy(t.Context(), self, "host-b", "front", mayForward); err != nil {
		t.Fatal(err)
	}
	account := func(denied string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:root"},"Action":"kms:*","Resource":"*"},
			{"Effect":"Deny","Principal":{"AWS":"arn:aws:iam::000000000000:unix/user/` + denied + `"},"Action":"kms:Decrypt","Resource":"*"}]}`
	}
	policies := func(denied string) {
		for _, k := range far.keysOf() {
			if err := far.PutKeyPolicy(t.Context(), self, k.KeyID, "", account(denied), false); err != nil {
				t.Fatal(err)
			}
		}
	}
	policies("kmsfs-somebody-else")
	blob, err := encrypt()
	if err != nil {
		t.Fatal(err)
	}
	opens := func() error {
		_, err := near.Decrypt(t.Context(), self, keymgr.DecryptInput{Blob: blob, Context: c})
		return err
	}
	if err := opens(); err != nil {
		t.Error(err)
	}
	policies(me.Username)
	if err := opens(); !errors.Is(err, keymgr.ErrInvalidState) {
		t.Errorf("denied there: %v", err)
	}
	far.forwarded(me.Username, map[string]int{"Encrypt": 1, "Decrypt": 2})
}

// forwarded looks for the events of a user whom host-b forwards, at least so many by name.
func (r *rig) forwarded(name string, want map[string]int) {
	r.t.Helper()
	for line := range strings.Lines(string(r.log())) {
		var e recorded
		if json.Unmarshal([]byte(line), &e) != nil || e.AdditionalEventData["principal"] != "arn:aws:iam::000000000000:unix/user/"+name {
			continue
		}
		if a := e.AdditionalEventData; a["forwardedBy"] == "arn:aws:iam::000000000000:user/host-b" && a["via"] == keymgr.ViaKeyManager {
			want[e.EventName]--
		}
	}
	for event, missing := range want {
		if missing > 0 {
			r.t.Errorf("%d events %s of the forwarded user are missing", missing, event)
		}
	}
}
