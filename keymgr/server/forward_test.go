package server

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/client"
)

// frontEndOnly lets an identity forward, and do nothing itself.
const frontEndOnly = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kmsfs:FrontEnd","Resource":"*"}}`

// notAlice leaves a key to the account, but for one user.
const notAlice = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:root"},"Action":"kms:*","Resource":"*"},
 {"Sid":"NotAlice","Effect":"Deny","Principal":{"AWS":"arn:aws:iam::000000000000:unix/user/alice"},"Action":"kms:Encrypt","Resource":"*"}]}`

// forwarding is a keyd that listens, with a key and identities: host forwards, other may use keys.
type forwarding struct {
	*client.Client
	address, key string
	host, other  signer
	now          *time.Time
}

func newForwarding(t *testing.T) forwarding {
	t.Helper()
	now := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	f := forwarding{now: &now}
	f.address, f.Client, f.other = listening(t, func() time.Time { return now })
	md, err := f.CreateKey(t.Context(), self, keymgr.CreateKeyInput{Policy: notAlice})
	if err != nil {
		t.Fatal(err)
	}
	f.key = md.ARN
	k, err := f.CreateIdentity(t.Context(), self, "host-b", false)
	if err == nil {
		err = f.PutIdentityPolicy(t.Context(), self, "host-b", "front", frontEndOnly)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.host = f.other
	f.host.id, f.host.secret = k.AccessKeyID, k.Secret
	return f
}

// as is the signer that asks for a user.
func (s signer) as(user string) signer {
	s.user = user
	s.headers = []string{"content-type", "host", "x-amz-date", "x-amz-kmsfs-user", "x-amz-target"}
	return s
}

func named(name string, groups ...string) string {
	return hsm.User{Name: name, UID: 1234, Groups: groups}.Encode()
}

func (f forwarding) encrypt() string { return `{"KeyId":"` + f.key + `","Plaintext":"AAAA"}` }

// TestForwardedUsers: who may forward does so for users, is decided about as they are, and gets nothing for itself; nobody else may.
func TestForwardedUsers(t *testing.T) {
	f := newForwarding(t)
	for name, c := range map[string]struct {
		s               signer
		operation, code string
	}{
		"bob":                           {f.host.as(named("bob", "staff")), "Encrypt", ""},
		"alice, who is denied":          {f.host.as(named("alice")), "Encrypt", "AccessDeniedException"},
		"someone without a name":        {f.host.as(named("")), "Encrypt", "AccessDeniedException"}, // might be alice
		"root of that host":             {f.host.as(named("root")), "Encrypt", ""},
		"itself":                        {f.host, "Encrypt", "AccessDeniedException"},
		"an administrator forwards":     {f.other.as(named("bob")), "Encrypt", "AccessDeniedException"},
		"an administrator itself":       {f.other, "Encrypt", ""},
		"what is not to be forwarded":   {f.host.as(named("root")), "DisableKey", "AccessDeniedException"},
		"garbage":                       {f.host.as("%%%"), "Encrypt", "ValidationException"},
		"no user":                       {f.host.as(base64.RawURLEncoding.EncodeToString([]byte(`{}`))), "Encrypt", "ValidationException"},
		"an identity":                   {f.host.as(named("user/ops")), "Encrypt", "ValidationException"},
		"a member of another meaning":   {f.host.as(base64.RawURLEncoding.EncodeToString([]byte(`{"user":"bob","uid":1,"groups":[],"root":true}`))), "Encrypt", "ValidationException"},
		"a long one":                    {f.host.as(strings.Repeat("A", 20<<10)), "Encrypt", "ValidationException"},
		"more groups than there's room": {f.host.as(named("bob", strings.Split(strings.Repeat("g ", 9000), " ")...)), "Encrypt", ""},
	} {
		status, code, message := ask(t, c.s.request(t, f.address, c.operation, f.encrypt()))
		if code != c.code || (status == 200) != (c.code == "") {
			t.Errorf("%s: %d %s %s", name, status, code, message)
		}
		*f.now = f.now.Add(time.Second)
	}
}

// TestForwardedUserIsSigned: the header can't be added, changed, doubled or taken away on the way, and a request with it can't be sent again.
func TestForwardedUserIsSigned(t *testing.T) {
	f := newForwarding(t)
	good := func() *http.Request { return f.host.as(named("bob")).request(t, f.address, "Encrypt", f.encrypt()) }
	if status, code, message := ask(t, good()); status != 200 {
		t.Fatal(status, code, message)
	}
	for name, c := range map[string]struct {
		from  func() *http.Request
		spoil func(*http.Request)
		code  string
	}{
		"changed":    {good, func(r *http.Request) { r.Header.Set(hsm.UserHeader, named("root")) }, "InvalidSignatureException"},
		"taken away": {good, func(r *http.Request) { r.Header.Del(hsm.UserHeader) }, "InvalidSignatureException"},
		"taken away, in the list too": {good, func(r *http.Request) {
			r.Header.Del(hsm.UserHeader)
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "x-amz-kmsfs-user;", "", 1))
		}, "InvalidSignatureException"},
		"added":                {func() *http.Request { return f.host.request(t, f.address, "Encrypt", f.encrypt()) }, func(r *http.Request) { r.Header.Set(hsm.UserHeader, named("bob")) }, "InvalidSignatureException"},
		"doubled":              {good, func(r *http.Request) { r.Header.Add(hsm.UserHeader, named("root")) }, "InvalidSignatureException"},
		"of the socket's kind": {good, func(r *http.Request) { r.Header.Set("X-Kmsfs-Forward", "e30") }, "UnknownOperationException"},
	} {
		r := c.from()
		c.spoil(r)
		if status, code, message := ask(t, r); status != 400 || code != c.code {
			t.Errorf("%s: %d %s %s", name, status, code, message)
		}
	}
	r := good()
	*f.now = f.now.Add(sigRepeat + time.Second)
	if status, code, message := ask(t, r); status != 400 || code != "InvalidSignatureException" || !strings.Contains(message, "already") {
		t.Errorf("sent again: %d %s %s", status, code, message)
	}
}

// TestForwardedUserIsRecorded: the log has the user, and who forwarded it.
func TestForwardedUserIsRecorded(t *testing.T) {
	f := newForwarding(t)
	if status, code, message := ask(t, f.host.as(named("bob")).request(t, f.address, "Encrypt", f.encrypt())); status != 200 {
		t.Fatal(status, code, message)
	}
	st, err := f.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lines, err := usesIn(st.Dir)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, line := range strings.Split(strings.TrimSpace(string(lines)), "\n") {
		var e struct {
			EventName           string `json:"eventName"`
			AdditionalEventData struct{ Principal, Via, ForwardedBy string }
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if e.EventName == "Encrypt" {
			found = true
			if a := e.AdditionalEventData; a.Principal != "arn:aws:iam::000000000000:unix/user/bob" || a.ForwardedBy != "arn:aws:iam::000000000000:user/host-b" || a.Via != keymgr.ViaKeyManager {
				t.Errorf("%+v", a)
			}
		}
	}
	if !found {
		t.Error("no record")
	}
}
