package hsm

import (
	"context"
	"encoding/base64"
	"errors"
	"reflect"
	"strings"
	"testing"
)

// TestUsers: a user comes back as it was; what another one could have meant is refused.
func TestUsers(t *testing.T) {
	for _, u := range []User{{Groups: []string{}}, {Name: "alice", UID: 1<<32 - 1, Groups: []string{"a", "ü b"}}, {Name: "x", Groups: []string{}, UnknownGroups: true}} {
		if got, err := ParseUser(u.Encode()); err != nil || !reflect.DeepEqual(got, u) {
			t.Errorf("%+v came back as %+v, %v", u, got, err)
		}
	}
	many := User{Name: "bob", UID: 7, Groups: strings.Split(strings.Repeat("group ", 3000), " ")}
	if got, err := ParseUser(many.Encode()); err != nil || got.Name != "bob" || len(got.Groups) != 0 || !got.UnknownGroups {
		t.Errorf("too many groups: %+v %v", got, err)
	}
	for _, text := range []string{"", "{", "[]", "null", `{"user":"a","uid":1}`, `{"uid":1,"user":"a","groups":[]}`, `{"user":"a","uid":1,"groups":[],"uid":0}`, `{"user":"a","uid":1,"groups":[]} `,
		`{"USER":"a","uid":1,"groups":[]}`, `{"user":"a","uid":-1,"groups":[]}`, `{"user":"a","uid":4294967296,"groups":[]}`, `{"user":"a/b","uid":1,"groups":[]}`, `{"user":"a","uid":1,"groups":["x:y"]}`,
		`{"user":"a","uid":1,"groups":[],"root":true}`, `{"user":"a","uid":1,"groups":null}`, `{"user":"a\n","uid":1,"groups":[]}`, `{"user":"` + strings.Repeat("a", 257) + `","uid":1,"groups":[]}`} {
		if u, err := ParseUser(base64.RawURLEncoding.EncodeToString([]byte(text))); !errors.Is(err, ErrUser) {
			t.Errorf("%s: %+v %v", text, u, err)
		}
	}
	if _, err := ParseUser("e30="); !errors.Is(err, ErrUser) {
		t.Errorf("padding: %v", err)
	}
	if UserOf(t.Context()) != nil || UserOf(ForUser(context.Background(), &many)) != &many {
		t.Error("a context does not carry its user")
	}
}

func FuzzUser(f *testing.F) {
	f.Add(User{Name: "a", UID: 1, Groups: []string{"b"}}.Encode())
	f.Fuzz(func(t *testing.T, s string) {
		if u, err := ParseUser(s); err == nil && u.Encode() != s {
			t.Errorf("%q is %+v, which is %q", s, u, u.Encode())
		}
	})
}
