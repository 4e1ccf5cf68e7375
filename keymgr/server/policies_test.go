package server

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/client"
	"github.com/kmsfs/kmsfs/keymgr/policy"
)

// TestPoliciesOverTheSocket: policies travel as they are, and decide about users that a front end forwards, by the names that the host gives them.
func TestPoliciesOverTheSocket(t *testing.T) {
	dir := newKeyStore(t, false)
	serve(t, RunConfig{Dir: dir})
	volume := blockcrypt.VolumeID{7}
	c, front := dial(t, dir, client.Options{}), front(t, dir, volume)
	ctx := t.Context()
	md, err := c.CreateKey(ctx, self, keymgr.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.GetKeyPolicy(ctx, self, md.KeyID, ""); err != nil || got != string(policy.DefaultPolicy(keymgr.AccountID)) {
		t.Errorf("%q %v", got, err)
	}
	if names, err := c.ListKeyPolicies(ctx, self, md.KeyID, keymgr.Page{}); err != nil || len(names) != 1 {
		t.Errorf("%v %v", names, err)
	}
	daemon := keymgr.Caller{UID: 1, GID: 1, Via: keymgr.ViaFileDaemon} // daemon:daemon, or bin:bin
	who := (&users{owner: os.Geteuid()}).principal(1, 1)
	if who.Unix.User == "" || who.Unix.UnresolvedUser {
		t.Skip("uid 1 has no name here")
	}
	encrypt := func() error {
		in := keymgr.EncryptInput{KeyID: md.KeyID, Plaintext: []byte("p"), Context: keymgr.Context{keymgr.ContextVolume: volume.String()}}
		_, err := front.Encrypt(ctx, daemon, in)
		return err
	}
	if err := encrypt(); err != nil {
		t.Errorf("under the default policy: %v", err)
	}
	document := strings.Replace(string(policy.DefaultPolicy(keymgr.AccountID)), `"Statement" : [`, `"Statement" : [ {"Sid":"No daemons","Effect":"Deny",`+
		`"Principal":{"AWS":"`+who.ARN+`"},"Action":"kms:Encrypt","Resource":"*"},`, 1)
	if err := c.PutKeyPolicy(ctx, self, md.KeyID, "default", document, false); err != nil {
		t.Fatal(err)
	}
	if err := encrypt(); !errors.Is(err, keymgr.ErrAccessDenied) || !strings.Contains(keymgr.Message(err), who.ARN+" is not authorized to perform: kms:Encrypt") {
		t.Errorf("denied by name: %v", err)
	}
	log, err := usesIn(dir)
	if err != nil || !strings.Contains(string(log), `"statement":"resource-based policy, statement 1 (No daemons)"`) {
		t.Errorf("the log does not say what decided (%v)", err)
	}
	if err := c.PutKeyPolicy(ctx, self, md.KeyID, "", "{}", false); !errors.Is(err, keymgr.ErrMalformedPolicy) {
		t.Errorf("malformed: %v", err)
	}
}

// TestUsers: names of users and groups, and what stands for those that have none.
func TestUsers(t *testing.T) {
	u := &users{owner: 4711}
	root := u.principal(0, 0)
	if root.ARN != "arn:aws:iam::000000000000:unix/user/root" || root.Root || root.Unix.User != "root" || root.Unix.UnresolvedUser || root.Unix.UnresolvedGroups ||
		root.Unix.Groups[0] != "root" || root.Account != keymgr.AccountID {
		t.Errorf("%+v %+v", root, root.Unix)
	}
	none := u.principal(4711, 4712)
	if none.ARN != "arn:aws:iam::000000000000:unix/uid/4711" || !none.Root || none.Unix.User != "" || !none.Unix.UnresolvedUser || !none.Unix.UnresolvedGroups ||
		len(none.Unix.Groups) != 1 || none.Unix.Groups[0] != "4712" {
		t.Errorf("%+v %+v", none, none.Unix)
	}
	if mixed := u.principal(0, 4712); len(mixed.Unix.Groups) < 2 || !mixed.Unix.UnresolvedGroups || mixed.Unix.UnresolvedUser {
		t.Errorf("%+v", mixed.Unix)
	}
	if again := u.principal(0, 0); again.Unix != root.Unix {
		t.Error("looked up twice")
	}
	u.mu.stamp[0].size++
	if again := u.principal(0, 0); again.Unix == root.Unix {
		t.Error("not looked up again after the files changed")
	}
}
