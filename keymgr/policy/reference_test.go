package policy_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"maps"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/policy"
)

// The reference: a second evaluator, written from the documentation and not from the first one. It works on decoded JSON, turns patterns into regular
// expressions, writes all values of a request into one flat map, and follows every possibility instead of a truth in between. It is slow and assumes
// that the document is valid.

// flat is a request as the reference sees it.
type flat struct {
	arn, account, service, userID string
	root                          bool
	unix                          bool
	uid                           int64
	user                          string
	groups                        []string
	lostUser, lostGroups          bool

	action, resource string
	seconds          int64 // 0: no time

	values    map[string][]string // of settable keys, by their usual names
	context   map[string]string   // encryption context; nil: none set
	tags      map[string]string   // of the resource
	lost      map[string]bool     // other values are possible
	defaulted map[string]bool
}

// request makes the request that the evaluator sees.
func (f *flat) request() policy.Request {
	r := policy.Request{Action: f.action, Resource: f.resource,
		Principal: policy.Principal{ARN: f.arn, Account: f.account, Service: f.service, UserID: f.userID, Root: f.root}}
	if f.unix {
		r.Principal.Unix = &policy.Unix{UID: uint32(f.uid), User: f.user, Groups: f.groups, UnresolvedUser: f.lostUser, UnresolvedGroups: f.lostGroups}
	}
	if f.seconds != 0 {
		r.Time = time.Unix(f.seconds, 5)
	}
	if f.context != nil {
		r.Context.EncryptionContext(f.context)
	}
	r.Context.ResourceTags(f.tags)
	for key, values := range f.values {
		switch kindOf(key) {
		case "bool":
			r.Context.Bool(key, values[0] == "true")
		case "number", "epoch":
			n, _ := strconv.ParseInt(values[0], 10, 64)
			r.Context.Number(key, n)
		case "ip":
			r.Context.Addr(key, netip.MustParseAddr(values[0]))
		case "digest":
			raw, _ := hex.DecodeString(values[0])
			r.Context.Digest(key, raw)
		default:
			r.Context.Text(key, values...)
		}
	}
	for key := range f.defaulted {
		r.Context.Defaulted(key)
	}
	for key := range f.lost {
		r.Context.Unknown(key)
	}
	return r
}

// kindOf is the type of a key, by its name.
func kindOf(key string) string {
	switch strings.ToLower(key) {
	case "aws:securetransport", "kms:bypasspolicylockoutsafetycheck", "kms:grantisforawsresource", "kms:multiregion", "kms:reencryptonsamekey":
		return "bool"
	case "kms:rotationperiodindays", "kms:schedulekeydeletionpendingwindowindays", "kmsfs:uid":
		return "number"
	case "kms:validto", "aws:epochtime":
		return "epoch"
	case "aws:currenttime":
		return "date"
	case "aws:sourceip":
		return "ip"
	case "kmsfs:programsha256":
		return "digest"
	}
	return "text"
}

// known is what the flat map holds about a key.
type known struct {
	values    []string
	more      bool // other values are possible
	defaulted bool
}

// everything writes down all keys, in lower case.
func (f *flat) everything() map[string]known {
	m := map[string]known{}
	put := func(key string, values ...string) {
		k := m[strings.ToLower(key)]
		k.values = append(k.values, values...)
		m[strings.ToLower(key)] = k
	}
	for key, values := range f.values {
		put(key, values...)
	}
	for _, name := range slices.Sorted(maps.Keys(f.context)) { // the order matters to random, which picks from the values
		put("kms:EncryptionContext:"+name, f.context[name])
		put("kms:EncryptionContextKeys", name)
	}
	for name, v := range f.tags {
		put("aws:ResourceTag/"+name, v)
	}
	for key := range f.defaulted {
		k := m[strings.ToLower(key)]
		k.defaulted = true
		m[strings.ToLower(key)] = k
	}
	for key := range f.lost {
		k := m[strings.ToLower(key)]
		k.more = true
		if !slices.Contains([]string{"kms:GrantOperations", "kms:ResourceAliases", "kmsfs:Path"}, key) {
			k.values = nil
		}
		m[strings.ToLower(key)] = k
	}
	f.identity(m)
	if f.seconds != 0 {
		m["aws:epochtime"] = known{values: []string{strconv.FormatInt(f.seconds, 10)}}
		m["aws:currenttime"] = known{values: []string{time.Unix(f.seconds, 0).UTC().Format("2006-01-02T15:04:05Z")}}
	}
	return m
}

var (
	sessionARN  = regexp.MustCompile(`^arn:aws:sts::(\d+):assumed-role/([^/]+)/[^/]+$`)
	usernameARN = regexp.MustCompile(`^arn:aws:iam::\d+:(?:unix/)?user/(?:.*/)?([^/]+)$`)
)

// identity adds the keys that describe the caller.
func (f *flat) identity(m map[string]known) {
	if f.account != "" {
		m["kms:calleraccount"] = known{values: []string{f.account}}
		m["aws:principalaccount"] = known{values: []string{f.account}}
	}
	if f.arn != "" {
		m["aws:principalarn"] = known{values: []string{sessionARN.ReplaceAllString(f.arn, "arn:aws:iam::$1:role/$2")}}
	}
	if name := usernameARN.FindStringSubmatch(f.arn); name != nil {
		m["aws:username"] = known{values: []string{name[1]}}
	}
	if f.userID != "" {
		m["aws:userid"] = known{values: []string{f.userID}}
	} else if f.isRoot() {
		m["aws:userid"] = known{values: []string{f.account}}
	}
	if f.unix {
		m["kmsfs:uid"] = known{values: []string{strconv.FormatInt(f.uid, 10)}}
		m["kmsfs:groups"] = known{values: f.groups, more: f.lostGroups}
		if f.lostUser {
			m["aws:principalarn"] = known{more: true}
			m["aws:username"] = known{more: true}
		}
	}
	kind := ""
	switch {
	case f.isRoot():
		kind = "Account"
	case usernameARN.MatchString(f.arn):
		kind = "User"
	case strings.Contains(f.arn, ":assumed-role/"), strings.Contains(f.arn, ":role/"):
		kind = "AssumedRole"
	case f.arn == "" && f.service == "":
		kind = "Anonymous"
	}
	if kind != "" {
		m["aws:principaltype"] = known{values: []string{kind}}
	}
}

func (f *flat) isRoot() bool {
	return f.account != "" && (f.root || f.arn == "arn:aws:iam::"+f.account+":root")
}

// possible is the set of answers that the unknown leaves open.
type possible map[bool]bool

func sure(b bool) possible { return possible{b: true} }

var either = possible{true: true, false: true}

// each applies f to all combinations.
func each(a, b possible, f func(x, y bool) bool) possible {
	out := possible{}
	for x := range a {
		for y := range b {
			out[f(x, y)] = true
		}
	}
	return out
}

func and(x, y bool) bool { return x && y }
func or(x, y bool) bool  { return x || y }

func negate(a possible) possible { return each(a, sure(true), func(x, _ bool) bool { return !x }) }

// verdict is what one document says.
type verdict struct {
	word      string // allow, deny, delegate, none
	statement int
	unsure    bool
}

// judge is the reference for Document.Evaluate. statements is the decoded Statement, identity whether it is an identity policy.
func judge(statements []map[string]any, identity bool, f *flat) verdict {
	var found []verdict
	for i, s := range statements {
		applies := possible{}
		direct, account := possible{true: true}, possible{false: true}
		if !identity {
			direct, account = f.who(s)
		}
		rest := f.target(s)
		for _, c := range flattenConditions(s) {
			rest = each(rest, f.condition(c, s["Effect"].(string)), and)
		}
		if s["Effect"] == "Deny" {
			applies = each(each(direct, account, or), rest, and)
			if _, not := s["NotPrincipal"]; not {
				applies = each(negate(direct), rest, and)
			}
			if applies[true] {
				found = append(found, verdict{"deny", i, applies[false]})
			}
			continue
		}
		if applies = each(direct, rest, and); !applies[false] {
			found = append(found, verdict{"allow", i, false})
		} else if applies = each(account, rest, and); !applies[false] {
			found = append(found, verdict{"delegate", i, false})
		}
	}
	for _, word := range []string{"deny", "allow", "delegate"} {
		for _, v := range found {
			if v.word == word {
				return v
			}
		}
	}
	return verdict{"none", -1, false}
}

// list makes a list of what may be one or a list.
func list(v any) []any {
	if l, ok := v.([]any); ok {
		return l
	}
	return []any{v}
}

// who says whether the statement's principals are the caller, or its account only.
func (f *flat) who(s map[string]any) (direct, account possible) {
	v, ok := s["Principal"]
	if !ok {
		v = s["NotPrincipal"]
	}
	if v == "*" {
		v = map[string]any{"AWS": "*"}
	}
	direct, account = sure(false), sure(false)
	for kind, names := range v.(map[string]any) {
		for _, n := range list(names) {
			name := n.(string)
			if kind == "Service" {
				direct = each(direct, sure(f.service == name), or)
				continue
			}
			direct = each(direct, f.is(name), or)
			account = each(account, sure(f.account != "" && (name == f.account || name == "arn:aws:iam::"+f.account+":root")), or)
		}
	}
	return direct, account
}

// is says whether the caller is the named principal.
func (f *flat) is(name string) possible {
	ours := "arn:aws:iam::" + f.account + ":"
	switch {
	case name == "*":
		return sure(true)
	case name == f.account && f.account != "", name == ours+"root":
		return sure(f.isRoot())
	case name == f.arn:
		return sure(true)
	case strings.HasPrefix(name, ours+"unix/user/") && f.unix:
		if f.user != "" && name == ours+"unix/user/"+f.user {
			return sure(true)
		}
		if f.lostUser {
			return either
		}
	case strings.HasPrefix(name, ours+"unix/group/") && f.unix:
		for _, g := range f.groups {
			if name == ours+"unix/group/"+g {
				return sure(true)
			}
		}
		if f.lostGroups {
			return either
		}
	case strings.HasPrefix(name, ours+"role/"):
		if m := sessionARN.FindStringSubmatch(f.arn); m != nil {
			return sure(strings.HasSuffix(name, "/"+m[2]))
		}
	}
	return sure(false)
}

// target says whether the statement is about the action and the resource.
func (f *flat) target(s map[string]any) possible {
	action, resource := sure(false), sure(false)
	actions, notAction := s["NotAction"]
	if !notAction {
		actions = s["Action"]
	}
	resources, notResource := s["NotResource"]
	if !notResource {
		resources = s["Resource"]
	}
	if actions == nil || resources == nil {
		return sure(false)
	}
	for _, a := range list(actions) {
		re := regexp.MustCompile(`(?is)^` + f.expression(a.(string), false, true, "2008").text + `$`)
		action = each(action, sure(re.MatchString(f.action)), or)
	}
	for _, r := range list(resources) {
		if r == "*" {
			resource = sure(true)
			continue
		}
		resource = each(resource, f.likeARN(r.(string), f.resource), or)
	}
	if notAction {
		action = negate(action)
	}
	if notResource {
		resource = negate(resource)
	}
	return each(action, resource, and)
}

// single is one operator with one key.
type single struct {
	operator, key string
	wanted        []string
}

func flattenConditions(s map[string]any) []single {
	var all []single
	block, _ := s["Condition"].(map[string]any)
	for op, keys := range block {
		for key, values := range keys.(map[string]any) {
			c := single{operator: op, key: strings.ToLower(key)}
			for _, v := range list(values) {
				switch v := v.(type) {
				case bool:
					c.wanted = append(c.wanted, strconv.FormatBool(v))
				case float64:
					c.wanted = append(c.wanted, strconv.FormatFloat(v, 'f', -1, 64))
				case string:
					c.wanted = append(c.wanted, v)
				}
			}
			all = append(all, c)
		}
	}
	return all
}

// condition decides one operator with one key.
func (f *flat) condition(c single, effect string) possible {
	k := f.everything()[c.key]
	set, op, found := strings.Cut(c.operator, ":")
	if !found {
		set, op = "", set
	}
	op, ifExists := strings.CutSuffix(op, "IfExists")
	if op == "Null" {
		return f.null(c, k)
	}
	negative := strings.Contains(op, "Not")
	fits := func(v string) possible {
		out := sure(false)
		for _, w := range c.wanted {
			out = each(out, f.compare(strings.Replace(op, "Not", "", 1), v, w, c.key), or)
		}
		if negative {
			return negate(out)
		}
		return out
	}
	if set == "" && len(k.values) == 0 {
		if k.more {
			return either
		}
		return sure(ifExists || negative)
	}
	if set == "ForAllValues" || set == "" && effect == "Allow" {
		out := sure(true)
		for _, v := range k.values {
			out = each(out, fits(v), and)
		}
		if k.more {
			out = each(out, either, and)
		}
		return out
	}
	out := sure(false)
	for _, v := range k.values {
		out = each(out, fits(v), or)
	}
	if k.more {
		out = each(out, either, or)
	}
	return out
}

func (f *flat) null(c single, k known) possible {
	absent := sure(len(k.values) == 0 || k.defaulted)
	if absent[true] && k.more {
		absent = either
	}
	wantTrue, wantFalse := false, false
	for _, w := range c.wanted {
		wantTrue = wantTrue || strings.EqualFold(w, "true")
		wantFalse = wantFalse || strings.EqualFold(w, "false")
	}
	switch {
	case wantTrue && wantFalse:
		return sure(true)
	case wantTrue:
		return absent
	}
	return negate(absent)
}

// compare decides a positive operator for one value and one wanted value.
func (f *flat) compare(op, v, w, key string) possible {
	switch {
	case strings.HasPrefix(op, "Numeric"):
		x, _ := strconv.ParseFloat(v, 64)
		y, _ := strconv.ParseFloat(w, 64)
		return sure(order(strings.TrimPrefix(op, "Numeric"), x-y))
	case strings.HasPrefix(op, "Date"):
		return sure(order(strings.TrimPrefix(op, "Date"), moment(v).Sub(moment(w)).Seconds()))
	case op == "Bool":
		return sure(strings.EqualFold(v, w))
	case op == "BinaryEquals":
		want, _ := base64.StdEncoding.DecodeString(w)
		got := []byte(v)
		if kindOf(key) == "digest" {
			got, _ = hex.DecodeString(v)
		}
		return sure(bytes.Equal(got, want))
	case op == "IpAddress":
		if !strings.Contains(w, "/") {
			return sure(net.ParseIP(w).Equal(net.ParseIP(v)))
		}
		_, network, _ := net.ParseCIDR(w)
		return sure(network.Contains(net.ParseIP(v)))
	case strings.HasPrefix(op, "Arn"):
		return f.likeARN(w, v)
	}
	if kindOf(key) == "digest" {
		w = strings.ToLower(w)
	}
	e := f.expression(w, false, op == "StringLike", "2012")
	flags := "(?s)"
	if op == "StringEqualsIgnoreCase" {
		flags = "(?is)"
	}
	matches := regexp.MustCompile(flags + "^" + e.text + "$").MatchString(v)
	switch {
	case e.never:
		return sure(false)
	case e.open && op == "StringEqualsIgnoreCase":
		return either // the evaluator does not look closer here
	case e.open && matches:
		return either
	}
	return sure(matches)
}

func order(op string, difference float64) bool {
	switch op {
	case "Equals":
		return difference == 0
	case "LessThan":
		return difference < 0
	case "LessThanEquals":
		return difference <= 0
	case "GreaterThan":
		return difference > 0
	case "GreaterThanEquals":
		return difference >= 0
	}
	panic("reference: operator " + op)
}

func moment(s string) time.Time {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Unix(n, 0)
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02", "2006-01"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t
		}
	}
	panic("reference: date " + s)
}

// likeARN matches an ARN with a pattern.
func (f *flat) likeARN(pattern, arn string) possible {
	if strings.Count(arn, ":") < 5 || strings.HasPrefix(arn, ":") {
		return sure(false)
	}
	e := f.expression(pattern, true, true, "2012")
	matches := regexp.MustCompile("(?s)^" + e.text + "$").MatchString(arn)
	switch {
	case e.never || !matches:
		return sure(false)
	case e.open:
		return either
	}
	return sure(true)
}

// expression is a pattern as a regular expression.
type expression struct {
	text  string
	never bool // a variable has no value
	open  bool // a variable's value is not known
}

var variableText = regexp.MustCompile(`^\$\{\s*([^},]*?)\s*(?:,\s*'([^']*)'\s*)?\}`)

// expression translates a pattern. arn: wildcards stay between colons in the first five fields.
func (f *flat) expression(pattern string, arn, wild bool, version string) expression {
	var e expression
	colons := 0
	for rest := pattern; rest != ""; {
		any := "."
		if arn && colons < 5 {
			any = "[^:]"
		}
		if m := variableText.FindStringSubmatch(rest); m != nil && version == "2012" {
			rest = rest[len(m[0]):]
			e.variable(f, m, any)
			continue
		}
		c := rest[:1]
		rest = rest[1:]
		switch {
		case c == "*" && wild:
			e.text += any + "*"
		case c == "?" && wild:
			e.text += any
		default:
			if c == ":" {
				colons++
			}
			e.text += regexp.QuoteMeta(c)
		}
	}
	return e
}

// variable adds what stands for a variable.
func (e *expression) variable(f *flat, m []string, any string) {
	if strings.Contains("*?$", m[1]) {
		e.text += regexp.QuoteMeta(m[1])
		return
	}
	k := f.everything()[strings.ToLower(m[1])]
	hasDefault := strings.Contains(m[0], "'")
	switch {
	case k.more || len(k.values) > 1:
		e.open = true
		e.text += any + "*"
	case len(k.values) == 1:
		if any == "[^:]" && strings.Contains(k.values[0], ":") {
			e.never = true
		}
		e.text += regexp.QuoteMeta(k.values[0])
	case hasDefault:
		e.text += regexp.QuoteMeta(m[2])
	default:
		e.never = true
	}
}

// whole is the reference for Combine: what key policy (nil: none), identity policies and grants say together.
func whole(key *verdict, identity []verdict, grants int) string {
	said := map[string]bool{}
	for _, v := range identity {
		said["identity "+v.word] = true
	}
	counts := key == nil
	if key != nil {
		said["key "+key.word] = true
		counts = key.word == "delegate"
	}
	switch {
	case said["key deny"], said["identity deny"]:
		return "deny"
	case said["key allow"], grants > 0, counts && said["identity allow"]:
		return "allow"
	}
	return "none"
}
