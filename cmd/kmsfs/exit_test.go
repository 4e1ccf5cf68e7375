package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/mount"
)

// TestExitTable holds docs/CLI.md to the table.
func TestExitTable(t *testing.T) {
	doc, err := os.ReadFile("../../docs/CLI.md")
	if err != nil {
		t.Fatal(err)
	}
	codes, classes := map[int]bool{0: true}, map[mount.Class]bool{}
	for _, e := range exits {
		if codes[e.code] || classes[e.class] {
			t.Errorf("code %d or class %s twice", e.code, e.class)
		}
		codes[e.code], classes[e.class] = true, true
		row := fmt.Sprintf("| %d | %s | %s |", e.code, e.class, e.when)
		if !strings.Contains(string(doc), row+"\n") {
			t.Errorf("docs/CLI.md lacks: %s", row)
		}
	}
}

func TestExitCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("anything"), 1},
		{fmt.Errorf("x: %w", mount.ErrUsage), 2},
		{fmt.Errorf("x: %w", mount.ErrMountPoint), 7},
		{fmt.Errorf("x: %w", keymgr.ErrWrongSecret), 12},
		{fmt.Errorf("x: %w", keymgr.ErrLocked), 13},
		{fmt.Errorf("x: %w", keymgr.ErrDependencyTimeout), 14},
		{fmt.Errorf("x: %w", keymgr.ErrDisabled), 15},
		{errors.Join(errors.New("y"), fmt.Errorf("x: %w", mount.ErrFaults)), 19},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
}

// TestEveryClassHasACode runs over the classes that package mount names.
func TestEveryClassHasACode(t *testing.T) {
	for _, class := range mount.Classes() {
		found := false
		for _, e := range exits {
			found = found || e.class == class
		}
		if !found {
			t.Errorf("class %s has no exit code", class)
		}
	}
}
