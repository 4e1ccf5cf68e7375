package policy_test

import (
	"fmt"
	"testing"

	"github.com/kmsfs/kmsfs/keymgr/policy"
)

// whoCases: what an Allow and a Deny for a principal do to a caller.
var whoCases = []struct {
	name      string
	principal string
	caller    policy.Principal
	allow     string // of an Allow; "" if the document is not tried with Allow
	deny      string // of a Deny
}{
	{"everybody: a user", `"*"`, alice, "allow", "deny"},
	{"everybody: a foreign user", `"*"`, stranger, "allow", "deny"},
	{"everybody: a nameless caller", `"*"`, nobody, "allow", "deny"},
	{"everybody: a user of the host", `"*"`, unixBob, "allow", "deny"},
	{"everybody: a service", `"*"`, service, "allow", "deny"},
	{"AWS *: a user", `{"AWS": "*"}`, alice, "allow", "deny"},
	{"AWS list with *", `{"AWS": ["arn:aws:iam::000000000000:user/x", "*"]}`, alice, "allow", "deny"},

	{"user: itself", `{"AWS": "arn:aws:iam::000000000000:user/alice"}`, alice, "allow", "deny"},
	{"user: another", `{"AWS": "arn:aws:iam::000000000000:user/alice"}`, bob, "none", "none"},
	{"user: case matters", `{"AWS": "arn:aws:iam::000000000000:user/Alice"}`, alice, "none", "none"},
	{"user: same name, other account", `{"AWS": "arn:aws:iam::000000000000:user/alice"}`, stranger, "none", "none"},
	{"user: same name on the host", `{"AWS": "arn:aws:iam::000000000000:user/alice"}`, unixAlice, "none", "none"},
	{"user: path is part of it", `{"AWS": "arn:aws:iam::000000000000:user/staff/bob"}`, bob, "allow", "deny"},
	{"user: path left out", `{"AWS": "arn:aws:iam::000000000000:user/bob"}`, bob, "none", "none"},
	{"user: root is not every user", `{"AWS": "arn:aws:iam::000000000000:user/alice"}`, root, "none", "none"},
	{"user: second in a list", `{"AWS": ["arn:aws:iam::000000000000:user/bob", "arn:aws:iam::000000000000:user/alice"]}`, alice, "allow", "deny"},
	{"user: nameless caller", `{"AWS": "arn:aws:iam::000000000000:user/alice"}`, nobody, "none", "none"},
	{"foreign user: itself", `{"AWS": "arn:aws:iam::111122223333:user/alice"}`, stranger, "allow", "deny"},

	{"account: a user", `{"AWS": "arn:aws:iam::000000000000:root"}`, alice, "delegate", "deny"},
	{"account by number: a user", `{"AWS": "000000000000"}`, alice, "delegate", "deny"},
	{"account: a session", `{"AWS": "000000000000"}`, session, "delegate", "deny"},
	{"account: a user of the host", `{"AWS": "000000000000"}`, unixBob, "delegate", "deny"},
	{"account: its root", `{"AWS": "arn:aws:iam::000000000000:root"}`, root, "allow", "deny"},
	{"account by number: its root", `{"AWS": "000000000000"}`, root, "allow", "deny"},
	{"account: the owner under another name", `{"AWS": "000000000000"}`, owner, "allow", "deny"},
	{"account: another account's user", `{"AWS": "000000000000"}`, stranger, "none", "none"},
	{"account: nameless caller", `{"AWS": "000000000000"}`, nobody, "none", "none"},
	{"account: a service", `{"AWS": "000000000000"}`, service, "none", "none"},
	{"account and user in one list", `{"AWS": ["000000000000", "arn:aws:iam::000000000000:user/alice"]}`, alice, "allow", "deny"},
	{"foreign account: own user", `{"AWS": "111122223333"}`, alice, "none", "none"},

	{"role: its session", `{"AWS": "arn:aws:iam::000000000000:role/backup"}`, session, "allow", "deny"},
	{"role with path: its session", `{"AWS": "arn:aws:iam::000000000000:role/ops/backup"}`, session, "allow", "deny"},
	{"role: another role's session", `{"AWS": "arn:aws:iam::000000000000:role/restore"}`, session, "none", "none"},
	{"role: a session whose name is the role's", `{"AWS": "arn:aws:iam::000000000000:role/nightly"}`, session, "none", "none"},
	{"role: a user of that name", `{"AWS": "arn:aws:iam::000000000000:role/alice"}`, alice, "none", "none"},
	{"session: itself", `{"AWS": "arn:aws:sts::000000000000:assumed-role/backup/nightly"}`, session, "allow", "deny"},
	{"session: another of the role", `{"AWS": "arn:aws:sts::000000000000:assumed-role/backup/weekly"}`, session, "none", "none"},
	{"role of a foreign account", `{"AWS": "arn:aws:iam::111122223333:role/backup"}`, session, "none", "none"},

	{"unix user: itself", `{"AWS": "arn:aws:iam::000000000000:unix/user/alice"}`, unixAlice, "allow", "deny"},
	{"unix user: another", `{"AWS": "arn:aws:iam::000000000000:unix/user/alice"}`, unixBob, "none", "none"},
	{"unix user: the API user of that name", `{"AWS": "arn:aws:iam::000000000000:unix/user/alice"}`, alice, "none", "none"},
	{"unix user: behind a mapped identity", `{"AWS": "arn:aws:iam::000000000000:unix/user/carol"}`, mapped, "allow", "deny"},
	{"identity: mapped from a unix user", `{"AWS": "arn:aws:iam::000000000000:user/carol"}`, mapped, "allow", "deny"},
	{"unix user: other account", `{"AWS": "arn:aws:iam::111122223333:unix/user/alice"}`, unixAlice, "none", "none"},
	{"unix user: case matters", `{"AWS": "arn:aws:iam::000000000000:unix/user/ALICE"}`, unixAlice, "none", "none"},
	{"unix group: member", `{"AWS": "arn:aws:iam::000000000000:unix/group/finance"}`, unixAlice, "allow", "deny"},
	{"unix group: not a member", `{"AWS": "arn:aws:iam::000000000000:unix/group/finance"}`, unixBob, "none", "none"},
	{"unix group: name of a user only", `{"AWS": "arn:aws:iam::000000000000:unix/group/alice"}`, alice, "none", "none"},
	{"unix group: a mapped identity", `{"AWS": "arn:aws:iam::000000000000:unix/group/dev"}`, mapped, "allow", "deny"},
	{"unix group: nameless caller", `{"AWS": "arn:aws:iam::000000000000:unix/group/finance"}`, nobody, "none", "none"},

	{"service: itself", `{"Service": "kmsfs.local.amazonaws.com"}`, service, "allow", "deny"},
	{"service: another", `{"Service": "s3.local.amazonaws.com"}`, service, "none", "none"},
	{"service: a user", `{"Service": "kmsfs.local.amazonaws.com"}`, alice, "none", "none"},
	{"service or user: the user", `{"Service": "kmsfs.local.amazonaws.com", "AWS": "arn:aws:iam::000000000000:user/alice"}`, alice, "allow", "deny"},

	{"unresolved groups: a group it may be in", `{"AWS": "arn:aws:iam::000000000000:unix/group/finance"}`, noGroups, "none", "deny"},
	{"unresolved groups: a group it is in", `{"AWS": "arn:aws:iam::000000000000:unix/group/dora"}`, noGroups, "allow", "deny"},
	{"unresolved groups: another user", `{"AWS": "arn:aws:iam::000000000000:unix/user/alice"}`, noGroups, "none", "none"},
	{"unresolved groups: itself", `{"AWS": "arn:aws:iam::000000000000:unix/user/dora"}`, noGroups, "allow", "deny"},
	{"unresolved groups: a foreign group", `{"AWS": "arn:aws:iam::111122223333:unix/group/finance"}`, noGroups, "none", "none"},
	{"unresolved user: a user it may be", `{"AWS": "arn:aws:iam::000000000000:unix/user/alice"}`, noName, "none", "deny"},
	{"unresolved user: a group it is in", `{"AWS": "arn:aws:iam::000000000000:unix/group/dev"}`, noName, "allow", "deny"},
	{"unresolved user: a group it is not in", `{"AWS": "arn:aws:iam::000000000000:unix/group/finance"}`, noName, "none", "none"},
	{"unresolved user: an API user", `{"AWS": "arn:aws:iam::000000000000:user/alice"}`, noName, "none", "none"},
	{"unresolved user: everybody", `"*"`, noName, "allow", "deny"},
	{"unresolved user: the account", `{"AWS": "000000000000"}`, noName, "delegate", "deny"},
}

func TestPrincipals(t *testing.T) {
	for _, c := range whoCases {
		t.Run(c.name, func(t *testing.T) {
			for effect, want := range map[string]string{"Allow": c.allow, "Deny": c.deny} {
				d := parse(t, policy.Rules{}, document(fmt.Sprintf(
					`{"Effect": %q, "Principal": %s, "Action": "kms:*", "Resource": "*"}`, effect, c.principal)))
				if got := outcome(d.Evaluate(request(by(c.caller)))); got != want {
					t.Errorf("%s for %s: %s, want %s", effect, c.principal, got, want)
				}
			}
		})
	}
}

// notCases: whom a Deny with NotPrincipal spares.
var notCases = []struct {
	name      string
	principal string
	caller    policy.Principal
	want      string
}{
	{"the named user", `{"AWS": "arn:aws:iam::000000000000:user/alice"}`, alice, "none"},
	{"another user", `{"AWS": "arn:aws:iam::000000000000:user/alice"}`, bob, "deny"},
	{"a nameless caller", `{"AWS": "arn:aws:iam::000000000000:user/alice"}`, nobody, "deny"},
	{"one of two", `{"AWS": ["arn:aws:iam::000000000000:user/staff/bob", "arn:aws:iam::000000000000:user/alice"]}`, alice, "none"},
	{"none of two", `{"AWS": ["arn:aws:iam::000000000000:user/staff/bob", "arn:aws:iam::000000000000:user/alice"]}`, session, "deny"},
	{"a session by its role", `{"AWS": "arn:aws:iam::000000000000:role/backup"}`, session, "none"},
	{"account: its root", `{"AWS": "arn:aws:iam::000000000000:root"}`, root, "none"},
	{"account: its users are not named", `{"AWS": "arn:aws:iam::000000000000:root"}`, alice, "deny"},
	{"account: the owner under another name", `{"AWS": "000000000000"}`, owner, "none"},
	{"a unix user", `{"AWS": "arn:aws:iam::000000000000:unix/user/alice"}`, unixAlice, "none"},
	{"another unix user", `{"AWS": "arn:aws:iam::000000000000:unix/user/alice"}`, unixBob, "deny"},
	{"a member of the group", `{"AWS": "arn:aws:iam::000000000000:unix/group/finance"}`, unixAlice, "none"},
	{"not a member of the group", `{"AWS": "arn:aws:iam::000000000000:unix/group/finance"}`, unixBob, "deny"},
	{"perhaps a member of the group", `{"AWS": "arn:aws:iam::000000000000:unix/group/finance"}`, noGroups, "deny"},
	{"perhaps the user", `{"AWS": "arn:aws:iam::000000000000:unix/user/alice"}`, noName, "deny"},
	{"certainly a member, perhaps the user", `{"AWS": ["arn:aws:iam::000000000000:unix/user/alice", "arn:aws:iam::000000000000:unix/group/dev"]}`, noName, "none"},
	{"the service", `{"Service": "kmsfs.local.amazonaws.com"}`, service, "none"},
	{"not the service", `{"Service": "kmsfs.local.amazonaws.com"}`, alice, "deny"},
}

func TestNotPrincipals(t *testing.T) {
	for _, c := range notCases {
		t.Run(c.name, func(t *testing.T) {
			d := parse(t, policy.Rules{}, document(fmt.Sprintf(
				`{"Effect": "Deny", "NotPrincipal": %s, "Action": "kms:*", "Resource": "*"}`, c.principal)))
			if got := outcome(d.Evaluate(request(by(c.caller)))); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// targetCases: which requests a statement is about.
var targetCases = []struct {
	name    string
	target  string // the elements Action and Resource of an Allow
	request option
	want    string
}{
	{"action: the same", `"Action": "kms:Decrypt", "Resource": "*"`, with(), "allow"},
	{"action: another", `"Action": "kms:Encrypt", "Resource": "*"`, with(), "none"},
	{"action: no case in the policy", `"Action": "KMS:decrypt", "Resource": "*"`, with(), "allow"},
	{"action: no case in the request", `"Action": "kms:Decrypt", "Resource": "*"`, action("kms:DECRYPT"), "allow"},
	{"action: everything", `"Action": "*", "Resource": "*"`, with(), "allow"},
	{"action: everything of every service", `"Action": "*:*", "Resource": "*"`, with(), "allow"},
	{"action: everything of kms", `"Action": "kms:*", "Resource": "*"`, with(), "allow"},
	{"action: kms is not kmsfs", `"Action": "kms:*", "Resource": "*"`, action("kmsfs:Read"), "none"},
	{"action: everything is kmsfs too", `"Action": "*", "Resource": "*"`, action("kmsfs:Read"), "allow"},
	{"action: one of kmsfs", `"Action": "kmsfs:Read", "Resource": "*"`, action("kmsfs:Read"), "allow"},
	{"action: prefix matches the family", `"Action": "kms:ReEncrypt*", "Resource": "*"`, action("kms:ReEncryptTo"), "allow"},
	{"action: prefix without the rest", `"Action": "kms:GenerateDataKey*", "Resource": "*"`, action("kms:GenerateDataKey"), "allow"},
	{"action: prefix with more", `"Action": "kms:GenerateDataKey*", "Resource": "*"`, action("kms:GenerateDataKeyWithoutPlaintext"), "allow"},
	{"action: without wildcard no prefix", `"Action": "kms:GenerateDataKey", "Resource": "*"`, action("kms:GenerateDataKeyWithoutPlaintext"), "none"},
	{"action: star in the middle", `"Action": "kms:*Key", "Resource": "*"`, action("kms:DescribeKey"), "allow"},
	{"action: star in the middle, other end", `"Action": "kms:*Key", "Resource": "*"`, action("kms:ListKeys"), "none"},
	{"action: two stars", `"Action": "kms:*Key*", "Resource": "*"`, action("kms:GetKeyPolicy"), "allow"},
	{"action: question marks", `"Action": "kms:??crypt", "Resource": "*"`, action("kms:Encrypt"), "allow"},
	{"action: question mark, another letter", `"Action": "kms:?ecrypt", "Resource": "*"`, action("kms:Encrypt"), "none"},
	{"action: second of a list", `"Action": ["kms:Encrypt", "kms:Decrypt"], "Resource": "*"`, with(), "allow"},
	{"action: none of a list", `"Action": ["kms:Encrypt", "kms:DescribeKey"], "Resource": "*"`, with(), "none"},
	{"action: missing has no effect", `"Resource": "*"`, with(), "none"},
	{"not action: another", `"NotAction": "kms:Encrypt", "Resource": "*"`, with(), "allow"},
	{"not action: the same", `"NotAction": "kms:Decrypt", "Resource": "*"`, with(), "none"},
	{"not action: no case", `"NotAction": "kms:DECRYPT", "Resource": "*"`, with(), "none"},
	{"not action: one of a list", `"NotAction": ["kms:Encrypt", "kms:Decrypt"], "Resource": "*"`, with(), "none"},
	{"not action: a pattern", `"NotAction": "kms:*crypt", "Resource": "*"`, with(), "none"},
	{"not action: other service", `"NotAction": "kms:*", "Resource": "*"`, action("kmsfs:Read"), "allow"},

	{"resource: everything", `"Action": "*", "Resource": "*"`, resource(""), "allow"},
	{"resource: the key", `"Action": "*", "Resource": "` + keyOne + `"`, with(), "allow"},
	{"resource: another key", `"Action": "*", "Resource": "` + keyTwo + `"`, with(), "none"},
	{"resource: one of a list", `"Action": "*", "Resource": ["` + keyTwo + `", "` + keyOne + `"]`, with(), "allow"},
	{"resource: case matters", `"Action": "*", "Resource": "arn:aws:kms:LOCAL:000000000000:key/*"`, with(), "none"},
	{"resource: all keys", `"Action": "*", "Resource": "arn:aws:kms:local:000000000000:key/*"`, with(), "allow"},
	{"resource: all keys, an alias", `"Action": "*", "Resource": "arn:aws:kms:local:000000000000:key/*"`, resource("arn:aws:kms:local:000000000000:alias/x"), "none"},
	{"resource: stars in fields", `"Action": "*", "Resource": "arn:aws:kms:*:*:key/1*"`, with(), "allow"},
	{"resource: a star stays in its field", `"Action": "*", "Resource": "arn:aws:kms:*:key/*:x:y"`, with(), "none"},
	{"resource: question marks", `"Action": "*", "Resource": "arn:aws:kms:loca?:000000000000:key/*"`, with(), "allow"},
	{"resource: none in the request", `"Action": "*", "Resource": "arn:aws:kms:*:*:*"`, resource(""), "none"},
	{"resource: missing has no effect", `"Action": "*"`, with(), "none"},
	{"not resource: another", `"Action": "*", "NotResource": "` + keyTwo + `"`, with(), "allow"},
	{"not resource: the same", `"Action": "*", "NotResource": "` + keyOne + `"`, with(), "none"},
	{"not resource: one of a list", `"Action": "*", "NotResource": ["` + keyOne + `", "` + keyTwo + `"]`, with(), "none"},
	{"not resource: none in the request", `"Action": "*", "NotResource": "arn:aws:kms:*:*:*"`, resource(""), "allow"},
	{"resource: a variable", `"Action": "*", "Resource": "arn:aws:kms:*:*:alias/${aws:username}-*"`, resource("arn:aws:kms:local:000000000000:alias/alice-home"), "allow"},
	{"resource: a variable with another value", `"Action": "*", "Resource": "arn:aws:kms:*:*:alias/${aws:username}-*"`, resource("arn:aws:kms:local:000000000000:alias/bob-home"), "none"},
	{"resource: a variable without value", `"Action": "*", "Resource": "arn:aws:kms:*:*:alias/${aws:username}*"`, with(by(session), resource("arn:aws:kms:local:000000000000:alias/")), "none"},
}

func TestTargets(t *testing.T) {
	for _, c := range targetCases {
		t.Run(c.name, func(t *testing.T) {
			d := parse(t, policy.Rules{}, document(`{"Effect": "Allow", "Principal": "*", `+c.target+`}`))
			if got := outcome(d.Evaluate(request(c.request))); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			if c.want == "delegate" {
				return
			}
			d = parse(t, policy.Rules{}, document(`{"Effect": "Deny", "Principal": "*", `+c.target+`}`))
			want := map[string]string{"allow": "deny", "none": "none"}[c.want]
			if got := outcome(d.Evaluate(request(c.request))); got != want {
				t.Errorf("as Deny: %s, want %s", got, want)
			}
		})
	}
}
