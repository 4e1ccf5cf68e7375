package memory_test

import (
	"testing"

	"github.com/kmsfs/kmsfs/meta/kv"
	"github.com/kmsfs/kmsfs/meta/kv/kvtest"
	"github.com/kmsfs/kmsfs/meta/kv/memory"
)

func TestSuite(t *testing.T) {
	kvtest.Run(t, func(*testing.T) kv.Store { return memory.New() })
}
