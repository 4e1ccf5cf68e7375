package e2e

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/fs/access"
	"github.com/kmsfs/kmsfs/mount"
	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// someone is a user of the matrix. Groups are those that its processes have, whatever the group file says.
type someone struct {
	name   string
	uid    uint32
	groups map[string]uint32
}

var people = []someone{
	{"root", 0, map[string]uint32{"root": 0}},
	{"daemon", 1, map[string]uint32{"daemon": 1}},
	{"bin", 2, map[string]uint32{"bin": 2, "staff": 50}},
	{"sys", 3, map[string]uint32{"sys": 3, "audio": 29}},
	{"man", 6, map[string]uint32{"staff": 50, "audio": 29}},
	{"lp", 7, map[string]uint32{"lp": 7}},
	{"mail", 8, map[string]uint32{"mail": 8, "staff": 50}},
	{"news", 9, map[string]uint32{"news": 9}},
}

// helper is a user whom every policy allows everything: it prepares what the others are asked to do.
const helper, helperUID = "uucp", 10

// rule is a statement, as the test's own evaluator understands it.
type rule struct {
	deny                   bool
	users, groups, notUser []string // any of them; nil: everybody ("*")
	actions                []string // nil: all
	programs               []int    // indices; nil: any
	digests                []int
	path                   string // a prefix within the zone; "": any
	notYet                 bool   // begins in the future
	soon                   bool   // ends in the future
}

// matrixPolicy is a policy of the matrix. inside: its directory lies in that of the one before it.
type matrixPolicy struct {
	name   string
	rules  []rule
	learn  bool
	inside bool
}

var matrix = []matrixPolicy{
	{name: "one user", rules: []rule{{users: []string{"daemon"}}}},
	{name: "readers and a writer", rules: []rule{{groups: []string{"staff"}, actions: []string{"List", "Read"}}, {users: []string{"bin"}, actions: []string{"Write", "Create"}}}},
	{name: "nested, for others", rules: []rule{{groups: []string{"audio"}}}, inside: true},
	{name: "uid 0 denied", rules: []rule{{}, {deny: true, users: []string{"root"}}}},
	{name: "everybody but", rules: []rule{{}, {deny: true, notUser: []string{"lp", "mail", helper}, actions: []string{"Write", "Delete", "Create"}}}},
	{name: "programs", rules: []rule{{users: []string{"daemon", "root"}, programs: []int{0, 2}}, {groups: []string{"staff"}, programs: []int{1}, actions: []string{"Read"}}}},
	{name: "digests", rules: []rule{{users: []string{"daemon", "lp"}, digests: []int{3}}, {groups: []string{"audio"}, digests: []int{0, 1}, actions: []string{"List", "SetAttr"}}}},
	{name: "a program denied", rules: []rule{{users: []string{"root", "daemon", "sys"}}, {deny: true, programs: []int{1}, actions: []string{"Read", "Write"}}}},
	{name: "paths", rules: []rule{{groups: []string{"staff", "root"}, path: "/drafts/"}, {users: []string{"lp"}, actions: []string{"List"}}, {deny: true, users: []string{"mail"}, path: "/drafts/", actions: []string{"Delete", "Rename"}}}},
	{name: "times", rules: []rule{{users: []string{"daemon"}, notYet: true}, {users: []string{"bin"}, soon: true}, {users: []string{"news"}}, {deny: true, users: []string{"news"}, notYet: true}}},
	{name: "learning", rules: []rule{{users: []string{"daemon"}}, {deny: true, users: []string{"lp"}}}, learn: true},
	{name: "deny beats", rules: []rule{{groups: []string{"staff"}}, {deny: true, groups: []string{"audio"}, actions: []string{"Read", "Rename"}}, {users: []string{"man"}}}},
}

var matrixActions = []string{"List", "Read", "Write", "Create", "Delete", "Rename", "SetAttr"}

// allows is the reference: a table of who is named, looked through rule by rule.
func (p matrixPolicy) allows(who someone, program int, action, path string) bool {
	allowed := p.learn
	for _, r := range p.rules {
		named := r.users == nil && r.groups == nil && r.notUser == nil || slices.Contains(r.users, who.name) || r.notUser != nil && !slices.Contains(r.notUser, who.name)
		for _, g := range r.groups {
			_, in := who.groups[g]
			named = named || in
		}
		applies := named && !r.notYet && (r.actions == nil || slices.Contains(r.actions, action)) && (r.programs == nil || slices.Contains(r.programs, program)) &&
			(r.digests == nil || slices.Contains(r.digests, program)) && strings.HasPrefix(path, r.path)
		if applies && r.deny {
			return false
		}
		allowed = allowed || applies
	}
	return allowed
}

// source writes the policy in the notation under test.
func (p matrixPolicy) source(programs []string, digests []string) string {
	var b strings.Builder
	b.WriteString("version: 1\n")
	if p.learn {
		fmt.Fprintf(&b, "learn: %s\n", time.Now().Add(24*time.Hour).UTC().Format(time.RFC3339))
	}
	b.WriteString("statements:\n  - {effect: allow, users: [" + helper + "], actions: ['*']}\n  - {effect: allow, users: [root], actions: [Admin]}\n")
	quoted := func(list []string, of []int) []string {
		var out []string
		for _, i := range of {
			out = append(out, list[i])
		}
		return out
	}
	for _, r := range p.rules {
		effect := "allow"
		if r.deny {
			effect = "deny"
		}
		fmt.Fprintf(&b, "  - effect: %s\n", effect)
		line := func(name string, list []string) {
			if list != nil {
				fmt.Fprintf(&b, "    %s: ['%s']\n", name, strings.Join(list, "', '"))
			}
		}
		if r.users == nil && r.groups == nil && r.notUser == nil {
			line("principals", []string{"*"})
		}
		line("users", r.users)
		line("groups", r.groups)
		line("not_users", r.notUser)
		line("programs", quoted(programs, r.programs))
		line("program_sha256", quoted(digests, r.digests))
		actions := r.actions
		if actions == nil {
			actions = matrixActions
		}
		line("actions", actions)
		if r.path != "" {
			line("paths", []string{r.path + "*"})
		}
		if r.notYet {
			b.WriteString("    not_before: 2100-01-01\n")
		}
		if r.soon {
			b.WriteString("    not_after: 2100-01-01\n")
		}
	}
	return b.String()
}

// newMemoryRig is newRig with key store and volume in memory: what is recorded durably, a line for each new user of a zone, costs no disk.
func newMemoryRig(t *testing.T) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "kmsfs-e2e-")
	mounttest.Need(t, err == nil, "no /dev/shm: %v", err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return &rig{mounttest.NewRig(t, mounttest.Options{Store: filepath.Join(dir, "keys"), Volume: filepath.Join(dir, "vault")})}
}

// TestPolicyMatrix asks each user with each program for each action under each policy, on a real mount, and compares with the table. In the short form a seeded part of it.
func TestPolicyMatrix(t *testing.T) {
	mounttest.NeedRoot(t)
	r := newMemoryRig(t)
	r.Init()
	r.Mount()
	if err := os.Chmod(r.Mnt, 0o777); err != nil {
		t.Fatal(err)
	}
	var programs, digests []string
	for i := range 4 {
		path := actorProgram(t, r.Dir, fmt.Sprintf("program%d", i))
		programs, digests = append(programs, path), append(digests, fmt.Sprintf("%x", sha256.Sum256(read(t, path))))
	}
	prepare := newActor(t, helper, programs[0], helperUID)
	var zones []string
	for i, p := range matrix {
		dir := filepath.Join(r.Mnt, fmt.Sprintf("zone%d", i))
		if p.inside {
			dir = filepath.Join(zones[i-1], "nested")
		}
		prepare.ok("Mkdir", dir)
		file := filepath.Join(r.Dir, "policy.yaml")
		write(t, file, []byte(p.source(programs, digests)))
		r.Must("policy", "set", dir, file)
		prepare.ok("Mkdir", filepath.Join(dir, "drafts"))
		zones = append(zones, dir)
	}
	seed := mounttest.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	actors := map[[2]int]*actor{}
	for i, who := range people {
		for j, program := range programs {
			var groups []uint32
			for _, g := range who.groups {
				groups = append(groups, g)
			}
			actors[[2]int{i, j}] = newActor(t, who.name, program, who.uid, groups...)
		}
	}
	asked, allowed, renamed := 0, 0, 0
	for k, p := range matrix {
		for i, who := range people {
			for j := range programs {
				for _, action := range matrixActions {
					for _, sub := range []string{"/", "/drafts/"} {
						if !mounttest.Long() && rng.IntN(12) != 0 {
							continue
						}
						want := p.allows(who, j, action, sub+"f")
						if action == "List" { // the directory itself
							want = p.allows(who, j, action, strings.TrimSuffix(sub, "/")+map[bool]string{true: "/"}[sub == "/"])
						}
						got := try(prepare, actors[[2]int{i, j}], action, zones[k]+sub)
						if ok := got == "ok"; ok != want || !ok && got != "EACCES" {
							t.Errorf("%s: %s with program %d, %s in %s: %s, want allowed %v\n%s", p.name, who.name, j, action, sub, got, want, p.source(programs, digests))
						}
						asked++
						if want {
							allowed++
						}
						if want && action == "Rename" { // both names are decided
							renamed++
						}
					}
				}
			}
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d requests by %d users with %d programs under %d policies, %d of them allowed", asked, len(people), len(programs), len(matrix), allowed)
	if allowed == 0 || allowed == asked {
		t.Error("the matrix shows nothing")
	}
	// Each refusal has its event and there is no other; each allowed request has one or more: both names of a rename, say. The helper's do not count.
	for decision, want := range map[string]int{"deny": asked - allowed, "allow": allowed + renamed} {
		n := 0
		for line := range strings.Lines(r.Must("audit", "query", "--json", "--decision", decision, "--path", "/zone*")) {
			if !strings.Contains(line, ":unix/user/"+helper+`"`) && !strings.Contains(line, "AdministerZone") && !strings.Contains(line, "PutZonePolicy") {
				n++
			}
		}
		if n < want || decision == "deny" && n != want {
			t.Errorf("%d events say %s, there were %d requests", n, decision, want)
		}
	}
	// Without statements all would be allowed that was refused, and nothing else would change: what the check decides anew is what was decided then. Groups of the group file alone count in it.
	open := filepath.Join(r.Dir, "open.yaml")
	write(t, open, []byte("version: 1\n"))
	for _, k := range []int{0, 3, 4, 7} {
		refused := strings.Count(r.Must("audit", "query", "--json", "--decision", "deny", "--path", fmt.Sprintf("/zone%d", k)), "\n")
		var diff mount.PolicyDiff
		decode(t, r.Must("policy", "check", "--json", zones[k], open), &diff)
		if diff.Past.NewlyAllowed != refused || diff.Past.NewlyDenied != 0 {
			t.Errorf("%s: %d requests were refused; policy check: %+v", matrix[k].name, refused, diff.Past)
		}
		t.Logf("%s: %d of %d requests were refused", matrix[k].name, refused, diff.Past.Requests)
	}
	if out := r.Must("status"); !strings.Contains(out, "/zone10, learns until") {
		t.Errorf("status does not say what learns: %s", out)
	}
	learnt := r.Must("policy", "suggest", zones[10])
	if !strings.Contains(learnt, "users: [") {
		t.Errorf("nothing was learnt: %s", learnt)
	}
	r.Umount()
	r.Fsck()
	r.Mount()
	if again := r.Must("policy", "suggest", zones[10]); again != learnt {
		t.Errorf("after a remount other things were learnt: %s\nbefore: %s", again, learnt)
	}
	if got := actors[[2]int{1, 0}].do("List", zones[0]); got != "ok" {
		t.Errorf("after a remount: %s", got)
	}
	if got := actors[[2]int{2, 0}].do("List", zones[0]); got != "EACCES" {
		t.Errorf("after a remount: %s", got)
	}
}

// try has an actor do an action in a directory, after what it needs was prepared, and takes back what it did.
func try(prepare, a *actor, action, dir string) string {
	f, other := dir+"f", dir+"g"
	switch action {
	case "List":
		return strings.Fields(a.do("List", dir))[0]
	case "Create":
		got := a.do("Create", f)
		if got == "ok" {
			prepare.ok("Delete", f)
		}
		return got
	}
	prepare.ok("Create", f)
	var got string
	switch action {
	case "Rename":
		if got = a.do("Rename", f, other); got == "ok" {
			prepare.ok("Delete", other)
			return got
		}
	case "Delete":
		if got = a.do("Delete", f); got == "ok" {
			return got
		}
	default:
		got = strings.Fields(a.do(action, f))[0]
	}
	prepare.ok("Delete", f)
	return got
}

// TestHotZone: a zone's key in memory because of one user is of no use to another, whom the key's policy and grants do not know.
func TestHotZone(t *testing.T) {
	mounttest.NeedRoot(t)
	r := newMemoryRig(t)
	r.Init()
	r.Mount()
	dir, program := filepath.Join(r.Mnt, "a"), actorProgram(t, r.Dir, "program")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	const account = "arn:aws:iam::000000000000:"
	keyPolicy := filepath.Join(r.Dir, "key.json")
	write(t, keyPolicy, []byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"`+account+`unix/user/root"},"Action":"kms:*","Resource":"*"}}`))
	r.Must("key", "create", "--alias", "guarded", "--policy", keyPolicy)
	file := filepath.Join(r.Dir, "p.yaml")
	write(t, file, []byte("version: 1\nkeys: [alias/guarded]\nstatements:\n  - {effect: allow, users: [root, daemon, bin], actions: ['*']}\n"))
	r.Must("policy", "set", dir, file)
	write(t, filepath.Join(dir, "f"), []byte("secret"))
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "f"), 0o666); err != nil {
		t.Fatal(err)
	}
	alice, bob := newActor(t, "daemon", program, 1), newActor(t, "bin", program, 2)
	grant := func(user, operations string) string {
		out := r.Must("grant", "create", "alias/guarded", "--grantee", account+"unix/user/"+user, "--operations", operations)
		return strings.Fields(out)[1]
	}
	grant("daemon", "Decrypt,GenerateDataKey")
	if got := alice.ok("Read", dir+"/f"); got != "secret" {
		t.Errorf("alice reads %q", got)
	}
	for _, op := range [][]string{{"Read", dir + "/f"}, {"List", dir}, {"Write", dir + "/f"}, {"Create", dir + "/g"}, {"Delete", dir + "/f"}} {
		if got := bob.do(op...); got != "EACCES" {
			t.Errorf("bob, %s: %s", op, got)
		}
	}
	res := r.Must("explain", "--user", "bin", "--action", "Read", "--json", dir+"/f")
	if !strings.Contains(res, `"key-denied"`) || !strings.Contains(res, `"kms:Decrypt"`) {
		t.Errorf("explain: %s", res)
	}
	id := grant("bin", "Decrypt")
	mounttest.Eventually(t, 30*time.Second, "bob's grant counts", func() bool { return bob.do("Read", dir+"/f") == "ok secret" })
	if got := bob.do("Write", dir+"/f"); got != "EACCES" { // a grant of Decrypt alone is a right to read
		t.Errorf("bob writes: %s", got)
	}
	r.Must("grant", "revoke", "alias/guarded", id)
	mounttest.Eventually(t, 30*time.Second, "bob's grant is over", func() bool { return bob.do("Read", dir+"/f") == "EACCES" })
	alice.ok("Read", dir+"/f")

	// The directory's own name is part of what its key is bound to: a rename wraps it anew, by the rights of whoever renames.
	if err := os.Chmod(r.Mnt, 0o777); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(r.Mnt, "b")
	if got := alice.do("Rename", dir, other); got != "EACCES" { // her grant does not have ReEncrypt
		t.Errorf("alice renames: %s", got)
	}
	if err := os.Rename(dir, other); err != nil {
		t.Fatal(err)
	}
	if got := alice.ok("Read", other+"/f"); got != "secret" {
		t.Errorf("after the rename: %q", got)
	}
	r.Remount()
	if got := alice.ok("Read", other+"/f"); got != "secret" {
		t.Errorf("after the rename and a remount: %q", got)
	}
	if out := r.Must("info", other+"/f"); !strings.Contains(out, "kmsfs:name=b") {
		t.Errorf("info: %s", out)
	}
	r.Must("lock", other)
	r.Remount()
	if got := alice.do("Read", other+"/f"); got != "EKEYREVOKED" {
		t.Errorf("a lock after a remount: %s", got)
	}
	r.Must("unlock", other)
	alice.ok("Read", other+"/f")
}

// TestFakedProgram: a program that another one is mounted over, in a mount namespace of its owner's, is not believed.
func TestFakedProgram(t *testing.T) {
	mounttest.NeedRoot(t)
	mounttest.NeedProgram(t, "unshare", "mount", "awk", "setpriv")
	r := newMemoryRig(t)
	r.Init()
	r.Mount()
	dir := filepath.Join(r.Mnt, "a")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	good, evil := actorProgram(t, r.Dir, "good"), actorProgram(t, r.Dir, "evil")
	file := filepath.Join(r.Dir, "p.yaml")
	write(t, file, []byte("version: 1\nstatements:\n  - {effect: allow, users: [root], actions: ['*']}\n  - {effect: allow, users: [daemon], actions: ['*'], programs: ["+good+"]}\n"))
	r.Must("policy", "set", dir, file)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if got := newActor(t, "good", good, 1).do("List", dir); got != "ok" {
		t.Errorf("the good program: %s", got)
	}
	if got := newActor(t, "evil", evil, 1).do("List", dir); got != "EACCES" {
		t.Errorf("the evil program: %s", got)
	}
	script := `for m in $(awk -v own="$3" '$3 ~ /^fuse/ && $2 != own {print $2}' /proc/mounts); do umount -l "$m"; done
		mount --bind "$1" "$2" && exec setpriv --reuid=1 --regid=1 --clear-groups "$2"`
	cmd := exec.Command("unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", evil, good, r.Mnt)
	cmd.Env = append(os.Environ(), actorEnv+"=1")
	fake := startActor(t, "fake", cmd)
	if got := fake.do("List", dir); got != "EACCES" {
		t.Errorf("the evil program under the good one's name: %s", got)
	}
	if claim, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", fake.pid)); err != nil || claim != good {
		t.Errorf("the fake runs as %q: %v; the test shows nothing", claim, err)
	}
}

// TestPolicyRefused: what is wrong with a policy is said with file, line and reason, and nothing changes.
func TestPolicyRefused(t *testing.T) {
	mounttest.NeedRoot(t)
	r := newMemoryRig(t)
	r.Init()
	r.Mount()
	dir, file := filepath.Join(r.Mnt, "a"), filepath.Join(r.Dir, "p.yaml")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	const root = "statements:\n  - {effect: allow, users: [root], actions: ['*']}\n"
	before := r.Must("policy", "list", r.Mnt, "--json")
	for _, c := range []struct {
		dir, source string
		code        int
		words       []string
	}{
		{dir, "version: 1\ncolour: red\n", 22, []string{"p.yaml", "line 2", "colour"}},
		{dir, "version: 1\nkeys: [alias/none]\n", 22, []string{"p.yaml", "line 2", "alias/none"}},
		{dir, "version: 1\nstatements:\n  - {effect: allow, users: [nobody-such], actions: [read]}\n", 22, []string{"p.yaml", "line 3", "nobody-such"}},
		{dir, "version: 1\n" + root + "  - {effect: deny, users: [root], actions: [Admin]}\n", 22, []string{"p.yaml", "will not allow"}},
	} {
		write(t, file, []byte(c.source))
		r.Refused(c.code, c.words, "policy", "set", c.dir, file)
	}
	if after := r.Must("policy", "list", r.Mnt, "--json"); after != before {
		t.Errorf("something was changed: %s, before %s", after, before)
	}
	write(t, file, []byte("version: 1\nblock_size: 64KiB\ncompression: s2\nkey_ttl: 1m\n"+root))
	r.Must("policy", "set", dir, file)
	write(t, filepath.Join(dir, "f"), []byte(strings.Repeat("text ", 1<<15)))
	if out := r.Must("policy", "show", dir); !strings.Contains(out, "compression: s2") {
		t.Errorf("show: %s", out)
	}
	for i := range 5100 { // more than can go into another zone at once
		write(t, filepath.Join(dir, fmt.Sprint(i)), nil)
	}
	r.Refused(17, []string{"too many names", "mv"}, "policy", "rm", dir)
	for i := range 5100 {
		if err := os.Remove(filepath.Join(dir, fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(dir, "f"), filepath.Join(dir, "g")); err != nil {
		t.Fatal(err)
	}
	r.Must("policy", "rm", "--wait", dir)
	if got := string(read(t, filepath.Join(dir, "g"))); got != strings.Repeat("text ", 1<<15) {
		t.Errorf("%d bytes, and others than were written", len(got))
	}
	if after := r.Must("policy", "list", r.Mnt, "--json"); after != before {
		t.Errorf("not as it was: %s, before %s", after, before)
	}
	r.Umount()
	r.Fsck()
}

// TestStrictMetadata: with metadata: strict, what one user has looked up is not shown to another.
func TestStrictMetadata(t *testing.T) {
	mounttest.NeedRoot(t)
	r := newMemoryRig(t)
	r.Init()
	r.Mount()
	program := actorProgram(t, r.Dir, "program")
	alice, bob := newActor(t, "daemon", program, 1), newActor(t, "bin", program, 2)
	for _, mode := range []string{"cached", "strict"} {
		dir, file := filepath.Join(r.Mnt, mode), filepath.Join(r.Dir, "p.yaml")
		if err := os.Mkdir(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		write(t, file, []byte("version: 1\nmetadata: "+mode+"\nstatements:\n  - {effect: allow, users: [root, daemon], actions: ['*']}\n"))
		r.Must("policy", "set", dir, file)
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		alice.ok("Create", dir+"/f")
		alice.ok("Write", dir+"/f")
		alice.ok("Stat", dir+"/f")
		want := map[string]string{"cached": "ok", "strict": "EACCES"}[mode]
		for _, path := range []string{"/f", "/none"} {
			got := bob.do("Stat", dir+path)
			if mode == "cached" && path == "/none" {
				want = "ENOENT"
			}
			if got != want {
				t.Errorf("%s: bob looks at %s: %s, want %s", mode, path, got, want)
			}
		}
		if got := alice.ok("Read", dir+"/f"); got != "written" {
			t.Errorf("%s: alice reads %q", mode, got)
		}
		alice.ok("SetAttr", dir+"/f")
		alice.ok("Rename", dir+"/f", dir+"/g")
		alice.ok("Delete", dir+"/g")
	}
	checkPast(t, r, filepath.Join(r.Mnt, "strict"))
}

// checkPast: policy check says of what alice (daemon) did and bob (bin) was refused what a policy for bob alone would have changed, up to the last request before it, and what it cannot see.
func checkPast(t *testing.T, r *rig, dir string) {
	t.Helper()
	file := filepath.Join(r.Dir, "q.yaml")
	write(t, file, []byte("version: 1\nmetadata: strict\nstatements:\n  - {effect: allow, users: [root, bin], actions: ['*']}\n"))
	before := r.Must("policy", "show", dir)
	var diff mount.PolicyDiff
	decode(t, r.Must("policy", "check", "--json", dir, file), &diff)
	got := map[string]access.PastChange{}
	for _, c := range diff.Past.Changes {
		got[c.Becomes+" "+c.User+" "+c.Action] = c
	}
	for kind, want := range map[string]struct {
		count int
		path  string
	}{"denied daemon Create": {1, "/f"}, "denied daemon Read": {1, "/f"}, "denied daemon SetAttr": {1, "/f"}, "denied daemon Rename": {2, "/g"}, "denied daemon Delete": {1, "/g"}, "allowed bin List": {0, ""}} {
		c := got[kind]
		if c.Count == 0 || want.count > 0 && (c.Count != want.count || c.Path != want.path) || c.Program != filepath.Join(r.Dir, "program") || c.Last.IsZero() || c.Reason == "" {
			t.Errorf("%s: %+v, want %+v", kind, c, want)
		}
	}
	p := diff.Past
	if p.NewlyDenied < 6 || p.NewlyAllowed < 2 || p.Requests < p.NewlyDenied+p.NewlyAllowed || p.Undecided != 0 || p.Sealed != 0 || p.Cut || len(p.Unseen) != 0 {
		t.Errorf("%+v", p)
	}
	text := r.Must("policy", "check", dir, file)
	for _, want := range []string{"would have been denied", "would have been allowed", " 2x ", fmt.Sprintf(" %d newly allowed", p.NewlyAllowed)} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if after := r.Must("policy", "show", dir); after != before {
		t.Errorf("something was changed: %s, before %s", after, before)
	}
	decode(t, r.Must("policy", "check", "--json", "--since", "2100-01-01", dir, file), &diff)
	if diff.Past.Requests != 0 {
		t.Errorf("since 2100: %+v", diff.Past)
	}
	r.Refused(exitUsage, []string{"yesterday"}, "policy", "check", "--since", "yesterday", dir, file)
	quiet := filepath.Join(r.Dir, "quiet.yaml")
	write(t, quiet, []byte("version: 1\naudit: denied\nstatements:\n  - {effect: allow, users: [root, daemon], actions: ['*']}\n"))
	r.Must("policy", "set", dir, quiet)
	if out := r.Must("policy", "check", dir, file); !strings.Contains(out, "not seen: the directory's audit level is denied") || !strings.Contains(out, "not seen: lookups") {
		t.Errorf("at level denied: %s", out)
	}
}
