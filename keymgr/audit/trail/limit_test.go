package trail

import (
	"context"
	"errors"
	"testing"

	"github.com/kmsfs/kmsfs/hsm/awake"
	"github.com/kmsfs/kmsfs/keymgr/audit"
)

func TestAwait(t *testing.T) {
	over, cancel := awake.WithTimeout(t.Context(), 0)
	defer cancel()
	done := make(chan struct{})
	if err := await(t.Context(), over, done); !errors.Is(err, audit.ErrBlocked) {
		t.Errorf("nothing comes: %v", err)
	}
	close(done)
	for range 20 {
		if err := await(t.Context(), over, done); err != nil {
			t.Fatalf("it came when the limit was over: %v", err)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	limited, stop := awake.WithTimeout(gone, 1)
	defer stop()
	cancel()
	<-limited.Done()
	if err := await(gone, limited, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("who asked is gone: %v", err)
	}
}
