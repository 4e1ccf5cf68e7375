package main

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// eachCommand calls fn for every command that help shows.
func eachCommand(cmd *cobra.Command, fn func(path string, cmd *cobra.Command)) {
	if cmd.Hidden {
		return
	}
	fn(strings.TrimPrefix(strings.TrimPrefix(cmd.CommandPath(), "kmsfs"), " "), cmd)
	for _, sub := range cmd.Commands() {
		eachCommand(sub, fn)
	}
}

func testRoot() *cobra.Command { return rootCommand(stdio{out: io.Discard, err: io.Discard}) }

// TestExamples has an example for each command that does something, and parses each as the command line that it is.
func TestExamples(t *testing.T) {
	used := map[string]bool{}
	eachCommand(testRoot(), func(path string, cmd *cobra.Command) {
		used[path] = true
		if cmd.Example == "" && !cmd.HasSubCommands() && path != "help" {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
	})
	for path, text := range examples {
		if !used[path] {
			t.Errorf("there is no command %q", path)
		}
		for _, line := range strings.Split(text, "\n") {
			if err := parseExample(path, line); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
	}
}

func parseExample(path, line string) error {
	words, err := splitCommand(line)
	if err != nil {
		return err
	}
	cmd, args, err := testRoot().Find(words[1:])
	if err != nil {
		return err
	}
	if want := strings.TrimSpace("kmsfs " + path); words[0] != "kmsfs" || path != "" && cmd.CommandPath() != want {
		return fmt.Errorf("calls %s, not %s", cmd.CommandPath(), want)
	}
	if err := cmd.ParseFlags(args); err != nil {
		return err
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}

// TestHelpIsWhole: every command says in a line what it does, every option names its value in capitals, and docs/CLI.md has both.
func TestHelpIsWhole(t *testing.T) {
	raw, err := os.ReadFile("../../docs/CLI.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(raw)
	name := regexp.MustCompile(`^[A-Z0-9:|=-]*$`)
	eachCommand(testRoot(), func(path string, cmd *cobra.Command) {
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: its short text is %q", cmd.CommandPath(), cmd.Short)
		}
		if words := strings.Fields(path); len(words) > 0 && !strings.Contains(doc, words[len(words)-1]) {
			t.Errorf("docs/CLI.md lacks %s", path)
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if value, _ := pflag.UnquoteUsage(f); !f.Hidden && !name.MatchString(value) {
				t.Errorf("%s --%s %s: the value has no name", cmd.CommandPath(), f.Name, value)
			}
			if f.Name == "help" || f.Name == "version" || f.Hidden {
				return
			}
			pattern := `--` + f.Name + `\b`
			if f.Shorthand != "" {
				pattern += `|[ \[]-` + f.Shorthand + `\b`
			}
			if !regexp.MustCompile(pattern).MatchString(doc) {
				t.Errorf("docs/CLI.md lacks --%s of %s", f.Name, cmd.CommandPath())
			}
		})
	})
}

// TestDocumentedFlags: no option is in docs/CLI.md that no command has.
func TestDocumentedFlags(t *testing.T) {
	raw, err := os.ReadFile("../../docs/CLI.md")
	if err != nil {
		t.Fatal(err)
	}
	flags := map[string]bool{"endpoint-url": true, "region": true} // of aws
	eachCommand(testRoot(), func(_ string, cmd *cobra.Command) {
		cmd.InitDefaultHelpFlag()
		cmd.InitDefaultVersionFlag()
		cmd.Flags().VisitAll(func(f *pflag.Flag) { flags[f.Name] = true })
	})
	found := regexp.MustCompile(`--([a-z][a-z0-9-]+)`).FindAllStringSubmatch(string(raw), -1)
	if len(found) < 50 {
		t.Fatalf("only %d options are found", len(found))
	}
	for _, m := range found {
		if !flags[m[1]] {
			t.Errorf("docs/CLI.md has --%s, which no command has", m[1])
		}
	}
}

// splitCommand splits a line as a shell does that knows words and double quotes.
func splitCommand(s string) (words []string, err error) {
	word, quoted, any := "", false, false
	for _, r := range s {
		switch {
		case r == '"':
			quoted, any = !quoted, true
		case r == ' ' && !quoted:
			if any {
				words = append(words, word)
			}
			word, any = "", false
		default:
			word, any = word+string(r), true
		}
	}
	if quoted {
		return nil, fmt.Errorf("%q: a quote is not closed", s)
	}
	if any {
		words = append(words, word)
	}
	return words, nil
}
