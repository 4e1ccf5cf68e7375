package hsmtest

import (
	_ "embed" // for faultySource
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

//go:embed testdata/faulty.c
var faultySource []byte

// Faulty is a PKCS#11 module in front of SoftHSM's that misbehaves on demand.
type Faulty struct {
	*SoftHSM // Module is the faulty one
	dir      string
}

// NewFaulty makes a SoftHSM token behind a faulty module, which it builds with
// the C compiler.
func NewFaulty(t testing.TB) *Faulty {
	t.Helper()
	s := NewSoftHSM(t)
	dir := t.TempDir()
	src, lib := filepath.Join(dir, "faulty.c"), filepath.Join(dir, "faulty.so")
	if err := os.WriteFile(src, faultySource, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("cc", "-shared", "-fPIC", "-O1", "-o", lib, src, "-ldl").CombinedOutput()
	if err != nil {
		t.Fatalf("cc: %v: %s", err, out)
	}
	f := &Faulty{SoftHSM: s, dir: dir}
	t.Setenv("KMSFS_FAULTY_MODULE", s.Module)
	t.Setenv("KMSFS_FAULTY_FAULT", f.fault())
	t.Setenv("KMSFS_FAULTY_LOG", filepath.Join(dir, "log"))
	s.Module = lib
	t.Cleanup(func() { f.Heal(t) }) // nothing hangs on
	return f
}

func (f *Faulty) fault() string { return filepath.Join(f.dir, "fault") }

// Fail makes a function (login, find, decrypt, generate, aad) behave badly until
// Heal: a return value in hexadecimal, "hang", "crash" (one
// call only), "ignored" for aad,
// "readable" for generate.
func (f *Faulty) Fail(t testing.TB, function, behaviour string) {
	t.Helper()
	tmp := f.fault() + ".new"
	if err := os.WriteFile(tmp, []byte(function+" "+behaviour), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, f.fault()); err != nil {
		t.Fatal(err)
	}
}

// Heal ends what Fail began, hanging calls included.
func (f *Faulty) Heal(t testing.TB) {
	t.Helper()
	if err := os.Remove(f.fault()); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
}

// Calls is how often a function (initialize, login, decrypt, generate) was
// called.
func (f *Faulty) Calls(t testing.TB, function string) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(f.dir, "log"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(data)) {
		if line == function+"\n" {
			n++
		}
	}
	return n
}
