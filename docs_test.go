package kmsfs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestArchitectureNamesEveryPackage: docs/ARCHITECTURE.md has every package, and no other.
func TestArchitectureNamesEveryPackage(t *testing.T) {
	raw, err := os.ReadFile("docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, doc, found := strings.Cut(string(raw), "## Packages")
	if !found {
		t.Fatal("docs/ARCHITECTURE.md has no section Packages")
	}
	named := map[string]bool{}
	for _, name := range regexp.MustCompile(`[a-z0-9-]+(/[a-z0-9-]+)*`).FindAllString(doc, -1) {
		named[name] = true
	}
	packages := map[string]bool{}
	for _, p := range listPackages(t) {
		if name := strings.TrimPrefix(p.ImportPath, module+"/"); name != p.ImportPath {
			packages[name] = true
			if !named[name] {
				t.Errorf("docs/ARCHITECTURE.md, Packages, lacks %s", name)
			}
		}
	}
	for name := range named {
		if top, _, sub := strings.Cut(name, "/"); sub && packages[top] && !packages[name] {
			t.Errorf("docs/ARCHITECTURE.md has %s, which is no package", name)
		}
	}
}

// TestLinks: what a document links to is there.
func TestLinks(t *testing.T) {
	documents, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	decisions, err := filepath.Glob("docs/adr/*.md")
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	links := 0
	for _, name := range append(append(documents, decisions...), "README.md", "SECURITY.md", "CHANGELOG.md") {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(raw), -1) {
			links++
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", name, m[1])
			}
		}
	}
	if links < 50 {
		t.Errorf("only %d links are found", links)
	}
}
