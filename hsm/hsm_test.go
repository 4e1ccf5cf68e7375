package hsm_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/hsm"
)

func TestKeyID(t *testing.T) {
	id := hsm.NewKeyID()
	if id == hsm.NewKeyID() {
		t.Error("two equal ids")
	}
	for _, s := range []string{id.String(), strings.ToUpper(id.String())} {
		if got, err := hsm.ParseKeyID(s); err != nil || got != id {
			t.Errorf("parse %q: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "0", id.String()[1:], id.String() + "0", strings.Repeat("g", 32), strings.Repeat("0", 64)} {
		if _, err := hsm.ParseKeyID(s); !errors.Is(err, hsm.ErrKeyID) {
			t.Errorf("parse %q: %v, want %v", s, err, hsm.ErrKeyID)
		}
	}
	data, err := json.Marshal(map[string]hsm.KeyID{"id": id})
	if want := `{"id":"` + id.String() + `"}`; err != nil || string(data) != want {
		t.Errorf("in JSON %s, %v, want %s", data, err, want)
	}
	var back map[string]hsm.KeyID
	if err := json.Unmarshal(data, &back); err != nil || back["id"] != id {
		t.Errorf("from JSON %v, %v", back, err)
	}
}

// TestErrorClasses: which errors are a special case of which.
func TestErrorClasses(t *testing.T) {
	if !errors.Is(hsm.ErrTimeout, hsm.ErrTokenAway) || !errors.Is(hsm.ErrKeyMismatch, hsm.ErrKeyNotFound) {
		t.Error("a special error is not its general one")
	}
	if errors.Is(hsm.ErrTokenAway, hsm.ErrTimeout) || errors.Is(hsm.ErrKeyNotFound, hsm.ErrTokenAway) || errors.Is(hsm.ErrTokenAway, hsm.ErrKeyNotFound) {
		t.Error("different errors are one")
	}
}

func TestContextError(t *testing.T) {
	if err := hsm.ContextError(t.Context()); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	if err := hsm.ContextError(ctx); !errors.Is(err, hsm.ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("deadline: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if err := hsm.ContextError(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, hsm.ErrTokenAway) {
		t.Errorf("cancelled: %v", err)
	}
}
