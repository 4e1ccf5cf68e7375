package fs_test

import (
	"os"
	"testing"

	"github.com/kmsfs/kmsfs/fs/fstest"
)

func TestMain(m *testing.M) {
	os.Exit(fstest.Main(m, map[string]fstest.Program{
		"fsx":    fsxProgram,
		"hello":  helloProgram,
		"stress": fstest.Stress,
	}))
}
