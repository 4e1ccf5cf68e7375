package transport

import "testing"

// A sync that was in the way of others has the next ones handed over, and then it is tried again.
func TestSyncPolicy(t *testing.T) {
	var p syncPolicy
	for range 100 {
		if !p.keep() {
			t.Fatal("a sync that was in nobody's way is handed over")
		}
		p.kept(false)
	}
	p.kept(true)
	for i := range keepAgain {
		if p.keep() {
			t.Fatalf("sync %d after one that was in the way is kept", i)
		}
	}
	if !p.keep() {
		t.Error("syncs are handed over for ever")
	}
}
