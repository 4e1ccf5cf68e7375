package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// secretFile puts text into a file of its own that nobody else reads.
func (r *rig) secretFile(name, text string) string {
	r.T.Helper()
	path := filepath.Join(r.Dir, name)
	write(r.T, path, []byte(text))
	if err := os.Chmod(path, 0o600); err != nil {
		r.T.Fatal(err)
	}
	return path
}

// identity makes an identity and returns the file with its access key.
func (r *rig) identity(name string, options ...string) string {
	r.T.Helper()
	return r.secretFile("identity-"+name, r.Must(append([]string{"identity", "create", name, "--json", "--keystore", r.Store}, options...)...))
}

var waitsAs = regexp.MustCompile(`kmsfs approval approve ([0-9a-f]{32})`)

// alerts are the names of the events of the audit log that are alerts.
func (r *rig) alerts() string {
	r.T.Helper()
	var names []string
	for _, line := range strings.Split(r.Must("audit", "query", "--keystore", r.Store, "--json"), "\n") {
		if name := regexp.MustCompile(`"eventName":"(\w+)".*"alert":true`).FindStringSubmatch(line); name != nil {
			names = append(names, name[1])
		}
	}
	return strings.Join(names, " ")
}

const (
	exitOther    = 1
	exitApproval = 23
)

// TestApprovalCommands: a deletion waits for a second person, who comes over TCP with an access key; without it nothing is done.
func TestApprovalCommands(t *testing.T) {
	r := keyRig(t, "--listen", "127.0.0.1:0")
	at := []string{"--keystore", r.Store}
	do := func(args ...string) { t.Helper(); r.Must(append(args, at...)...) }
	ann, bob := r.identity("ann", "--role", "key-admin"), r.identity("bob", "--role", "key-admin")
	eve := r.identity("eve", "--role", "auditor")
	do("key", "create", "--alias", "alias/a")
	do("approval", "on", "--approver", "ann", "--approver", "bob")
	ask := func(args ...string) string {
		t.Helper()
		res := r.Refused(exitApproval, []string{"waits for a second person"}, append(args, at...)...)
		id := waitsAs.FindStringSubmatch(res.Err)
		if id == nil {
			t.Fatalf("no request is named: %s", res.Err)
		}
		return id[1]
	}
	id := ask("key", "delete", "alias/a", "--yes", "--identity", ann)
	if list := jsonOf[[]struct {
		ID, Operation, Requester string
		Parameters               struct{ PendingWindowInDays int }
	}](r, "approval", "list"); len(list) != 1 || list[0].ID != id || list[0].Operation != "ScheduleKeyDeletion" || !strings.HasSuffix(list[0].Requester, ":user/ann") || list[0].Parameters.PendingWindowInDays != 30 {
		t.Errorf("approval list: %+v", list)
	}
	listen := jsonOf[struct{ Listen string }](r, "keystore", "status").Listen
	for _, who := range [][]string{nil, {"--identity", ann}, {"--identity", eve}} {
		r.Refused(exitKeyRefused, nil, append(append([]string{"approval", "approve", id}, who...), at...)...)
	}
	if k := jsonOf[keyJSON](r, "key", "describe", "alias/a"); k.State != "Enabled" {
		t.Errorf("nobody approved, and the key is %s", k.State)
	}
	r.Refused(exitUsage, []string{"--identity"}, "approval", "approve", id, "--endpoint", "http://"+listen)
	r.Must("approval", "approve", id, "--identity", bob, "--endpoint", "http://"+listen)
	if k := jsonOf[keyJSON](r, "key", "describe", "alias/a"); k.State != "PendingDeletion" {
		t.Errorf("bob approved, and the key is %s", k.State)
	}
	r.Refused(exitNotFound, nil, append([]string{"approval", "approve", id, "--identity", bob}, at...)...)
	shown := jsonOf[struct {
		Approver string
		Answer   struct {
			KeyID string `json:"keyId"`
			Days  int    `json:"pendingWindowInDays"`
		}
	}](r, "approval", "show", id, "--identity", ann)
	if !strings.HasSuffix(shown.Approver, ":user/bob") || !strings.Contains(shown.Answer.KeyID, ":key/") || shown.Answer.Days != 30 {
		t.Errorf("approval show: %+v", shown)
	}
	r.Refused(exitNotFound, []string{"approval list"}, append([]string{"approval", "show", id, "--identity", eve}, at...)...)
	do("key", "delete", "alias/a", "--yes", "--identity", ann) // who asked gets the answer
	r.Refused(exitKeyRefused, []string{"pending deletion"}, append([]string{"key", "delete", "alias/a", "--yes", "--identity", ann}, at...)...)

	do("key", "create", "--alias", "alias/b")
	grant := []string{"grant", "create", "alias/b", "--grantee", "arn:aws:iam::000000000000:user/eve", "--operations", "Decrypt", "--expires", "2099-12-31"}
	id = ask(grant...)
	do("approval", "approve", id, "--identity", bob)
	made := jsonOf[struct {
		Withheld string
		Answer   struct {
			GrantID string `json:"grantId"`
		}
	}](r, "approval", "show", id)
	given := jsonOf[struct{ ID, Token string }](r, grant...)
	if given.ID != made.Answer.GrantID || len(given.Token) != 140 || !strings.Contains(made.Withheld, "secret") {
		t.Errorf("the grant that was approved: %+v; its answer: %+v", made, given)
	}
	r.Refused(exitUsage, []string{"is over already"}, append(append(grant[:len(grant)-1:len(grant)-1], "-1h"), at...)...)

	id = ask("approval", "off")
	do("approval", "show", id)
	do("approval", "reject", id, "--identity", bob)
	if st := jsonOf[struct{ Approvers int }](r, "keystore", "status"); st.Approvers != 2 {
		t.Errorf("rejected, and keystore status: %+v", st)
	}
	do("approval", "approve", ask("approval", "off"), "--identity", ann)
	if st := jsonOf[struct{ On bool }](r, "approval", "status"); st.On {
		t.Error("approval is still on")
	}
	do("key", "delete", "alias/a", "--cancel")
}

// TestBreakGlassCommands: two secrets open it while approval is on; a locked-out key comes back; the status and the audit log say so.
func TestBreakGlassCommands(t *testing.T) {
	r := newRig(t)
	r.Init()
	r.Mount()
	at := []string{"--keystore", r.Store}
	ann, bob := r.identity("ann", "--role", "key-admin"), r.identity("bob", "--role", "key-admin")
	_ = bob
	secrets := []string{"--secret-file", r.secretFile("s1", "what the first one knows\n"), "--secret-file", r.secretFile("s2", "what the second one knows\n")}
	run := func(args ...string) string { t.Helper(); return r.Must(append(args, at...)...) }
	run(append([]string{"break-glass", "setup"}, secrets...)...)
	key := run("key", "create", "--alias", "alias/locked")
	_ = key
	deny := r.secretFile("deny", `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*"}}`)
	good := r.secretFile("good", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:root"},"Action":"kms:*","Resource":"*"}}`)
	arn := jsonOf[keyJSON](r, "key", "describe", "alias/locked").ARN
	run("key", "policy", "put", "alias/locked", deny, "--bypass-lockout-check")
	run("approval", "on", "--approver", "ann", "--approver", "bob")
	r.Refused(exitKeyRefused, nil, append([]string{"key", "policy", "put", arn, good}, at...)...)

	wrong := []string{"--secret-file", secrets[1], "--secret-file", r.secretFile("s3", "what nobody knows, ever\n")}
	r.Refused(exitWrongSecret, []string{"at least one"}, append(append([]string{"break-glass", "open", "--reason", "locked out"}, wrong...), at...)...)
	r.Refused(exitUsage, []string{"two secrets"}, append(append([]string{"break-glass", "open", "--reason", "locked out"}, wrong[:2]...), at...)...)
	r.Refused(exitUsage, []string{"--reason"}, append(append([]string{"break-glass", "open"}, secrets...), at...)...)
	glass := filepath.Join(r.Dir, "glass")
	if out := run(append([]string{"break-glass", "open", "--reason", "locked out", "--for", "10m", "--out", glass}, secrets...)...); strings.Contains(out, "Secret") || !strings.Contains(out, "until") {
		t.Errorf("break-glass open --out prints\n%s", out)
	}
	run("key", "policy", "put", arn, good, "--identity", glass)
	run("key", "describe", arn)
	r.Refused(exitKeyRefused, []string{"not one of the operations of an emergency"}, append([]string{"key", "create", "--identity", glass}, at...)...)
	if st := r.Must("status"); !strings.Contains(st, "break-glass") || !strings.Contains(st, "OPEN until") || !strings.Contains(st, "locked out") {
		t.Errorf("kmsfs status does not warn:\n%s", st)
	}
	run("break-glass", "close")
	r.Refused(exitOther, []string{"security token"}, append([]string{"key", "describe", arn, "--identity", glass}, at...)...)
	if st := r.Must("status"); !strings.Contains(st, "was opened on") {
		t.Errorf("kmsfs status has forgotten:\n%s", st)
	}
	r.Refused(exitApproval, nil, append(append([]string{"break-glass", "setup"}, secrets...), at...)...)
	run("approval", "list", "--identity", ann)
	if got := r.alerts(); !strings.Contains(got, "OpenBreakGlass DescribeKey PutKeyPolicy CreateKey CloseBreakGlass SetBreakGlass") || strings.Count(got, "OpenBreakGlass") != 2 {
		t.Errorf("alerts: %s", got)
	}
	r.Umount()
}
