package e2e

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type identityJSON struct {
	Name, ARN, Role string
	AccessKeyID     string `json:"access_key_id"`
	Admin, Disabled bool
	Policies        []string
	UIDs            []uint32
}

// TestIdentityCommands goes through the commands on identities, and sees what each of them does to who signs.
func TestIdentityCommands(t *testing.T) {
	r := keyRig(t)
	at := []string{"--keystore", r.Store}
	do := func(args ...string) string { t.Helper(); return r.Must(append(args, at...)...) }
	refused := func(code int, words []string, args ...string) {
		t.Helper()
		r.Refused(code, words, append(args, at...)...)
	}
	identities := func() map[string]identityJSON {
		t.Helper()
		all := map[string]identityJSON{}
		for _, i := range jsonOf[[]identityJSON](r, "identity", "list") {
			all[i.Name] = i
		}
		return all
	}
	do("key", "create", "--alias", "alias/a")
	arn := jsonOf[keyJSON](r, "key", "describe", "alias/a").ARN
	files := map[string]string{"admin": r.identity("root2", "--admin"), "mere": r.identity("mere")}
	for _, role := range []string{"key-admin", "operator", "user", "auditor"} {
		files[role] = r.identity("the-"+role, "--role", role)
	}
	if got := identities(); len(got) != 6 || !got["root2"].Admin || got["the-auditor"].Role != "auditor" || got["mere"].Role != "" || got["mere"].Admin {
		t.Errorf("identity list: %+v", got)
	}
	refused(exitExists, nil, "identity", "create", "mere")
	refused(exitUsage, []string{"--role or --admin"}, "identity", "create", "x", "--admin", "--role", "user")
	refused(exitUsage, []string{"the roles are"}, "identity", "create", "x", "--role", "emperor")
	refused(exitUsage, nil, "identity", "create", "a/b")
	refused(exitNotFound, nil, "identity", "disable", "nobody")

	// A role is what one may do: describe, disable, create.
	for who, may := range map[string][3]bool{"admin": {true, true, true}, "key-admin": {true, true, true}, "operator": {true, false, false}, "user": {true, false, false}, "auditor": {true, false, false}, "mere": {}} {
		for i, args := range [][]string{{"key", "describe", arn}, {"key", "disable", arn}, {"key", "create"}} {
			res := r.Run(append(append(args, "--identity", files[who]), at...)...)
			if allowed := res.Code == 0; allowed != may[i] || !allowed && res.Code != exitKeyRefused {
				t.Errorf("%s: kmsfs %s: %s, want allowed %v", who, strings.Join(args, " "), res, may[i])
			}
			do("key", "enable", arn)
		}
	}

	// What is not the owner's is not administered.
	for _, args := range [][]string{{"approval", "off"}, {"break-glass", "close"}} {
		refused(exitKeyRefused, []string{"owner of the key store alone"}, append(args, "--identity", files["admin"])...)
	}

	// Policies of one's own.
	look := r.secretFile("look", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:DescribeKey","Resource":"*"}}`)
	do("identity", "policy", "put", "mere", "looks", look)
	do("key", "describe", arn, "--identity", files["mere"])
	if got := do("identity", "policy", "get", "mere", "looks"); !strings.Contains(got, "kms:DescribeKey") {
		t.Errorf("identity policy get: %s", got)
	}
	refused(22, nil, "identity", "policy", "put", "mere", "bad", r.secretFile("bad", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:Fly","Resource":"*"}}`))
	refused(exitNotFound, nil, "identity", "policy", "get", "mere", "none")
	do("identity", "policy", "rm", "mere", "looks")
	refused(exitKeyRefused, nil, "key", "describe", arn, "--identity", files["mere"])

	do("identity", "map", "uid:4711", "mere")
	refused(exitExists, []string{"mapped to mere"}, "identity", "map", "uid:4711", "root2")
	if got := identities()["mere"].UIDs; len(got) != 1 || got[0] != 4711 {
		t.Errorf("mapped: %v", got)
	}
	do("identity", "map", "uid:4711", "mere", "--remove")

	// A key that was changed, switched off or deleted is good for nothing.
	const invalid = "security token"
	fresh := r.secretFile("fresh", do("identity", "rotate-key", "the-auditor", "--json"))
	refused(exitOther, []string{invalid}, "key", "describe", arn, "--identity", files["auditor"])
	do("key", "describe", arn, "--identity", fresh)
	do("identity", "disable", "the-auditor")
	refused(exitOther, []string{invalid}, "key", "describe", arn, "--identity", fresh)
	if !identities()["the-auditor"].Disabled {
		t.Error("identity list does not say that it is disabled")
	}
	do("identity", "enable", "the-auditor")
	do("key", "describe", arn, "--identity", fresh)
	do("identity", "delete", "the-auditor")
	refused(exitOther, []string{invalid}, "key", "describe", arn, "--identity", fresh)
	refused(exitExists, []string{"or did"}, "identity", "create", "the-auditor")

	r.keyToFile(t, arn)
	if err := os.Chmod(files["admin"], 0o644); err != nil {
		t.Fatal(err)
	}
	refused(exitNoSecret, []string{"chmod 600"}, "key", "describe", arn, "--identity", files["admin"])
	if log := do("audit", "query", "--json"); strings.Contains(log, "SecretAccessKey") {
		t.Error("the audit log has a secret")
	}
}

// keyToFile sees --out: the key is in a new file of its owner's alone, works, and is printed nowhere; a file that is there stays, and no identity is made.
func (r *rig) keyToFile(t *testing.T, key string) {
	t.Helper()
	at := []string{"--keystore", r.Store}
	file := filepath.Join(r.Dir, "written.json")
	secretOf := func() string {
		t.Helper()
		var k struct{ Arn, AccessKeyId, SecretAccessKey string }
		st, err := os.Stat(file)
		if err != nil || st.Mode() != 0o600 {
			t.Fatalf("the file of the access key: %v, %v", st, err)
		}
		raw, err := os.ReadFile(file)
		if err := errors.Join(err, json.Unmarshal(raw, &k)); err != nil || len(k.SecretAccessKey) != 40 {
			t.Fatalf("the file of the access key: %+v, %v", k, err)
		}
		return k.SecretAccessKey
	}
	printed := r.Must(append([]string{"identity", "create", "written", "--admin", "--out", file}, at...)...)
	if secret := secretOf(); strings.Contains(printed, secret) || !strings.Contains(printed, file) {
		t.Errorf("identity create --out prints\n%s", printed)
	}
	r.Must(append([]string{"key", "describe", key, "--identity", file}, at...)...)
	was := secretOf()
	r.Refused(exitExists, []string{"not there yet"}, append([]string{"identity", "create", "unmade", "--out", file}, at...)...)
	r.Refused(exitExists, []string{"not there yet"}, append([]string{"identity", "rotate-key", "written", "--out", file}, at...)...)
	r.Must(append([]string{"key", "describe", key, "--identity", file}, at...)...)
	if all := r.Must(append([]string{"identity", "list"}, at...)...); strings.Contains(all, "unmade") || secretOf() != was {
		t.Errorf("a file that was there, and\n%s", all)
	}
	second := filepath.Join(r.Dir, "second.json")
	r.Refused(exitExists, []string{"already"}, append([]string{"identity", "create", "written", "--out", second}, at...)...)
	if _, err := os.Lstat(second); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no key was made, and its file: %v", err)
	}
	out := jsonOf[struct{ Arn, AccessKeyId, SecretAccessKey, File string }](r, "identity", "rotate-key", "written", "--out", second)
	if out.File != second || out.AccessKeyId == "" || out.SecretAccessKey != "" {
		t.Errorf("identity rotate-key --out: %+v", out)
	}
	r.Must(append([]string{"key", "describe", key, "--identity", second}, at...)...)
}
