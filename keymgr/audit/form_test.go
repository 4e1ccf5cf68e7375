package audit

import (
	"errors"
	"reflect"
	"testing"
	"time"
)

func opened() *Event {
	return &Event{Class: Access, Source: Files, Name: Open, Time: time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC), ID: "id", ReadOnly: true, Decision: Allow, Statement: "s", Latency: 5 * time.Microsecond, Cached: true,
		Identity: Identity{Principal: "arn:aws:iam::000000000000:unix/user/alice", UID: 1000, GID: 1000, PID: 12345, Program: "/usr/bin/cat"},
		Object:   Object{Volume: "00", Zone: 2, Inode: 4711, Path: "/a/b", Key: "arn:aws:kms:local:000000000000:key/1"}}
}

// same fails unless f writes the event as Append does, also when it is known.
func same(t *testing.T, f *Forms, e *Event, what string) {
	t.Helper()
	want, err := e.Append([]byte("before"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		got, err := f.Append([]byte("before"), e)
		if err != nil || string(got) != string(want) {
			t.Fatalf("%s: %v\n%s\nwant\n%s", what, err, got, want)
		}
		form, rest := f.Split([]byte("before"), e)
		if form == nil {
			continue
		}
		rest = rest[len("before"):]
		read, err := ParseForm(form.Encode(nil))
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range []*Form{form, read} {
			if got, err := form.Join([]byte("before"), rest); err != nil || string(got) != string(want) || form.Length(rest) != len(want)-len("before") {
				t.Fatalf("%s, joined: %v\n%s\nwant\n%s", what, err, got, want)
			}
		}
	}
}

// TestForms: an event is written as Append does it after any other event that differs from it in one member, whatever that is.
func TestForms(t *testing.T) {
	var f Forms
	same(t, &f, opened(), "an open")
	rich := reflect.ValueOf(*full())
	var each func(v, from reflect.Value, e *Event, name string)
	each = func(v, from reflect.Value, e *Event, name string) {
		for i := range v.NumField() {
			field, name := v.Field(i), name+v.Type().Field(i).Name
			if field.Kind() == reflect.Struct && field.Type() != reflect.TypeFor[time.Time]() {
				each(field, from.Field(i), e, name+".")
				continue
			}
			old := reflect.New(field.Type()).Elem()
			old.Set(field)
			for _, value := range []reflect.Value{from.Field(i), reflect.Zero(field.Type())} {
				field.Set(value)
				if e.Class != 0 {
					same(t, &f, e, name)
				}
				field.Set(old)
				same(t, &f, e, "after "+name)
			}
		}
	}
	e := opened()
	each(reflect.ValueOf(e).Elem(), rich, e, "")
}

// TestFormsForget: more forms than are remembered.
func TestFormsForget(t *testing.T) {
	var f Forms
	for i := range 5 * MaxForms {
		e := opened()
		e.UID = i % (2 * MaxForms)
		e.Path = string(make([]byte, i))
		same(t, &f, e, "a user")
	}
	long := opened()
	long.Path = string(make([]byte, MaxEvent))
	if _, err := f.Append(nil, long); !errors.Is(err, ErrEvent) {
		t.Errorf("an event of any length: %v", err)
	}
	if form, rest := f.Split([]byte("before"), long); form != nil || string(rest) != "before" {
		t.Error("an event of any length is split")
	}
}

// TestFormMalformed: no bytes that are cut, or have something behind, are a form, or the rest of an event.
func TestFormMalformed(t *testing.T) {
	var f Forms
	form, rest := f.Split(nil, opened())
	encoded := form.Encode(nil)
	for n := range len(encoded) {
		if _, err := ParseForm(encoded[:n]); !errors.Is(err, ErrEvent) {
			t.Fatalf("form of %d bytes: %v", n, err)
		}
	}
	for n := range len(rest) {
		if got, err := form.Join([]byte("before"), rest[:n]); !errors.Is(err, ErrEvent) || string(got) != "before" {
			t.Fatalf("rest of %d bytes: %v", n, err)
		}
	}
	if _, err := ParseForm(append(encoded, 0)); !errors.Is(err, ErrEvent) {
		t.Error(err)
	}
	if _, err := form.Join(nil, append(rest, 0)); !errors.Is(err, ErrEvent) {
		t.Error(err)
	}
}

// TestTime: times are written in TimeFormat.
func TestTime(t *testing.T) {
	for _, at := range []time.Time{{}, time.Unix(0, 0), time.Unix(1799999999, 999999999), time.Date(2026, 11, 9, 8, 7, 6, 5000, time.FixedZone("", 3600)), time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(-3, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(999, 12, 31, 23, 59, 59, 1, time.UTC)} {
		if got, want := string(appendTime(nil, at)), `"`+at.UTC().Format(TimeFormat)+`"`; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
