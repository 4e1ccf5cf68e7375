package mount

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/mount/control"
	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// TestMain lets the test binary play the daemon that spawn starts.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "spawned" {
		os.Exit(spawned(os.Args[2]))
	}
	os.Exit(mounttest.Main(m))
}

func spawned(what string) int {
	ready := ReadyTo(ReadyFD)
	input, err := io.ReadAll(os.NewFile(InputFD, "input"))
	switch {
	case err != nil || string(input) != "the input":
		ready.Tell(errors.New("wrong input"))
	case what == "well":
		ready.Tell(nil)
		ready.Tell(errors.New("too late"))
	case what == "refuse":
		ready.Tell(advise(ErrInUse, "do %s", "this"))
	case what == "chatter":
		log := daemonLog(os.Getenv("KMSFS_TEST_LOG"))
		for range maxLog * 3 / 2 / 1000 {
			log.Info(strings.Repeat("x", 1000))
		}
		ready.Tell(nil)
	case what == "die":
		os.Stderr.WriteString("last words\n")
		return 3
	case what == "panic":
		go panic("at the worst moment")
		select {}
	}
	return 0
}

func TestSpawn(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	start := func(what string) error { return spawn([]string{"spawned", what}, log, []byte("the input")) }
	if err := start("well"); err != nil {
		t.Fatal(err)
	}
	err := start("refuse")
	var f *control.Failure
	if !errors.As(err, &f) || ClassOf(err) != ClassInUse || NextOf(err) != "do this" || err.Error() != ErrInUse.Error() {
		t.Fatalf("refusal: %v, class %s, next %q", err, ClassOf(err), NextOf(err))
	}
	err = start("die")
	if !errors.Is(err, ErrDaemon) || !strings.Contains(NextOf(err), log) || !strings.Contains(err.Error(), "exit status 3: last words") {
		t.Fatalf("death: %v, next %q", err, NextOf(err))
	}
	if text := string(must(os.ReadFile(log))(t)); text != "last words\n" {
		t.Fatalf("log: %q", text)
	}
	if st := must(os.Stat(log))(t); st.Mode().Perm() != 0o600 {
		t.Fatalf("mode of the log: %v", st.Mode())
	}
	if err := start("panic"); !errors.Is(err, ErrDaemon) || !strings.Contains(err.Error(), "exit status 2: panic: at the worst moment") {
		t.Fatalf("panic: %v", err)
	}
}
