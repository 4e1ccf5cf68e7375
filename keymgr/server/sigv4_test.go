package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/client"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

// signer makes signed requests, and spoils them on demand.
type signer struct {
	id, secret string
	at         time.Time
	region     string
	service    string
	headers    []string
	user       string // hsm.UserHeader; "": none
}

// request is a signed request for one of AWS' operations.
func (s signer) request(t *testing.T, address, operation, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, "http://"+address+"/", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(wire.HeaderTarget, wire.ServiceAWS+operation)
	r.Header.Set("Content-Type", wire.ContentType)
	if s.user != "" {
		r.Header.Set(hsm.UserHeader, s.user)
	}
	at := s.at.UTC().Format(sigTime)
	r.Header.Set("X-Amz-Date", at)
	sig := signature{accessKey: s.id, date: at[:8], region: s.region, service: s.service, terminator: sigTerminator, headers: s.headers}
	r.Header.Set("Authorization", fmt.Sprintf("%s Credential=%s/%s/%s/%s/%s, SignedHeaders=%s, Signature=%s", sigAlgorithm, s.id, sig.date, s.region, s.service,
		sigTerminator, strings.Join(s.headers, ";"), sig.sign(s.secret, at, r, []byte(body))))
	return r
}

// listening is a keyd that listens, and an administrator of it.
func listening(t *testing.T, now func() time.Time) (address string, c *client.Client, s signer) {
	t.Helper()
	dir := newKeyStore(t, false)
	opts := options
	opts.Now = now
	serve(t, RunConfig{Dir: dir, Listen: "127.0.0.1:0", Options: opts})
	c = dial(t, dir, client.Options{})
	k, err := c.CreateIdentity(t.Context(), self, "ops", true)
	if err != nil {
		t.Fatal(err)
	}
	st, err := c.Status(t.Context())
	if err != nil || st.Listen == "" {
		t.Fatalf("%+v %v", st, err)
	}
	return st.Listen, c, signer{id: k.AccessKeyID, secret: k.Secret, at: now(), region: keymgr.Region, service: sigService,
		headers: []string{"content-type", "host", "x-amz-date", "x-amz-target"}}
}

// ask sends a request and returns status, code and message of the answer.
func ask(t *testing.T, r *http.Request) (status int, code, message string) {
	t.Helper()
	resp, err := (&http.Client{Timeout: 20 * time.Second}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var e struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}
	_ = json.Unmarshal(body, &e)
	if resp.Header.Get("X-Amzn-Requestid") == "" || resp.Header.Get("Date") == "" {
		t.Errorf("answer without request id or date: %v", resp.Header)
	}
	return resp.StatusCode, e.Type, e.Message
}

// TestSignatures: one good request, and every way to spoil it, with AWS' codes and texts.
func TestSignatures(t *testing.T) {
	now := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	address, _, good := listening(t, func() time.Time { return now })
	if status, code, message := ask(t, good.request(t, address, "ListKeys", "{}")); status != 200 {
		t.Fatal(status, code, message)
	}
	spoil := func(change func(*signer)) func() *http.Request {
		return func() *http.Request {
			s := good
			s.headers = slices.Clone(s.headers)
			change(&s)
			return s.request(t, address, "GenerateRandom", `{"NumberOfBytes":8}`)
		}
	}
	alter := func(change func(*http.Request)) func() *http.Request {
		return func() *http.Request {
			r := good.request(t, address, "GenerateRandom", `{"NumberOfBytes":8}`)
			change(r)
			return r
		}
	}
	header := func(name, value string) func() *http.Request {
		return alter(func(r *http.Request) { r.Header.Set(name, value) })
	}
	auth := func(old, replacement string) func() *http.Request {
		return alter(func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, replacement, 1))
		})
	}
	for name, c := range map[string]struct {
		request       func() *http.Request
		code, message string
	}{
		"unsigned":         {alter(func(r *http.Request) { r.Header.Del("Authorization") }), "MissingAuthenticationTokenException", "Missing Authentication Token"},
		"no credential":    {auth("Credential=", "Other="), "IncompleteSignatureException", "Authorization header requires 'Credential' parameter."},
		"no signature":     {auth("Signature=", "Other="), "IncompleteSignatureException", "Authorization header requires 'Signature' parameter."},
		"algorithm":        {auth("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"), "IncompleteSignatureException", "*"},
		"garbage":          {header("Authorization", "AWS4-HMAC-SHA256 x"), "IncompleteSignatureException", "*"},
		"basic":            {header("Authorization", "Basic eDp5"), "IncompleteSignatureException", "*"},
		"short scope":      {auth("/aws4_request", ""), "IncompleteSignatureException", "*"},
		"terminator":       {auth("/aws4_request", "/aws5_request"), "InvalidSignatureException", "Credential should be scoped with a valid terminator: 'aws4_request'. "},
		"unknown key":      {spoil(func(s *signer) { s.id = "AKIDEXAMPLE" }), "UnrecognizedClientException", "The security token included in the request is invalid."},
		"session token":    {header("X-Amz-Security-Token", "x"), "UnrecognizedClientException", "The security token included in the request is invalid."},
		"secret":           {spoil(func(s *signer) { s.secret = "wrong" }), "InvalidSignatureException", "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."},
		"region":           {spoil(func(s *signer) { s.region = "us-east-1" }), "InvalidSignatureException", "Credential should be scoped to a valid region. "},
		"service":          {spoil(func(s *signer) { s.service = "s3" }), "InvalidSignatureException", "Credential should be scoped to correct service: 'kms'. "},
		"scope's date":     {auth("/20260506/", "/20260507/"), "InvalidSignatureException", "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '20260507' != '20260506', from '20260506T070809Z'."},
		"six minutes late": {spoil(func(s *signer) { s.at = s.at.Add(-6 * time.Minute) }), "InvalidSignatureException", "Signature expired: 20260506T070209Z is now earlier than 20260506T070309Z (20260506T070809Z - 5 min.)"},
		"six minutes soon": {spoil(func(s *signer) { s.at = s.at.Add(6 * time.Minute) }), "InvalidSignatureException", "Signature not yet current: 20260506T071409Z is still later than 20260506T071309Z (20260506T070809Z + 5 min.)"},
		"no date":          {alter(func(r *http.Request) { r.Header.Del("X-Amz-Date") }), "IncompleteSignatureException", "*"},
		"another date":     {header("X-Amz-Date", "20260506T070808Z"), "InvalidSignatureException", "*"},
		"bad date":         {header("X-Amz-Date", "x"), "IncompleteSignatureException", "*"},
		"unsigned target":  {spoil(func(s *signer) { s.headers = s.headers[:3] }), "InvalidSignatureException", "'x-amz-target' must be a 'SignedHeader' in the AWS Authorization."},
		"unsigned host":    {spoil(func(s *signer) { s.headers = slices.Delete(s.headers, 1, 2) }), "InvalidSignatureException", "'host' must be a 'SignedHeader' in the AWS Authorization."},
		"another x-amz-":   {header("X-Amz-Other", "x"), "InvalidSignatureException", "'x-amz-other' must be a 'SignedHeader' in the AWS Authorization."},
		"not sorted":       {spoil(func(s *signer) { slices.Reverse(s.headers) }), "IncompleteSignatureException", "SignedHeaders must be sorted and in lower case."},
		"another target":   {header(wire.HeaderTarget, wire.ServiceAWS+"CreateKey"), "InvalidSignatureException", "*"},
		"another body": {alter(func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader(`{"NumberOfBytes":9}`))
			r.GetBody = nil
		}), "InvalidSignatureException", "*"},
		"signature": {auth("Signature=", "Signature=0"), "IncompleteSignatureException", "*"},
	} {
		status, code, message := ask(t, c.request())
		if status != 400 || code != c.code || c.message != "*" && message != c.message {
			t.Errorf("%s: %d %s %q, want %s %q", name, status, code, message, c.code, c.message)
		}
	}
	for name, change := range map[string]func(*signer){
		"five minutes late": func(s *signer) { s.at = s.at.Add(-5 * time.Minute) }, "five minutes soon": func(s *signer) { s.at = s.at.Add(5 * time.Minute) },
		"length signed": func(s *signer) { s.headers = append([]string{"content-length"}, s.headers...) },
	} {
		if status, code, message := ask(t, spoil(change)()); status != 200 {
			t.Errorf("%s: %d %s %s", name, status, code, message)
		}
	}
}

// TestSignedRequests: over TCP an identity is nobody but itself, and our operations are not there.
func TestSignedRequests(t *testing.T) {
	address, c, s := listening(t, time.Now)
	k, err := c.CreateIdentity(t.Context(), self, "user", false)
	if err != nil {
		t.Fatal(err)
	}
	user := s
	user.id, user.secret = k.AccessKeyID, k.Secret
	if status, code, _ := ask(t, user.request(t, address, "CreateKey", "{}")); status != 400 || code != "AccessDeniedException" {
		t.Errorf("without a right: %d %s", status, code)
	}
	r := s.request(t, address, "ListKeys", "{}")
	r.Header.Set(wire.HeaderForward, wire.EncodeForward(keymgr.Caller{UID: 0}))
	if status, code, _ := ask(t, r); status != 400 || code != "UnknownOperationException" {
		t.Errorf("forwarded: %d %s", status, code)
	}
	for _, target := range []string{"Status", "CreateIdentity", "Unlock", "RegisterVolume"} {
		r, err := http.NewRequest(http.MethodPost, "http://"+address+"/", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Amz-Date", s.at.UTC().Format(sigTime))
		r.Header.Set(wire.HeaderTarget, wire.ServiceKmsfs+target)
		r.Header.Set("Content-Type", wire.ContentType)
		sig := signature{accessKey: s.id, date: s.at.UTC().Format("20060102"), region: s.region, service: s.service, terminator: sigTerminator, headers: s.headers}
		r.Header.Set("Authorization", fmt.Sprintf("%s Credential=%s/%s/local/kms/aws4_request, SignedHeaders=%s, Signature=%s", sigAlgorithm, s.id, sig.date,
			strings.Join(s.headers, ";"), sig.sign(s.secret, r.Header.Get("X-Amz-Date"), r, []byte("{}"))))
		if status, code, _ := ask(t, r); status != 400 || code != "UnknownOperationException" {
			t.Errorf("%s: %d %s", target, status, code)
		}
	}
	if status, code, _ := ask(t, s.request(t, address, "Nonsense", "{}")); status != 400 || code != "UnknownOperationException" {
		t.Errorf("no such operation: %d %s", status, code)
	}
	r = s.request(t, address, "Encrypt", `{"Plaintext":"`+strings.Repeat("A", wire.MaxBody)+`"}`)
	if status, code, _ := ask(t, r); status != 400 || code != "SerializationException" {
		t.Errorf("long body: %d %s", status, code)
	}
	if err := c.DisableIdentity(t.Context(), self, "ops", false); err != nil {
		t.Fatal(err)
	}
	if status, code, _ := ask(t, s.request(t, address, "ListAliases", "{}")); status != 400 || code != "UnrecognizedClientException" {
		t.Errorf("disabled: %d %s", status, code)
	}
	list, err := c.ListIdentities(t.Context(), self)
	if err != nil || len(list) != 2 {
		t.Errorf("%+v %v", list, err)
	}
	if k2, err := c.RotateIdentityKey(t.Context(), self, "user"); err != nil || k2.Secret == k.Secret {
		t.Errorf("%v", err)
	}
	if err := errors.Join(c.DisableIdentity(t.Context(), self, "ops", true), c.DeleteIdentity(t.Context(), self, "ops")); err != nil {
		t.Error(err)
	}
}

func TestListenRefuses(t *testing.T) {
	for address, want := range map[string]struct{ plain, tls bool }{
		":0": {}, "localhost": {}, "127.0.0.1": {}, "example.org:1": {}, "127.0.0.1:x": {},
		"0.0.0.0:0": {false, true}, "[::]:0": {false, true}, "192.0.2.1:80": {false, true}, "[::ffff:192.0.2.1]:80": {false, true},
		"127.0.0.1:0": {true, true}, "127.1.2.3:1": {true, true}, "[::1]:0": {true, true},
	} {
		for tls, ok := range map[bool]bool{false: want.plain, true: want.tls} {
			if err := CheckListen(address, tls); (err == nil) != ok || err != nil && !errors.Is(err, ErrListen) {
				t.Errorf("%s, TLS %v: %v", address, tls, err)
			}
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := newKeyStore(t, false)
	if err := Run(t.Context(), RunConfig{Dir: dir, Listen: l.Addr().String(), Options: options}); err == nil {
		t.Error("listens on a port that is taken")
	}
	serve(t, RunConfig{Dir: dir}) // what the failed start held is free again
}

// TestIdleTCP: connections that say nothing hold nobody up.
func TestIdleTCP(t *testing.T) {
	address, _, s := listening(t, time.Now)
	for range 50 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = c.Write(bytes.Repeat([]byte("G"), 3))
	}
	if status, code, message := ask(t, s.request(t, address, "ListKeys", "{}")); status != 200 {
		t.Error(status, code, message)
	}
}
