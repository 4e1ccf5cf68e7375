package access

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/keymgr"
)

// TestHeldTokens: tokens are their user's and session's, for their time; old ones make room.
func TestHeldTokens(t *testing.T) {
	var h heldTokens
	now := time.Unix(1e9, 0)
	me := holder{1000, 7}
	if h.any() {
		t.Error("tokens before any was used")
	}
	for i := range keymgr.MaxTokens + 2 {
		if !h.use(me, fmt.Sprint(i), now.Add(time.Duration(i)*time.Second)) {
			t.Fatal(i)
		}
	}
	list, until := h.of(me, now)
	if len(list) != keymgr.MaxTokens || list[0] != "2" || !until.Equal(now.Add(2*time.Second+TokenLife)) {
		t.Errorf("%v until %v", list, until)
	}
	for _, other := range []holder{{1001, 7}, {1000, 8}} {
		if list, _ := h.of(other, now); len(list) != 0 {
			t.Errorf("%+v has %v", other, list)
		}
	}
	if list, _ := h.of(me, now.Add(TokenLife+4*time.Second)); len(list) != keymgr.MaxTokens-3 {
		t.Errorf("after a while: %v", list)
	}
	if h.of(me, now.Add(time.Hour)); h.any() {
		t.Error("they are still there after an hour")
	}
	for i := range maxHolders {
		h.use(holder{uint32(i), 1}, "t", now)
	}
	if h.use(holder{5000, 1}, "t", now) {
		t.Error("more holders than are allowed")
	}
	if !h.use(holder{5000, 1}, "t", now.Add(TokenLife)) {
		t.Error("no room after the others' time")
	}
	if s, ok := sessionOf(uint32(os.Getpid())); !ok || s <= 0 {
		t.Errorf("own session: %d %v", s, ok)
	}
	if _, ok := sessionOf(0); ok {
		t.Error("a session of nobody")
	}
}
