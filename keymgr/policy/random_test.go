package policy_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// random makes requests and policies over small alphabets. What it puts into a policy is taken from the request more often than not, so that statements apply.
type random struct{ *rand.Rand }

func newRandom(seed uint64) random { return random{rand.New(rand.NewPCG(seed, 1))} }

func (r random) chance(percent int) bool { return r.IntN(100) < percent }

func pick[T any](r random, from ...T) T { return from[r.IntN(len(from))] }

// some picks between min and max of them, without repetition.
func some[T any](r random, min, max int, from ...T) []T {
	r.Shuffle(len(from), func(i, j int) { from[i], from[j] = from[j], from[i] })
	return from[:min+r.IntN(max-min+1)]
}

var (
	allActions   = []string{"kms:Decrypt", "kms:Encrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:DescribeKey", "kmsfs:Read"}
	allResources = []string{keyOne, keyTwo, "arn:aws:kms:local:000000000000:alias/alice", ""}
	allNames     = []string{iam + "root", acct, iam + "user/alice", iam + "user/staff/bob", iam + "role/backup", iam + "role/ops/backup",
		"arn:aws:sts::000000000000:assumed-role/backup/nightly", iam + "unix/user/alice", iam + "unix/user/bob", iam + "unix/group/finance",
		iam + "unix/group/dev", foreign, "arn:aws:iam::111122223333:unix/group/dev"}
	somebody = []string{"arn:aws:iam::000000000000:user/alice", iam + "unix/user/alice", "arn:aws:iam::000000000000:role/backup"}
)

// caller picks who asks.
func (r random) caller(f *flat) {
	f.account = acct
	switch r.IntN(10) {
	case 0:
		f.arn, f.userID = iam+"user/alice", "AIDAALICE"
	case 1:
		f.arn = iam + "user/staff/bob"
	case 2:
		f.arn = iam + "root"
	case 3:
		f.arn = "arn:aws:sts::000000000000:assumed-role/backup/nightly"
	case 4:
		f.account, f.service = "", "kmsfs.local.amazonaws.com"
	case 5:
		f.account = ""
		if r.chance(50) {
			f.account, f.arn = foreign, "arn:aws:iam::111122223333:user/alice"
		}
	default:
		f.unix = true
		f.user = pick(r, "alice", "bob")
		f.arn = iam + "unix/user/" + f.user
		f.uid = pick[int64](r, 0, 1000, 1001)
		f.groups = some(r, 0, 2, "finance", "dev")
		f.lostGroups = r.chance(20)
		f.root = r.chance(15)
		if r.chance(15) {
			f.user, f.arn, f.lostUser = "", iam+"unix/user/1000", true
		}
		if r.chance(15) {
			f.arn = iam + "user/alice" // mapped
		}
	}
}

// valuesOf is the alphabet of each settable key.
var valuesOf = map[string][]string{
	"kms:ViaService":                     {"a.local", "b.local", "A.local"},
	"aws:UserAgent":                      {"", "x", "X", "x*", "xyz"},
	"aws:SourceIp":                       {"10.0.0.1", "10.9.0.1", "192.168.1.1", "::1"},
	"aws:SecureTransport":                {"true", "false"},
	"kms:BypassPolicyLockoutSafetyCheck": {"true", "false"},
	"kms:RotationPeriodInDays":           {"90", "100", "365"},
	"kms:ValidTo":                        {"1700000000", "1800000000"},
	"kms:GranteePrincipal":               {iam + "user/alice", iam + "unix/user/bob", "not an arn"},
	"kms:GrantOperations":                {"Encrypt", "Decrypt", "CreateGrant"},
	"kms:ResourceAliases":                {"alias/a", "alias/b", "alias/prod-a"},
	"kmsfs:Program":                      {"/bin/a", "/bin/b"},
	"kmsfs:ProgramSha256":                {strings.Repeat("ab", 32), strings.Repeat("cd", 32)},
	"kmsfs:Path":                         {"/a/x", "/a/y", "/b/x", "/home/alice/x"},
}

// derivedValues are those of keys that are read from the caller and the time, or belong to a family.
var derivedValues = map[string][]string{
	"aws:PrincipalArn":          {iam + "user/alice", iam + "role/backup", iam + "unix/user/alice", iam + "root"},
	"aws:PrincipalAccount":      {acct, foreign},
	"kms:CallerAccount":         {acct, foreign},
	"aws:PrincipalType":         {"User", "AssumedRole", "Account", "Anonymous"},
	"aws:username":              {"alice", "bob"},
	"aws:userid":                {"AIDAALICE", acct},
	"kmsfs:Uid":                 {"0", "1000", "1001"},
	"kmsfs:Groups":              {"finance", "dev"},
	"aws:CurrentTime":           {"1764000000", "2026-11-25", "2026-11", "2026-11-25T12:00:00Z", "2026-11-25T13:00:00+01:00"},
	"aws:EpochTime":             {"1764000000", "1795608000", "2026-11-25T12:00:00Z"},
	"kms:EncryptionContext:a":   {"1", "2", "alice"},
	"kms:EncryptionContext:A":   {"1", "2"},
	"kms:EncryptionContext:b":   {"1", "arn:aws:iam::000000000000:user/alice"},
	"kms:EncryptionContextKeys": {"a", "A", "b"},
	"aws:ResourceTag/Team":      {"x", "y"},
}

var severalValues = []string{"kms:GrantOperations", "kms:ResourceAliases", "kmsfs:Groups", "kms:EncryptionContextKeys"}

func isSeveral(key string) bool { return slices.Contains(severalValues, key) }

// sortedKeys: maps have no order, and the same seed must give the same case.
func sortedKeys(m map[string][]string) []string { return slices.Sorted(maps.Keys(m)) }

// request makes a request.
func (r random) request() *flat {
	f := &flat{values: map[string][]string{}, lost: map[string]bool{}, defaulted: map[string]bool{}}
	r.caller(f)
	f.action = pick(r, allActions...)
	f.resource = pick(r, allResources...)
	f.seconds = pick[int64](r, 0, 1795608000, 1764000000, 1795608001)
	for _, key := range sortedKeys(valuesOf) {
		if r.chance(70) {
			n := 1
			if isSeveral(key) || key == "kmsfs:Path" && r.chance(30) {
				n = 2
			}
			f.values[key] = some(r, min(1, 3-n), n, append([]string(nil), valuesOf[key]...)...)
			if kindOf(key) == "bool" && r.chance(30) {
				f.defaulted[key] = true
			}
		}
		if r.chance(5) {
			f.lost[key] = true
		}
	}
	if r.chance(70) {
		f.context = map[string]string{}
		for _, name := range some(r, 0, 3, "a", "A", "b") {
			f.context[name] = pick(r, derivedValues["kms:EncryptionContext:"+name]...)
		}
	}
	if r.chance(50) {
		f.tags = map[string]string{pick(r, "Team", "team"): pick(r, "x", "y")}
	}
	return f
}

// statements makes the statements of a policy that suits the request.
func (r random) statements(f *flat, identity bool) []any {
	var list []any
	for range 1 + r.IntN(4) {
		list = append(list, r.statement(f, identity))
	}
	return list
}

func (r random) statement(f *flat, identity bool) map[string]any {
	s := map[string]any{"Effect": "Allow"}
	if r.chance(22) {
		s["Effect"] = "Deny"
	}
	program := r.conditions(s, f)
	if !identity {
		r.principals(s, f, program)
	}
	r.actions(s, f)
	if resource := r.resource(f); r.chance(90) || resource == "*" {
		s["Resource"] = r.oneOrList(resource, r.resource(f))
	} else {
		s["NotResource"] = strings.ReplaceAll(resource, "${aws:username}", "*")
	}
	if !identity && r.chance(2) {
		delete(s, "Resource")
	}
	return s
}

// oneOrList is the first, or both.
func (r random) oneOrList(first, second string) any {
	if r.chance(30) {
		return []any{first, second}
	}
	return first
}

func (r random) principals(s map[string]any, f *flat, program bool) {
	if s["Effect"] == "Allow" && program {
		s["Principal"] = map[string]any{"AWS": r.oneOrList(pick(r, somebody...), iam+"unix/group/dev")}
		return
	}
	if s["Effect"] == "Allow" && r.chance(40) || r.chance(15) {
		s["Principal"] = pick[any](r, "*", map[string]any{"AWS": "*"}, map[string]any{"AWS": []any{"*", acct}})
		return
	}
	name := pick(r, allNames...)
	if r.chance(50) && f.account == acct {
		name = pick(r, acct, iam+"root", strings.Replace(f.arn, "arn:aws:sts::000000000000:assumed-role/backup/nightly", iam+"role/backup", 1))
	}
	who := map[string]any{"AWS": r.oneOrList(name, pick(r, allNames...))}
	if r.chance(15) {
		who["Service"] = "kmsfs.local.amazonaws.com"
	}
	if s["Effect"] == "Deny" && r.chance(30) {
		s["NotPrincipal"] = who
		return
	}
	s["Principal"] = who
}

func (r random) actions(s map[string]any, f *flat) {
	a := pick(r, "kms:*", "*", "kms:*crypt", "kms:ReEncrypt*", "kms:?ecrypt", "KMS:DECRYPT", "kmsfs:*", "*:*Re*")
	if r.chance(50) {
		a = f.action
	}
	if r.chance(10) && a != "*" {
		s["NotAction"] = r.oneOrList(a, pick(r, allActions...))
		return
	}
	s["Action"] = r.oneOrList(a, pick(r, allActions...))
}

func (r random) resource(f *flat) string {
	if r.chance(60) {
		return "*"
	}
	if r.chance(50) && f.resource != "" {
		return f.resource
	}
	return pick(r, keyOne, keyTwo, "arn:aws:kms:*:*:key/*", "arn:aws:kms:local:*:key/1*", "arn:aws:kms:local:00000000000?:*",
		"arn:*:key/*:*:*:*", "arn:aws:kms:local:000000000000:alias/${aws:username}")
}

// conditions adds up to three conditions and reports whether one is about the program.
func (r random) conditions(s map[string]any, f *flat) (program bool) {
	block := map[string]any{}
	for range pick(r, 0, 0, 0, 1, 1, 1, 2, 3) {
		key := pick(r, append(sortedKeys(valuesOf), sortedKeys(derivedValues)...)...)
		op := r.operator(key)
		keys, ok := block[op].(map[string]any)
		if !ok {
			keys = map[string]any{}
			block[op] = keys
		}
		clash := false
		for k := range keys {
			clash = clash || strings.EqualFold(k, key)
		}
		if clash {
			continue
		}
		first, second := r.wanted(op, key, f), r.wanted(op, key, f)
		keys[key] = r.oneOrList(first, second)
		program = program || strings.HasPrefix(key, "kmsfs:Program") || strings.Contains(first+second, "kmsfs:Program")
	}
	if len(block) > 0 {
		s["Condition"] = block
	}
	return program
}

// operator picks one that takes the key.
func (r random) operator(key string) string {
	if r.chance(8) {
		return "Null"
	}
	var ops []string
	strs := []string{"StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "StringLike", "StringNotLike"}
	comparisons := []string{"Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals"}
	switch kind := kindOf(key); kind {
	case "bool":
		ops = []string{"Bool"}
	case "ip":
		ops = []string{"IpAddress", "NotIpAddress"}
	case "number", "date", "epoch":
		for _, c := range comparisons {
			if kind != "date" {
				ops = append(ops, "Numeric"+c)
			}
			if kind != "number" {
				ops = append(ops, "Date"+c)
			}
		}
	case "digest":
		ops = append(strs, "BinaryEquals")
	default:
		ops = append(strs, "ArnEquals", "ArnNotEquals", "ArnLike", "ArnNotLike")
		if key != "aws:PrincipalArn" && key != "kms:GranteePrincipal" {
			ops = append(ops, "BinaryEquals")
		}
	}
	op := pick(r, ops...)
	if r.chance(20) {
		op += "IfExists"
	}
	family := strings.HasPrefix(key, "kms:EncryptionContext:") || strings.HasPrefix(key, "aws:ResourceTag/")
	switch {
	case isSeveral(key) && r.chance(50), !family && r.chance(7):
		return "ForAllValues:" + op
	case isSeveral(key), r.chance(15):
		return "ForAnyValue:" + op
	}
	return op
}

// wanted makes a value for the operator and key.
func (r random) wanted(op, key string, f *flat) string {
	pool := append(append([]string(nil), valuesOf[key]...), derivedValues[key]...)
	v := pick(r, pool...)
	if now := f.everything()[strings.ToLower(key)]; len(now.values) > 0 && r.chance(55) {
		v = pick(r, now.values...)
	}
	switch {
	case op == "Null":
		return pick(r, "true", "false", "false")
	case strings.Contains(op, "Binary"):
		if kindOf(key) == "digest" {
			raw, _ := hex.DecodeString(v)
			return base64.StdEncoding.EncodeToString(raw)
		}
		return base64.StdEncoding.EncodeToString([]byte(v))
	case strings.Contains(op, "IpAddress"):
		return pick(r, v, "10.0.0.0/8", "10.0.0.0/16", "192.168.1.0/24", "::/0", "0.0.0.0/0")
	case strings.Contains(op, "Numeric"):
		if strings.Contains(v, "-") {
			return "1795608000"
		}
		return v
	case strings.Contains(op, "Arn"):
		if strings.Count(v, ":") < 5 {
			v = iam + "user/alice"
		}
		return pick(r, v, v, "arn:aws:iam::*:user/*", "arn:aws:*:*:*:*", "*:*:*:*:*:*alice", iam+"unix/user/${aws:username}",
			"arn:aws:iam::${aws:PrincipalAccount}:user/${aws:username, 'alice'}")
	case strings.Contains(op, "String"):
		return r.wantedText(op, key, v)
	}
	return v
}

func (r random) wantedText(op, key, v string) string {
	if kindOf(key) == "digest" {
		if strings.Contains(op, "Like") {
			v = pick(r, v, "AB*", "*cd", "?b*")
		}
		return pick(r, v, strings.ToUpper(v))
	}
	if r.chance(12) {
		return pick(r, "${aws:username}", "${aws:UserAgent}", "${aws:username, 'alice'}", "${kms:EncryptionContext:a}", "${kmsfs:Program}",
			"x${*}", "${aws:userid}", "${kmsfs:Uid}", "${kmsfs:Path}", "a${aws:UserAgent}b")
	}
	if strings.Contains(op, "Like") && v != "" {
		cut := r.IntN(len(v))
		return pick(r, v[:cut]+"*", "*"+v[cut:], v[:cut]+"?"+v[cut+1:], "*", v)
	}
	if strings.Contains(op, "IgnoreCase") {
		return pick(r, v, strings.ToUpper(v))
	}
	return v
}

// describe shows a case that failed.
func describe(f *flat, documents ...[]byte) string {
	s := fmt.Sprintf("request %+v\n", *f)
	for _, d := range documents {
		s += string(d) + "\n"
	}
	return s
}
