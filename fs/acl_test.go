package fs

import (
	"bytes"
	"errors"
	"testing"

	"github.com/kmsfs/kmsfs/meta"
)

func entries(e ...aclEntry) acl { return e }

var (
	minimal = entries(aclEntry{aclUserObj, 7, 0}, aclEntry{aclGroupObj, 5, 0}, aclEntry{aclOther, 4, 0})
	named   = entries(aclEntry{aclUserObj, 7, 0}, aclEntry{aclUser, 6, 1000}, aclEntry{aclGroupObj, 7, 0}, aclEntry{aclGroup, 4, 50},
		aclEntry{aclMask, 5, 0}, aclEntry{aclOther, 1, 0})
)

func TestACLRoundTrip(t *testing.T) {
	for _, a := range []acl{minimal, named} {
		got, err := parseACL(a.encode())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.encode(), a.encode()) {
			t.Errorf("%v became %v", a, got)
		}
	}
}

func TestACLRefused(t *testing.T) {
	flip := func(i int, to byte) []byte {
		b := named.encode()
		b[i] = to
		return b
	}
	for name, b := range map[string][]byte{
		"empty":          {},
		"header only":    {2, 0, 0, 0},
		"version":        flip(0, 1),
		"cut":            named.encode()[:20],
		"permission":     flip(6, 8),
		"unknown tag":    flip(4, 0x40),
		"two tags":       flip(4, 0x03),
		"order":          entries(aclEntry{aclGroupObj, 7, 0}, aclEntry{aclUserObj, 5, 0}, aclEntry{aclOther, 4, 0}).encode(),
		"twice":          entries(aclEntry{aclUserObj, 7, 0}, aclEntry{aclUserObj, 7, 0}, aclEntry{aclGroupObj, 5, 0}, aclEntry{aclOther, 4, 0}).encode(),
		"no mask":        entries(aclEntry{aclUserObj, 7, 0}, aclEntry{aclUser, 7, 1}, aclEntry{aclGroupObj, 5, 0}, aclEntry{aclOther, 4, 0}).encode(),
		"no other":       entries(aclEntry{aclUserObj, 7, 0}, aclEntry{aclGroupObj, 5, 0}).encode(),
		"no group":       entries(aclEntry{aclUserObj, 7, 0}, aclEntry{aclOther, 5, 0}).encode(),
		"no user object": entries(aclEntry{aclGroupObj, 7, 0}, aclEntry{aclOther, 5, 0}).encode(),
	} {
		if _, err := parseACL(b); !errors.Is(err, meta.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestACLMode(t *testing.T) {
	if bits, all := minimal.mode(); bits != 0o754 || !all {
		t.Errorf("minimal: %o %v", bits, all)
	}
	if bits, all := named.mode(); bits != 0o751 || all { // group bits are the mask
		t.Errorf("named: %o %v", bits, all)
	}
}

func TestACLChmod(t *testing.T) {
	a := append(acl(nil), named...)
	a.chmod(0o421)
	want := entries(aclEntry{aclUserObj, 4, 0}, aclEntry{aclUser, 6, 1000}, aclEntry{aclGroupObj, 7, 0}, aclEntry{aclGroup, 4, 50},
		aclEntry{aclMask, 2, 0}, aclEntry{aclOther, 1, 0})
	if !bytes.Equal(a.encode(), want.encode()) {
		t.Errorf("named: %v", a)
	}
	b := append(acl(nil), minimal...)
	b.chmod(0o421)
	if bits, _ := b.mode(); bits != 0o421 {
		t.Errorf("minimal: %v", b)
	}
}

func TestACLInherit(t *testing.T) {
	for _, c := range []struct {
		name      string
		from      acl
		mode      uint32
		wantMode  uint32
		wantGroup uint16
	}{
		{"minimal, open mode", minimal, 0o100666, 0o100644, 4},
		{"minimal, closed mode", minimal, 0o100600, 0o100600, 0},
		{"named: the mask is cut, not the group", named, 0o100666, 0o100640, 4},
		{"directory keeps its special bits", named, 0o042777, 0o042751, 5},
	} {
		a := append(acl(nil), c.from...)
		if got := a.inherit(c.mode); got != c.wantMode {
			t.Errorf("%s: mode %o, want %o", c.name, got, c.wantMode)
		}
		if got := a.group().perm; got != c.wantGroup {
			t.Errorf("%s: group entry %o, want %o", c.name, got, c.wantGroup)
		}
	}
}

func FuzzParseACL(f *testing.F) {
	f.Add(minimal.encode())
	f.Add(named.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseACL(b)
		if err == nil && !bytes.Equal(a.encode(), b) {
			t.Errorf("%x parsed, and is %x again", b, a.encode())
		}
	})
}
