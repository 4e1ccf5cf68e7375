package fs

import "testing"

// TestNotMeasured: without a meter requests go to the filesystem itself.
func TestNotMeasured(t *testing.T) {
	f := &FS{}
	if metered(f, nil) != any(f) {
		t.Error("something is in between")
	}
}
