package meta

import (
	"math"
	"testing"
)

func TestCookies(t *testing.T) {
	tag := func(b ...byte) (t NameTag) { copy(t[:], b); return t }
	for _, c := range []struct {
		tag    NameTag
		cookie uint64
	}{
		{NameTag{}, 3},
		{tag(0, 0, 0, 0, 0, 0, 0, 7, 255), 3},
		{tag(0, 0, 0, 0, 0, 0, 0, 8), 4},
		{tag(0, 0, 0, 0, 0, 0, 0, 9, 255), 4},
		{tag(1), 1 << 55},
		{tag(255, 255, 255, 255, 255, 255, 255, 255), math.MaxInt64},
	} {
		if got := cookieOf(c.tag); got != c.cookie {
			t.Errorf("cookie of %x: %d, want %d", c.tag, got, c.cookie)
		}
		next, ok := afterCookie(c.cookie)
		if ok != (c.cookie != math.MaxInt64) {
			t.Errorf("after %d: %v", c.cookie, ok)
		}
		if ok && cookieOf(next) != c.cookie+1 {
			t.Errorf("after %d: first cookie %d", c.cookie, cookieOf(next))
		}
	}
	for cookie := range uint64(3) {
		if first, ok := afterCookie(cookie); !ok || first != (NameTag{}) {
			t.Errorf("cookie %d starts at %x, %v", cookie, first, ok)
		}
	}
}
