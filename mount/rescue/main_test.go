package rescue

import (
	"testing"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// TestMain runs the tests apart: no other namespace holds a copy of their mounts.
func TestMain(m *testing.M) { mounttest.MainApart(m) }
