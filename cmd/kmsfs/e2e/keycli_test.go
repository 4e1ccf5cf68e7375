package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// keyRig is a rig whose key daemon was started by its own command, on an empty directory.
func keyRig(t *testing.T, options ...string) *rig {
	t.Helper()
	r := &rig{mounttest.NewRig(t, mounttest.Options{})}
	secret := filepath.Join(r.Dir, "passphrase")
	write(t, secret, []byte("a passphrase of a test\n"))
	if err := os.Chmod(secret, 0o600); err != nil {
		t.Fatal(err)
	}
	r.Secret = []string{"--passphrase-file", secret}
	t.Cleanup(func() {
		if pid := r.KeydPID(); pid != 0 {
			_ = syscall.Kill(pid, syscall.SIGTERM)
			r.Ends(pid)
		}
	})
	r.Must(append(append([]string{"keyd", "--keystore", r.Store}, r.Secret...), options...)...)
	return r
}

// jsonOf runs a command and reads what it prints.
func jsonOf[T any](r *rig, args ...string) (out T) {
	r.T.Helper()
	printed := r.Must(append(args, "--json", "--keystore", r.Store)...)
	if err := json.Unmarshal([]byte(printed), &out); err != nil {
		r.T.Fatalf("kmsfs %s prints %q: %v", strings.Join(args, " "), printed, err)
	}
	return out
}

type keyJSON struct {
	ID, ARN, State, Origin string
	Aliases                []string
	Versions               []struct {
		Number   int
		Material string `json:"material_id"`
	}
	Deletion string `json:"deletion_date"`
}

type aliasJSON struct {
	Name string
	Key  string `json:"key_id"`
}

// TestKeyCommands goes through the commands on keys, aliases, grants and identities, with --json, which scripts rely on, and as tables.
func TestKeyCommands(t *testing.T) {
	r := keyRig(t, "--listen", "127.0.0.1:0")
	at := []string{"--keystore", r.Store}
	do := func(args ...string) { t.Helper(); r.Must(append(args, at...)...) }
	id := jsonOf[struct{ Arn, AccessKeyId, SecretAccessKey string }](r, "identity", "create", "ops", "--admin")
	if id.Arn != "arn:aws:iam::000000000000:user/ops" || !regexp.MustCompile(`^AKIA[A-Z2-7]{16}$`).MatchString(id.AccessKeyId) || len(id.SecretAccessKey) != 40 {
		t.Errorf("identity create: %+v", id)
	}
	key := jsonOf[keyJSON](r, "key", "create", "--alias", "alias/a")
	if key.State != "Enabled" || key.Origin != "AWS_KMS" || len(key.Versions) != 1 || !strings.HasSuffix(key.ARN, ":key/"+key.ID) {
		t.Errorf("key create: %+v", key)
	}
	state := func(want string, versions int) keyJSON {
		t.Helper()
		k := jsonOf[keyJSON](r, "key", "describe", "alias/a")
		if k.ID != key.ID || k.State != want || len(k.Versions) != versions || (k.Deletion != "") != (want == "PendingDeletion") {
			t.Errorf("key describe: %+v, want %s with %d versions", k, want, versions)
		}
		return k
	}
	do("key", "rotate", "alias/a")
	state("Enabled", 2)
	do("key", "disable", "alias/a")
	state("Disabled", 2)
	do("key", "enable", key.ID)
	do("key", "delete", key.ARN, "--days", "7", "--yes")
	state("PendingDeletion", 2)
	do("key", "delete", "alias/a", "--cancel")
	state("Disabled", 2)
	do("key", "enable", "alias/a")
	if all := jsonOf[[]keyJSON](r, "key", "list"); len(all) != 1 || all[0].ID != key.ID {
		t.Errorf("key list: %+v", all)
	}
	do("alias", "create", "alias/b", "alias/a")
	if all := jsonOf[[]aliasJSON](r, "alias", "list"); len(all) != 2 || all[0].Key != key.ID || all[1].Key != key.ID {
		t.Errorf("alias list: %+v", all)
	}
	grant := jsonOf[struct{ ID, Token string }](r, "grant", "create", "alias/a", "--grantee", id.Arn, "--operations", "Decrypt,Encrypt", "--name", "g")
	grants := jsonOf[[]struct {
		ID, Grantee string
		Operations  []string
	}](r, "grant", "list", "alias/a")
	if len(grants) != 1 || grants[0].ID != grant.ID || len(grant.Token) != 140 || grants[0].Grantee != id.Arn || strings.Join(grants[0].Operations, ",") != "Decrypt,Encrypt" {
		t.Errorf("grant list: %+v, made %+v", grants, grant)
	}
	for command, heading := range map[string]string{"key list": "KEY STATE ALIASES", "alias list": "ALIAS KEY", "grant list alias/a": "GRANT GRANTEE OPERATIONS", "identity list": "IDENTITY ACCESS KEY"} {
		out := r.Must(append(strings.Fields(command), at...)...)
		first, _, _ := strings.Cut(out, "\n")
		if !strings.HasPrefix(strings.Join(strings.Fields(first), " "), heading) || strings.Count(out, "\n") < 2 {
			t.Errorf("kmsfs %s prints\n%s", command, out)
		}
	}
	status := jsonOf[struct {
		State, Listen string
		Imports       bool
	}](r, "keystore", "status")
	if status.State != "unlocked" || !strings.HasPrefix(status.Listen, "127.0.0.1:") || !status.Imports {
		t.Errorf("keystore status: %+v", status)
	}
}

// TestListenNeedsTLS: an address that others reach is refused without a certificate, with the reason.
func TestListenNeedsTLS(t *testing.T) {
	r := &rig{mounttest.NewRig(t, mounttest.Options{})}
	r.Refused(exitUsage, []string{"0.0.0.0:0 can be reached from other hosts", "--tls-cert"}, append([]string{"keyd", "--keystore", r.Store, "--listen", "0.0.0.0:0"}, r.Secret...)...)
	r.Refused(exitUsage, []string{"belong together"}, append([]string{"keyd", "--keystore", r.Store, "--listen", "127.0.0.1:0", "--tls-cert", "x"}, r.Secret...)...)
	if _, err := os.Stat(r.Store); !os.IsNotExist(err) {
		t.Errorf("a refused command left a key store: %v", err)
	}
}

// TestPolicyEdit: what an editor leaves is stored if it is good and nobody was faster, and is never lost.
func TestPolicyEdit(t *testing.T) {
	r := keyRig(t)
	r.Must("key", "create", "--alias", "alias/a")
	env := r.Env
	policy := func() string { t.Helper(); return r.Must("key", "policy", "get", "alias/a") }
	edit := func(editor string) mounttest.Result {
		r.Env = append(append([]string{}, env...), "TMPDIR="+r.Dir, "VISUAL=", "EDITOR="+editor)
		defer func() { r.Env = env }()
		return r.Run("key", "policy", "edit", "alias/a")
	}
	left := func() []string {
		files, _ := filepath.Glob(filepath.Join(r.Dir, "kmsfs-policy-*"))
		return files
	}
	before := policy()
	if res := edit("true"); res.Code != 0 || !strings.Contains(res.Err, "nothing was changed") || policy() != before || len(left()) != 0 {
		t.Errorf("unchanged: %s, left %v", res, left())
	}
	if res := edit(`sed -i s/Enable/Edited/`); res.Code != 0 || policy() != strings.Replace(before, "Enable", "Edited", 1) || len(left()) != 0 {
		t.Errorf("a good policy: %s\n%s, left %v", res, policy(), left())
	}
	good := policy()
	for name, c := range map[string]struct{ editor, says string }{
		"malformed":  {`sh -c 'printf "{\"Version\":\n1" >"$1"' sh`, "line 2"},
		"lockout":    {`sh -c 'echo "{\"Version\":\"2012-10-17\",\"Statement\":[]}" >"$1"' sh`, "not stored"},
		"the editor": {"false", "editor false"},
		"somebody":   {`sh -c 'sed -i s/Edited/Mine/ "$1"; ` + mounttest.Program(t) + ` key policy put alias/a ` + filepath.Join(r.Dir, "theirs") + `' sh`, "changed by somebody else"},
	} {
		write(t, filepath.Join(r.Dir, "theirs"), []byte(strings.Replace(good, "Edited", "Theirs", 1)))
		res := edit(c.editor)
		files := left()
		if res.Code == 0 || !strings.Contains(res.Err, c.says) || len(files) != 1 || !strings.Contains(res.Err, files[0]) {
			t.Errorf("%s: %s, left %v", name, res, files)
		}
		if now := policy(); name != "somebody" && now != good && !strings.Contains(now, "Theirs") {
			t.Errorf("%s: the policy became %s", name, now)
		}
		for _, f := range files {
			_ = os.Remove(f)
		}
		r.Must("key", "policy", "put", "alias/a", func() string {
			f := filepath.Join(r.Dir, "good")
			write(t, f, []byte(good))
			return f
		}())
	}
}
