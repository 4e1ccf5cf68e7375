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
			to, err := os.ReadFile(filepath.Join(filepath.Dir(name), m[1]))
			switch stat, _ := os.Stat(filepath.Join(filepath.Dir(name), m[1])); {
			case stat == nil:
				t.Errorf("%s links to %s, which is not there", name, m[1])
			case m[2] != "" && (err != nil || !anchors(string(to))[m[2][1:]]):
				t.Errorf("%s links to %s%s: there is no such heading", name, m[1], m[2])
			}
		}
	}
	if links < 50 {
		t.Errorf("only %d links are found", links)
	}
}

// anchors are the headings of a document as GitHub names them.
func anchors(doc string) map[string]bool {
	names := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(doc, -1) {
		name := regexp.MustCompile(`[^\pL\pN _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		names[strings.ReplaceAll(name, " ", "-")] = true
	}
	return names
}

// TestDecisions: each decision has its parts and a status, its list has it, and what another one has superseded says so in both.
func TestDecisions(t *testing.T) {
	files, err := filepath.Glob("docs/adr/0*.md")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d decisions, %v", len(files), err)
	}
	raw, err := os.ReadFile("docs/adr/README.md")
	if err != nil {
		t.Fatal(err)
	}
	list := string(raw)
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		doc, name := string(raw), filepath.Base(f)
		status := regexp.MustCompile(`(?m)^Status: accepted, \d{4}-\d\d-\d\d.*$`).FindString(doc)
		if status == "" {
			t.Errorf("%s has no status", name)
		}
		for _, part := range []string{"Context", "Decision", "Consequences"} {
			if !strings.Contains(doc, "\n## "+part) {
				t.Errorf("%s lacks %s", name, part)
			}
		}
		entry := regexp.MustCompile(`(?m)^- \[\d+\]\(` + regexp.QuoteMeta(name) + `\).*$`).FindString(list)
		if entry == "" {
			t.Errorf("docs/adr/README.md lacks %s", name)
		}
		if strings.Contains(status, "superseded by") != strings.Contains(entry, "superseded by") {
			t.Errorf("%s and docs/adr/README.md do not agree on what is superseded", name)
		}
	}
}
