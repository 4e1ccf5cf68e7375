package main

import (
	"encoding/json"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/kmsfs/kmsfs/mount"
)

// TestAlike: a change that is the same for many users and actions is one line; another one keeps its own.
func TestAlike(t *testing.T) {
	var diff mount.PolicyDiff
	var changes []string
	for _, user := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		for _, action := range []string{"List", "Read"} {
			changes = append(changes, `{"becomes":"denied","user":"`+user+`","action":"`+action+`","files":3,"path":"/x","reason":"none allows it"}`)
		}
	}
	changes = append(changes, `{"becomes":"allowed","user":"a","action":"Write","files":1,"path":"/y","reason":"statement \"s\""}`)
	if err := json.Unmarshal([]byte(`{"changes":[`+strings.Join(changes, ",")+`],"decisions":15,"files":3,"users":7,"differ":15}`), &diff); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 1, ' ', 0)
	printPolicyDiff(w, &diff)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	if got := strings.Join(strings.Fields(lines[0]), " "); got != `denied a, b, c, d, e and 2 more List, Read 3 files as /x none allows it` {
		t.Errorf("%q", got)
	}
	if got := strings.Join(strings.Fields(lines[1]), " "); got != `allowed a Write 1 files as /y statement "s"` {
		t.Errorf("%q", got)
	}
	if !strings.HasPrefix(lines[2], "15 decisions about 3 files by 7 users are compared; 15 differ") {
		t.Errorf("%q", lines[2])
	}
}
