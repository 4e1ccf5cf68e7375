package kmsfs_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"sort"
	"strings"
	"testing"
)

const module = "github.com/kmsfs/kmsfs"

// allowed is the import table of docs/ARCHITECTURE.md: for each package, the packages of this module that it may import, tests excluded. A
// package that is missing here fails the test, so that a new one gets its place before it gets its code.
var allowed = map[string][]string{
	"blockcrypt":        {},
	"blockcrypt/locked": {},

	"hsm":         {"blockcrypt/locked"},
	"hsm/soft":    {"hsm", "blockcrypt/locked"},
	"hsm/pkcs11":  {"hsm/awake", "hsm", "blockcrypt/locked"},
	"hsm/worker":  {"hsm/awake", "hsm", "blockcrypt/locked"},
	"hsm/kms":     {"hsm", "blockcrypt/locked"},
	"hsm/awake":   {},
	"hsm/hsmtest": {"hsm", "blockcrypt/locked"},

	"meta/kv":               {},
	"meta/kv/memory":        {"meta/kv"},
	"meta/kv/kvtest":        {"meta/kv"},
	"meta/kv/local":         {"meta/kv", "meta/kv/local/beneath", "blockcrypt", "blockcrypt/locked"},
	"meta/kv/local/beneath": {},

	"meta":          {"meta/kv", "blockcrypt"},
	"meta/metatest": {"meta", "meta/kv", "meta/kv/memory", "blockcrypt"},

	"keymgr/audit": {},
	"keymgr/fair":  {},

	"keymgr/localhttp": {},

	"keymgr":          {"hsm/awake", "hsm", "meta/kv", "blockcrypt", "blockcrypt/locked"},
	"keymgr/keystore": {"keymgr", "hsm", "hsm/kms", "hsm/soft", "hsm/worker", "meta/kv", "blockcrypt", "blockcrypt/locked"},
	"keymgr/wire":     {"keymgr", "blockcrypt"},
	"keymgr/server":   {"hsm/awake", "keymgr", "keymgr/fair", "keymgr/keystore", "keymgr/localhttp", "keymgr/wire", "hsm", "blockcrypt", "blockcrypt/locked"},
	"keymgr/client":   {"hsm/awake", "keymgr", "keymgr/wire", "blockcrypt", "blockcrypt/locked"},

	"fs/object":    {},
	"fs/transport": {},
	"fs/posix":     {},
	"fs/dirpolicy": {"meta", "blockcrypt", "keymgr", "keymgr/audit", "keymgr/policy"},
	"fs/identity":  {"keymgr", "keymgr/policy"},
	"fs/access":    {"hsm/awake", "fs/dirpolicy", "fs/identity", "meta", "blockcrypt", "keymgr", "keymgr/audit", "keymgr/fair", "keymgr/policy"},
	"fs/keyring":   {"hsm/awake", "meta", "blockcrypt", "blockcrypt/locked", "keymgr", "keymgr/fair"},
	"fs/codec":     {"meta", "blockcrypt"},
	"fs/content":   {"fs/codec", "fs/object", "meta", "meta/kv", "blockcrypt"},
	"fs":           {"fs/access", "fs/content", "fs/object", "fs/transport", "meta", "blockcrypt", "keymgr", "keymgr/audit"},
	"fs/fstest": {"fs", "fs/content", "fs/object", "fs/transport", "fs/keyring", "meta", "meta/metatest", "meta/kv", "meta/kv/memory",
		"meta/kv/local", "blockcrypt", "blockcrypt/locked", "keymgr", "keymgr/audit"},

	"mount":           {"*"},
	"mount/mounttest": {"hsm/awake"},

	"bench": {},

	"cmd/kmsfs":            {"mount", "mount/transfer", "keymgr", "keymgr/audit", "keymgr/audit/trail", "blockcrypt", "blockcrypt/locked"},
	"cmd/kmsfs-hsm-worker": {"hsm", "hsm/worker", "hsm/pkcs11", "blockcrypt/locked"},
}

// inherits names the trees whose packages share their root's allowance (and may import each other).
var inherits = []string{"mount", "bench", "cmd/kmsfs", "keymgr"}

// onlyImporter holds the outside packages that one place alone may import, and why.
var onlyImporter = map[string]struct {
	may []string
	why string
}{
	"github.com/hanwen/go-fuse/v2":   {[]string{"fs", "bench"}, "the filesystem's code knows how FUSE speaks, nobody else does"},
	"github.com/dgraph-io/badger/v4": {[]string{"meta/kv/local"}, "the store behind the journal can be replaced in one place"},
	"github.com/miekg/pkcs11":        {[]string{"hsm/pkcs11"}, "cgo and vendors' modules stay in the worker process"},
	"go.yaml.in/yaml/v3":             {[]string{"fs/dirpolicy"}, "one reader decides what a policy says"},
	"github.com/spf13/cobra":         {[]string{"cmd"}, "flags are read in cmd only"},
	"github.com/spf13/pflag":         {[]string{"cmd"}, "flags are read in cmd only"},
	"github.com/klauspost/compress":  {[]string{"fs/codec", "keymgr/audit/trail"}, "limits on what decompression takes are set where it is used: file blocks, closed segments of the audit log"},
	"github.com/aws/aws-sdk-go-v2":   {[]string{"hsm/kms"}, "the client of another key manager stays behind the token's contract"},
	"github.com/prometheus":          {[]string{"mount/metrics"}, "figures are counted through small interfaces, and cost nothing where nobody asks for them"},
	"C":                              {[]string{"hsm/pkcs11"}, "cgo stays in the worker process"},
}

// why says what a refused edge would break, by the importing package's first element.
var why = map[string]string{
	"blockcrypt": "the cipher is bytes in, bytes out: it must be readable and testable without the rest",
	"hsm":        "a token knows keys and bytes, not files or policies",
	"meta":       "metadata knows rows and keys, not how content lies on disk, nor FUSE",
	"keymgr":     "the key manager runs in a process of its own and must not depend on the filesystem",
	"fs":         "the filesystem sees its stores through their contracts; concrete drivers are chosen in mount",
	"bench":      "measurements use the commands that users have",
	"cmd":        "a command parses, calls, prints, exits; wiring is mount's",
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		packages = append(packages, p)
	}
}

// allowance returns what the package may import and the tree it belongs to ("" for none).
func allowance(name string) (list []string, tree string, ok bool) {
	for _, root := range inherits {
		if name == root || strings.HasPrefix(name, root+"/") {
			if list, ok := allowed[name]; ok {
				return list, root, true
			}
			return allowed[root], root, allowed[root] != nil
		}
	}
	list, ok = allowed[name]
	return list, "", ok
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s || x == "*" {
			return true
		}
	}
	return false
}

func under(tree, name string) bool {
	return tree != "" && (name == tree || strings.HasPrefix(name, tree+"/"))
}

func TestImports(t *testing.T) {
	packages := listPackages(t)
	if len(packages) < 10 {
		t.Fatalf("go list found %d packages", len(packages))
	}
	seen := map[string]bool{}
	for _, p := range packages {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		if name == "" {
			continue
		}
		seen[name] = true
		list, tree, ok := allowance(name)
		if !ok {
			t.Errorf("%s: not in the import table: give it its place in deps_test.go and docs/ARCHITECTURE.md", name)
			continue
		}
		for _, imp := range p.Imports {
			checkImport(t, name, imp, list, tree)
		}
	}
	for name := range allowed {
		if !seen[name] {
			t.Errorf("%s: in the import table, but there is no such package", name)
		}
	}
}

func checkImport(t *testing.T, name, imp string, list []string, tree string) {
	t.Helper()
	if rest, ours := strings.CutPrefix(imp, module+"/"); ours {
		if !contains(list, rest) && !under(tree, rest) {
			t.Errorf("%s imports %s: %s", name, rest, why[strings.SplitN(name, "/", 2)[0]])
		}
		return
	}
	for outside, rule := range onlyImporter {
		if imp != outside && !strings.HasPrefix(imp, outside+"/") {
			continue
		}
		allowed := false
		for _, m := range rule.may {
			allowed = allowed || under(m, name)
		}
		if !allowed {
			sort.Strings(rule.may)
			t.Errorf("%s imports %s, which only %s may: %s", name, imp, strings.Join(rule.may, ", "), rule.why)
		}
	}
}
