package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/keymgr"
)

func TestDecode(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		want DecryptRequest
		ok   bool
	}{
		"empty":                {"", DecryptRequest{}, true},
		"empty object":         {" {} ", DecryptRequest{}, true},
		"plain":                {`{"KeyId":"k","CiphertextBlob":"AQI=","EncryptionContext":{"a":"b","A":"c"}}`, DecryptRequest{KeyId: "k", CiphertextBlob: []byte{1, 2}, EncryptionContext: map[string]string{"a": "b", "A": "c"}}, true},
		"unknown ignored":      {`{"KeyId":"k","Other":[{"x":1.5e3,"y":[true,false,null]}]}`, DecryptRequest{KeyId: "k"}, true},
		"null is absent":       {`{"KeyId":null,"EncryptionContext":null}`, DecryptRequest{}, true},
		"names match exactly":  {`{"keyid":"k","KEYID":"l"}`, DecryptRequest{}, true},
		"escaped name":         {`{"\u004beyId":"k"}`, DecryptRequest{KeyId: "k"}, true},
		"pair of surrogates":   {`{"KeyId":"\ud83d\ude00"}`, DecryptRequest{KeyId: "😀"}, true},
		"escapes":              {`{"KeyId":"\"\\\/\b\f\n\r\t\u00e9"}`, DecryptRequest{KeyId: "\"\\/\b\f\n\r\té"}, true},
		"space":                {"\t{ \"KeyId\" :\r\n\"k\" , \"DryRun\" : true }\n", DecryptRequest{KeyId: "k", DryRun: true}, true},
		"duplicate":            {`{"KeyId":"k","KeyId":"k"}`, DecryptRequest{}, false},
		"duplicate by escape":  {`{"KeyId":"k","\u004beyId":"l"}`, DecryptRequest{}, false},
		"duplicate in context": {`{"EncryptionContext":{"a":"1","a":"2"}}`, DecryptRequest{}, false},
		"duplicate in unknown": {`{"X":[{"a":1,"a":2}]}`, DecryptRequest{}, false},
		"lone surrogate":       {`{"KeyId":"\ud83d"}`, DecryptRequest{}, false},
		"low surrogate":        {`{"KeyId":"\ude00"}`, DecryptRequest{}, false},
		"high high":            {`{"KeyId":"\ud83d\ud83d"}`, DecryptRequest{}, false},
		"surrogate then text":  {`{"KeyId":"\ud83dabcdef"}`, DecryptRequest{}, false},
		"not UTF-8":            {"{\"KeyId\":\"\xff\"}", DecryptRequest{}, false},
		"not an object":        {`["KeyId"]`, DecryptRequest{}, false},
		"string":               {`"KeyId"`, DecryptRequest{}, false},
		"null":                 {`null`, DecryptRequest{}, false},
		"two objects":          {`{}{}`, DecryptRequest{}, false},
		"trailing comma":       {`{"KeyId":"k",}`, DecryptRequest{}, false},
		"cut":                  {`{"KeyId":"k`, DecryptRequest{}, false},
		"only space":           {"  ", DecryptRequest{}, false},
		"number for string":    {`{"KeyId":1}`, DecryptRequest{}, false},
		"bad base64":           {`{"CiphertextBlob":"A"}`, DecryptRequest{}, false},
		"context of numbers":   {`{"EncryptionContext":{"a":1}}`, DecryptRequest{}, false},
		"deep":                 {`{"X":` + strings.Repeat("[", 15) + strings.Repeat("]", 15) + `}`, DecryptRequest{}, true},
		"too deep":             {`{"X":` + strings.Repeat("[", 16) + strings.Repeat("]", 16) + `}`, DecryptRequest{}, false},
		"much too deep":        {strings.Repeat("[", 1<<20), DecryptRequest{}, false},
		"brackets in text":     {`{"KeyId":"` + strings.Repeat("[{", 50) + `\""}`, DecryptRequest{KeyId: strings.Repeat("[{", 50) + `"`}, true},
	} {
		var got DecryptRequest
		err := Decode([]byte(c.body), &got)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, keymgr.ErrSerialization) {
			t.Errorf("%s: %v", name, err)
		}
		if c.ok && !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestSecrets(t *testing.T) {
	for _, secret := range [][]byte{{1}, []byte("hunter2"), bytes.Repeat([]byte{0xff, 0xfb}, 2000)} {
		in := GenerateDataKeyResponse{CiphertextBlob: []byte{9}, KeyId: "k", Plaintext: secret}
		body, err := Encode(&in)
		if err != nil {
			t.Fatal(err)
		}
		var standard struct{ Plaintext, CiphertextBlob []byte }
		if err := json.Unmarshal(body, &standard); err != nil || !bytes.Equal(standard.Plaintext, secret) || len(standard.CiphertextBlob) != 1 {
			t.Fatalf("%s: %v", body, err)
		}
		var out GenerateDataKeyResponse
		if err := Decode(body, &out); err != nil || !bytes.Equal(out.Plaintext, secret) || out.KeyId != "k" {
			t.Fatalf("%+v %v", out, err)
		}
		clear(body)
		if !bytes.Equal(out.Plaintext, secret) {
			t.Error("the secret is memory of the body")
		}
		var escaped GenerateDataKeyResponse
		if err := Decode(bytes.ReplaceAll(mustEncode(t, in), []byte("/"), []byte(`\/`)), &escaped); err != nil || !bytes.Equal(escaped.Plaintext, secret) {
			t.Errorf("escaped slashes: %v", err)
		}
		Wipe(&out)
		if bytes.ContainsAny(out.Plaintext, "hunter2\xff\xfb\x01") {
			t.Error("not wiped")
		}
	}
	if body, err := Encode(&UnlockRequest{Secret: []byte("x")}); err != nil || string(body) != `{"Secret":"eA=="}` {
		t.Errorf("a secret alone: %s %v", body, err)
	}
	for _, bad := range []string{`{"Secret":5}`, `{"Secret":"!"}`, `{"Secret":["eA=="]}`, `{"Secret":{}}`} {
		if err := Decode([]byte(bad), new(UnlockRequest)); !errors.Is(err, keymgr.ErrSerialization) || strings.Contains(err.Error(), "eA") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func mustEncode(t *testing.T, v any) []byte {
	t.Helper()
	b, err := Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestErrorsBothWays(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		body   string
	}{
		{&keymgr.Fault{Class: keymgr.ErrNotFound, Message: "Key 'x' does not exist", Cause: errors.New("hidden")}, 400, `{"__type":"NotFoundException","message":"Key 'x' does not exist"}`},
		{&keymgr.Fault{Class: keymgr.ErrInvalidCiphertext, Cause: errors.New("hidden")}, 400, `{"__type":"InvalidCiphertextException"}`},
		{&keymgr.Fault{Class: keymgr.ErrLimit, Message: "m"}, 400, `{"__type":"LimitExceededException","message":"m"}`},
		{&keymgr.Fault{Class: keymgr.ErrLocked}, 400, `{"__type":"KeyStoreLockedException"}`},
		{keymgr.ErrRecord, 400, `{"__type":"KeyUseLogException"}`},
		{keymgr.ErrKeyUnavailable, 500, `{"__type":"KeyUnavailableException"}`},
		{keymgr.ErrDependencyTimeout, 503, `{"__type":"DependencyTimeoutException"}`},
		{errors.New("secret details"), 500, `{"__type":"KMSInternalException"}`},
	} {
		status, body := EncodeError(c.err)
		if status != c.status || string(body) != c.body {
			t.Errorf("%v: %d %s, want %d %s", c.err, status, body, c.status, c.body)
		}
		back := DecodeError(status, body)
		if keymgr.Code(back) != keymgr.Code(c.err) || keymgr.Message(back) != keymgr.Message(c.err) {
			t.Errorf("%v came back as %v", c.err, back)
		}
	}
	for _, body := range []string{"", "<html>", `{"message":"m"}`, `{"__type":7}`} {
		if err := DecodeError(502, []byte(body)); !errors.Is(err, keymgr.ErrInternal) {
			t.Errorf("%q: %v", body, err)
		}
	}
}

func TestForward(t *testing.T) {
	for _, c := range []keymgr.Caller{
		{}, {UID: 1, GID: 2, PID: 3, Program: "/bin/\"cat\"\n", Path: "/m/ü\x01"},
	} {
		got, err := DecodeForward(EncodeForward(c))
		c.Via = keymgr.ViaFileDaemon
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("%+v came back as %+v, %v", c, got, err)
		}
	}
	long, err := DecodeForward(EncodeForward(keymgr.Caller{Path: strings.Repeat("p", 5000), Program: strings.Repeat("q", 5000)}))
	if err != nil || len(long.Path) != 4096 || len(long.Program) != 4096 {
		t.Errorf("long path: %d, %v", len(long.Path), err)
	}
	for in, want := range map[string]string{"/a\xff\x00b\xc3": "/a\\xff\x00b\\xc3", strings.Repeat("\xfe", 4096): strings.Repeat(`\xfe`, 1024), strings.Repeat("ü", 4000): strings.Repeat("ü", 2048), "x" + strings.Repeat("ü", 4000): "x" + strings.Repeat("ü", 2047)} {
		if got, err := DecodeForward(EncodeForward(keymgr.Caller{Path: in})); err != nil || got.Path != want {
			t.Errorf("path %.40q came back as %.40q, %v", in, got.Path, err)
		}
	}
	for _, bad := range []string{"", "!", "e30=", strings.Repeat("A", maxForward+4), "W10", "eyJ1aWQiOi0xfQ", "eyJ1aWQiOjEsInVpZCI6Mn0"} {
		if _, err := DecodeForward(bad); !errors.Is(err, keymgr.ErrValidation) {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
}

func TestTime(t *testing.T) {
	for _, c := range []struct {
		in   time.Time
		want string
	}{
		{time.Unix(1700000000, 0), "1700000000"}, {time.UnixMilli(1700000000123), "1700000000.123"}, {time.Time{}, "null"}, {time.UnixMilli(-500), "-0.5"},
	} {
		b, err := json.Marshal(Time{c.in})
		if err != nil || string(b) != c.want {
			t.Errorf("%v: %s %v", c.in, b, err)
		}
		var back Time
		if err := json.Unmarshal(b, &back); err != nil || !back.Equal(c.in) {
			t.Errorf("%s came back as %v, %v", b, back, err)
		}
	}
	var e Time
	if err := json.Unmarshal([]byte("1.5565824E9"), &e); err != nil || e.Unix() != 1556582400 {
		t.Errorf("exponent: %v %v", e, err)
	}
	for _, bad := range []string{`"2026-01-01"`, "1e300", "true"} {
		if err := json.Unmarshal([]byte(bad), new(Time)); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// FuzzDecode: what is accepted is what encoding/json reads, and nothing that it would fold or drop.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{"", "{}", `{"KeyId":"k","CiphertextBlob":"AQI=","EncryptionContext":{"a":"b"},"GrantTokens":["x"]}`, `{"a":[1,{"b":null}],"a2":"\ud83d\ude00"}`,
		`{"KeyId":"\ud83d"}`, `{"x":1,"x":2}`, "[", `{"KeyId":`, "{\"\xff\":1}", `{"x":"\\"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		var got DecryptRequest
		err := Decode(body, &got)
		if !bytes.Equal(body, before) {
			t.Fatal("the body was changed")
		}
		if err != nil || len(body) == 0 {
			return
		}
		var raw map[string]json.RawMessage
		if err := json.Unmarshal(body, &raw); err != nil {
			t.Fatalf("accepted %q, which is not an object: %v", body, err)
		}
		members, err := object(body)
		if err != nil || len(members) != len(raw) {
			t.Fatalf("%q: %d members, encoding/json sees %d", body, len(members), len(raw))
		}
		for _, m := range members {
			var a, b any
			if json.Unmarshal(m.raw, &a) != nil || json.Unmarshal(raw[string(m.name)], &b) != nil || !reflect.DeepEqual(a, b) {
				t.Fatalf("%q: member %q is %q here, %q there", body, m.name, m.raw, raw[string(m.name)])
			}
		}
	})
}

func FuzzDecodeForward(f *testing.F) {
	f.Add(EncodeForward(keymgr.Caller{UID: 1, Path: "/x"}))
	f.Add("e30")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := DecodeForward(s)
		if err == nil && (c.Via == "" || c.Principal != "" || c.Volume != "" || c.RequestID != "") {
			t.Errorf("%q sets what is not the front end's: %+v", s, c)
		}
	})
}

// BenchmarkDecode reads a request of the common kind.
func BenchmarkDecode(b *testing.B) {
	body, err := Encode(GenerateDataKeyRequest{KeyId: "arn:aws:kms:local:000000000000:key/aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee", KeySpec: "AES_256",
		EncryptionContext: map[string]string{"kmsfs:volume": "00112233445566778899aabbccddeeff", "kmsfs:zone": "1"}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		var in GenerateDataKeyRequest
		if err := Decode(body, &in); err != nil {
			b.Fatal(err)
		}
	}
}
