package e2e

import (
	"os"
	"testing"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

func TestMain(m *testing.M) {
	if os.Getenv(actorEnv) != "" {
		os.Exit(runActor())
	}
	if spec := os.Getenv(writerEnv); spec != "" { // a writer of TestKill
		os.Exit(runWriter(spec))
	}
	if name := os.Getenv(clientEnv); name != "" {
		os.Exit(runClient(name))
	}
	os.Exit(mounttest.Main(m))
}
