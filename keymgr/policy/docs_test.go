package policy

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentation holds docs/API.md to the tables of operators and condition keys, in both directions.
func TestDocumentation(t *testing.T) {
	doc, err := os.ReadFile("../../docs/API.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(doc), "\n## Key policies\n")
	section, _, _ = strings.Cut(section, "\n## ")
	_, byOperator, _ := strings.Cut(section, "\n### Condition operators\n")
	byOperator, byKey, found := strings.Cut(byOperator, "\n### Condition keys\n")
	byKey, _, _ = strings.Cut(byKey, "\n### ")
	if !found {
		t.Fatal("docs/API.md has no condition operators or condition keys")
	}

	written := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*?) \\|").FindAllStringSubmatch(byOperator, -1) {
		for _, name := range strings.Split(row[1], ", ") {
			written[strings.Trim(name, "`")] = true
		}
	}
	for _, op := range operators {
		if !written[op.name] {
			t.Errorf("docs/API.md lacks the operator %s", op.name)
		}
	}
	if len(written) != len(operators) {
		t.Errorf("docs/API.md has %d operators, there are %d", len(written), len(operators))
	}

	rows := 0
	for range regexp.MustCompile("(?m)^\\| `").FindAllString(byKey, -1) {
		rows++
	}
	if rows != len(keys) {
		t.Errorf("docs/API.md has %d condition keys, there are %d", rows, len(keys))
	}
	for _, k := range keys {
		name, values := k.name, "one"
		if k.family {
			name += "NAME"
		}
		if k.multi {
			values = "several"
		}
		if row := fmt.Sprintf("\n| `%s` | %s | %s | ", name, k.typ, values); !strings.Contains(byKey, row) {
			t.Errorf("docs/API.md lacks the row %s", row[1:])
		}
	}
}

// TestDocumentedExample: the policy that stands in docs/API.md is one.
func TestDocumentedExample(t *testing.T) {
	doc, err := os.ReadFile("../../docs/API.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(doc), "\n## Key policies\n")
	start := strings.Index(section, "\n    {\n")
	end := strings.Index(section, "\n    }\n")
	if start < 0 || end < start {
		t.Fatal("docs/API.md has no example")
	}
	d, err := Parse([]byte(section[start : end+len("\n    }\n")]))
	if err != nil || len(d.statements) != 2 {
		t.Errorf("example: %v, %v", d, err)
	}
}

// TestKnownActions: the list of actions has no doubles, and each is matched by its own name.
func TestKnownActions(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range kmsActions {
		if a, why := (&Rules{}).parseAction("kms:" + name); why != "" || seen[name] || !a.matches(fold("kms:"+name)) {
			t.Errorf("action %s: %s, seen %v", name, why, seen[name])
		}
		seen[name] = true
	}
}
