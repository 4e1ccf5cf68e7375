package keymgr

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestCodes(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range classes() {
		code := Code(c)
		if code == "" || seen[code] {
			t.Errorf("code %q of %v is empty or not unique", code, c)
		}
		seen[code] = true
		for _, err := range []error{c, fmt.Errorf("op: %w", c), &Fault{Class: c, Message: "m", Cause: ErrNotFound}, fmt.Errorf("op: %w", &Fault{Class: c})} {
			if Code(err) != code {
				t.Errorf("code of %v is %s, want %s", err, Code(err), code)
			}
			back := FromCode(Code(err), Message(err))
			if !errors.Is(back, c) || Message(back) != Message(err) {
				t.Errorf("%v came back as %v", err, back)
			}
			for _, other := range classes() {
				if other != ErrNotFound && errors.Is(back, other) != errors.Is(err, other) {
					t.Errorf("%v came back as %v: they differ in being %v", err, back, other)
				}
			}
		}
	}
	for _, c := range []error{ErrLocked, ErrRecord, ErrDependencyTimeout} {
		if !errors.Is(c, ErrKeyUnavailable) {
			t.Errorf("%v is not ErrKeyUnavailable", c)
		}
	}
	for err, want := range map[error]string{nil: "", errors.New("x"): "KMSInternalException", context.DeadlineExceeded: "DependencyTimeoutException", context.Canceled: "DependencyTimeoutException"} {
		if Code(err) != want {
			t.Errorf("code of %v is %q, want %q", err, Code(err), want)
		}
	}
	if err := FromCode("FutureException", "m"); !errors.Is(err, ErrInternal) {
		t.Errorf("unknown code: %v", err)
	}
}
