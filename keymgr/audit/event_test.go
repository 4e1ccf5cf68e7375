package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func full() *Event {
	return &Event{
		Class: Access, Source: Files, Name: Rename, Time: time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC), ID: "id", RequestID: "r", KeyRequestID: "k", ReadOnly: true,
		Identity: Identity{Principal: "arn:aws:iam::000000000000:user/anna", AccessKeyID: "AKIA", UID: 7, GID: 8, PID: 9, Program: "/bin/\"x\\y", ProgramSHA256: "ab",
			Via: "v", ForwardedBy: "f", SourceAddress: "127.0.0.1", UserAgent: "u"},
		Object: Object{Key: "arn:aws:kms:local:000000000000:key/1", KeyVersion: 2, MaterialID: "m", Context: map[string]string{"b": "2", "a": "1\n"},
			DestinationKey: "arn:aws:kms:local:000000000000:key/2", DestinationVersion: 3, DestinationContext: map[string]string{"c": "ü"},
			Volume: "00", Zone: 4, Path: "/a\x00\xff/b\u2028\x7f", NewPath: "/ü\xc3", Inode: 5},
		Parameters: map[string]any{"numberOfBytes": 32.0}, Response: map[string]any{"grantId": "g"}, Decision: Allow, Statement: "s", ErrorCode: "E", ErrorMessage: "m",
		Detail: "d", Latency: 6 * time.Microsecond, Alert: true, Cached: true, BytesRead: 7, BytesWritten: 8, Count: 9,
	}
}

func encode(t *testing.T, e *Event, sequence uint64) []byte {
	t.Helper()
	b, err := e.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return AppendSequence(b, sequence)
}

// TestRoundTrip: every member of an event comes back, whatever bytes are in its names, and the line is one line of ASCII control-free JSON.
func TestRoundTrip(t *testing.T) {
	want := full()
	want.Sealed = "c2VhbGVk"
	line := encode(t, want, 42)
	if !json.Valid(line) || bytes.ContainsAny(line, "\n\r\x00\x7f\u2028") {
		t.Fatalf("not one line of JSON: %q", line)
	}
	got, err := Parse(line)
	if err != nil {
		t.Fatal(err)
	}
	if got.Parameters["numberOfBytes"] != 32.0 || got.Parameters["destinationKeyId"] != want.DestinationKey {
		t.Errorf("parameters %v", got.Parameters)
	}
	got.Parameters, want.Sequence = want.Parameters, 42
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v\nfrom %s", got, want, line)
	}
	v := reflect.ValueOf(*want)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if v.Field(i).IsZero() && name != "Durable" && name != "Internal" {
			t.Errorf("the test does not set %s", name)
		}
	}
}

// TestCloudTrail: the members that CloudTrail's readers rely on, in its shape.
func TestCloudTrail(t *testing.T) {
	e := &Event{Class: KeyUse, Source: Keys, Name: "Decrypt", ID: "1", RequestID: "2", ReadOnly: true, Decision: Allow,
		Identity: Identity{Principal: "arn:aws:iam::000000000000:root"}, Object: Object{Key: "arn:aws:kms:local:000000000000:key/1", Context: map[string]string{"a": "b"}}}
	var m map[string]any
	if err := json.Unmarshal(encode(t, e, 0), &m); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{"eventVersion": "1.11", "eventSource": "kms.amazonaws.com", "eventName": "Decrypt", "awsRegion": "local", "requestID": "2", "eventID": "1",
		"readOnly": true, "eventType": "AwsApiCall", "managementEvent": true, "recipientAccountId": "000000000000", "eventCategory": "Management", "responseElements": nil} {
		if got, ok := m[name]; !ok || got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if got := m["userIdentity"].(map[string]any)["type"]; got != "Root" {
		t.Errorf("identity %v", got)
	}
	if got := m["requestParameters"].(map[string]any)["encryptionContext"].(map[string]any)["a"]; got != "b" {
		t.Errorf("context %v", got)
	}
	if got := m["resources"].([]any)[0].(map[string]any); got["ARN"] != e.Key || got["type"] != "AWS::KMS::Key" {
		t.Errorf("resources %v", got)
	}
	e.Internal = true
	if err := json.Unmarshal(encode(t, e, 0), &m); err != nil || m["eventType"] != "AwsServiceEvent" || m["userIdentity"].(map[string]any)["invokedBy"] != "AWS Internal" {
		t.Errorf("internal event: %v %v", m, err)
	}
}

func TestMalformed(t *testing.T) {
	good := string(encode(t, full(), 1))
	for _, bad := range []string{"", "{}", good[:len(good)-1], strings.Replace(good, `"class":"access"`, `"class":"x"`, 1), strings.Replace(good, `"sequence":1`, `"sequence":-1`, 1),
		strings.Replace(good, `"decision":"allow"`, `"decision":"perhaps"`, 1), strings.Replace(good, `,"sequence":1`, ``, 1)} {
		if _, err := Parse([]byte(bad)); !errors.Is(err, ErrEvent) {
			t.Errorf("%.60s…: %v", bad, err)
		}
	}
	e := full()
	e.Parameters = map[string]any{"f": func() {}}
	if _, err := e.Append(nil); !errors.Is(err, ErrEvent) {
		t.Errorf("a function as a parameter: %v", err)
	}
	e = full()
	e.Detail = strings.Repeat("x", MaxEvent)
	if _, err := e.Append(nil); !errors.Is(err, ErrEvent) {
		t.Errorf("too long: %v", err)
	}
}

func TestLevels(t *testing.T) {
	for _, c := range []struct {
		level       Level
		class       Class
		wants, sync bool
	}{{LevelDenied, Access, false, false}, {LevelDenied, Denial, true, false}, {"", Access, true, false}, {LevelAccess, Access, true, false}, {LevelFull, Access, true, true}} {
		e := &Event{Class: c.class}
		if got := c.level.Wants(e); got != c.wants || e.Durable != c.sync {
			t.Errorf("level %q wants class %s: %t, durable %t", c.level, c.class, got, e.Durable)
		}
	}
}

func FuzzParse(f *testing.F) {
	b, _ := full().Append(nil)
	f.Add(AppendSequence(b, 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := Parse(data)
		if err != nil {
			return
		}
		line, err := e.Append(nil)
		if err != nil {
			t.Skip() // grown beyond the limit by escapes
		}
		if _, err := Parse(AppendSequence(line, e.Sequence)); err != nil {
			t.Fatalf("what was parsed does not come back: %v", err)
		}
	})
}

// TestAppendStringPlain: what is looked at eight bytes at a time comes out as byte by byte: every byte at every place of a word.
func TestAppendStringPlain(t *testing.T) {
	for c := range 256 {
		for at := range 24 {
			s := []byte("abcdefghijklmnopqrstuvwx")
			s[at] = byte(c)
			got := AppendString(nil, string(s))
			want := []byte{'"'}
			for _, b := range s { // each byte by itself
				q := AppendString(nil, string([]byte{b}))
				want = append(want, q[1:len(q)-1]...)
			}
			if want = append(want, '"'); string(got) != string(want) {
				t.Fatalf("byte %#x at %d: %q, want %q", c, at, got, want)
			}
		}
	}
}
