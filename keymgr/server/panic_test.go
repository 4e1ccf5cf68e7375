package server

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/client"
)

// TestPanicEndsTheProcess: a request that panics gets no answer made of state that may be half changed, but ends the process.
func TestPanicEndsTheProcess(t *testing.T) {
	dir := newKeyStore(t, false)
	var fatal atomic.Int32
	serve(t, RunConfig{Dir: dir, Fatal: func() { fatal.Add(1) }, Observe: func(op string, _ time.Duration, _ error) {
		if op == "ListAliases" {
			panic("at the worst moment")
		}
	}})
	c := dial(t, dir, client.Options{})
	if _, err := c.ListKeys(t.Context(), self, keymgr.Page{}); err != nil || fatal.Load() != 0 {
		t.Fatalf("before: %v, %d", err, fatal.Load())
	}
	if _, err := c.ListAliases(t.Context(), self, "", keymgr.Page{}); !errors.Is(err, keymgr.ErrInternal) || fatal.Load() != 1 {
		t.Fatalf("%v, ended %d times", err, fatal.Load())
	}
}
