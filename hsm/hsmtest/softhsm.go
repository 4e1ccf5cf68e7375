package hsmtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt/locked"
)

// Where Debian and others put SoftHSM's module.
var modules = []string{
	"/usr/lib/softhsm/libsofthsm2.so",
	"/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib64/pkcs11/libsofthsm2.so",
	"/usr/lib/pkcs11/libsofthsm2.so",
}

// SoftHSM is a SoftHSM installation of one test: a configuration with a token
// directory of its own.
type SoftHSM struct {
	Module string
	Label  string // of the token
	PIN    string
	Dir    string // holds the tokens; renaming it away takes them away
	Conf   string // what SOFTHSM2_CONF is set to while the test runs
}

// NewSoftHSM makes a token with softhsm2-util in a temporary directory and sets
// SOFTHSM2_CONF for the test, so the test cannot be parallel. Without SoftHSM on
// this machine it skips the test, or fails it if KMSFS_REQUIRE is 1.
func NewSoftHSM(t testing.TB) *SoftHSM {
	t.Helper()
	util, module := find(t)
	base := t.TempDir()
	s := &SoftHSM{
		Module: module,
		Label:  "kmsfs test",
		PIN:    "31415926",
		Dir:    filepath.Join(base, "tokens"),
		Conf:   filepath.Join(base, "softhsm2.conf"),
	}
	if err := os.Mkdir(s.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n", s.Dir)
	if err := os.WriteFile(s.Conf, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", s.Conf)
	s.AddToken(t, util, s.Label)
	return s
}

// AddToken makes a further token; util is the path of softhsm2-util or "" to
// look for it.
func (s *SoftHSM) AddToken(t testing.TB, util, label string) {
	t.Helper()
	if util == "" {
		util, _ = find(t)
	}
	// The PIN is on the command line here, which only a test may do.
	out, err := exec.Command(util, "--init-token", "--free", "--label", label, "--pin", s.PIN, "--so-pin", "27182818").CombinedOutput()
	if err != nil {
		t.Fatalf("softhsm2-util: %v: %s", err, out)
	}
}

// Secret is the PIN in locked memory, for as long as the test runs.
func (s *SoftHSM) Secret(t testing.TB) *locked.Buffer { return Secret(t, s.PIN) }

// Secret puts a text into locked memory for as long as the test runs.
func Secret(t testing.TB, text string) *locked.Buffer {
	t.Helper()
	b, err := locked.FromBytes([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// Away renames the token directory away, as if the HSM were unplugged.
func (s *SoftHSM) Away(t testing.TB) { s.rename(t, s.Dir, s.Dir+".away") }

// Back undoes Away.
func (s *SoftHSM) Back(t testing.TB) { s.rename(t, s.Dir+".away", s.Dir) }

func (s *SoftHSM) rename(t testing.TB, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func find(t testing.TB) (util, module string) {
	t.Helper()
	util, err := exec.LookPath("softhsm2-util")
	for _, m := range modules {
		if _, serr := os.Stat(m); serr == nil {
			module = m
			break
		}
	}
	if err == nil && module != "" {
		return util, module
	}
	why := "SoftHSM is not installed (apt-get install softhsm2)"
	if err == nil {
		why = "softhsm2-util is there, but no module in " + strings.Join(modules, ", ")
	}
	if os.Getenv("KMSFS_REQUIRE") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
	return "", ""
}
