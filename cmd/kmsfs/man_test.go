package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestManPage: every command that does something, and every exit code, is in the page, and nothing in a text is taken for a request of man(7).
func TestManPage(t *testing.T) {
	var out strings.Builder
	root := testRoot()
	m := manPage{w: &out}
	m.page(root)
	page := out.String()
	eachCommand(root, func(path string, cmd *cobra.Command) {
		if !cmd.HasSubCommands() && path != "help" && !strings.Contains(page, ".SS "+roff("kmsfs "+path)) {
			t.Errorf("the page lacks %q", path)
		}
	})
	for _, e := range exits {
		if !strings.Contains(page, roff(e.when)) {
			t.Errorf("the page lacks exit code %d", e.code)
		}
	}
	request := regexp.MustCompile(`^\.(TH|SH|SS|TP|PP|B|BR|I|nf|fi)\b`)
	for _, line := range strings.Split(page, "\n") {
		if (strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'")) && !request.MatchString(line) {
			t.Errorf("%q is taken for a request", line)
		}
	}
	if got := roff(".x -y \\z"); got != `\&.x \-y \ez` {
		t.Errorf("roff: %q", got)
	}
}
