package interrupt

import (
	"testing"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

func TestMain(m *testing.M) { mounttest.MainApart(m) }
