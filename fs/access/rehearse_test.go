package access

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/fs/dirpolicy"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/policy"
)

func parsePolicy(t *testing.T, members, statements string) *dirpolicy.Policy {
	t.Helper()
	p, err := dirpolicy.Parse([]byte("version: 1\n"+members+"statements:\n"+statements), dirpolicy.Resolver{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// namedUser is a user with a group of the same name and others.
func namedUser(uid uint32, name string, groups ...string) Subject {
	return Subject{Principal: policy.Principal{ARN: policy.UserARN(keymgr.AccountID, name), Account: keymgr.AccountID, Unix: &policy.Unix{UID: uid, User: name, Groups: append(groups, name)}}}
}

// TestCompare: what becomes different for users and files; each policy sees paths from its own directory on.
func TestCompare(t *testing.T) {
	alice := []Subject{namedUser(7, "alice")}
	old := parsePolicy(t, "", "  - {effect: allow, users: [alice], actions: [Read, List]}\n")
	next := parsePolicy(t, "", "  - {effect: allow, users: [alice], actions: [Read, Write], paths: ['/a*']}\n")
	inner := parsePolicy(t, "", "  - {effect: allow, users: [alice], actions: [Read, Write], paths: ['/z/a*']}\n")
	for _, c := range []struct {
		swap Swap
		want map[string]int
	}{
		{Swap{Was: old, Next: next, Around: "/z", Dir: "/z"}, map[string]int{"denied Read": 1, "denied List": 2, "allowed Write": 1}},
		{Swap{Was: inner, Next: next, Around: "/", Dir: "/z"}, map[string]int{}},
		{Swap{Around: "/", Dir: "/"}, map[string]int{}},
	} {
		c.swap.Now = time.Now()
		got := c.swap.Compare(alice, []string{"/a", "/b"})
		if len(got) != len(c.want) {
			t.Errorf("%+v", got)
		}
		for _, g := range got {
			if c.want[g.Becomes+" "+g.Action] != g.Files || g.User != "alice" {
				t.Errorf("%+v, want %v", g, c.want)
			}
		}
	}
}

// past is an event of zone 3, whose directory is /z, as a daemon records it.
func past(name, who, path string, minute int, change func(*audit.Event)) *audit.Event {
	uid := map[string]int{"alice": 7, "bob": 8, "carol": 9}[who]
	e := &audit.Event{Class: audit.Access, Source: audit.Files, Name: name, ReadOnly: name == audit.Open, Decision: audit.Allow, Time: time.Date(2026, 11, 20, 12, minute, 0, 0, time.UTC),
		Identity: audit.Identity{Principal: policy.UserARN(keymgr.AccountID, who), UID: uid, GID: uid, Program: "/usr/bin/cat"}, Object: audit.Object{Zone: 3, Path: path}}
	if change != nil {
		change(e)
	}
	return e
}

// rehearsed has the events, written and read as in the log, decided by both policies.
func rehearsed(t *testing.T, s Swap, events ...*audit.Event) Past {
	t.Helper()
	users := map[uint32]Subject{7: namedUser(7, "alice", "staff"), 8: namedUser(8, "bob"), 9: namedUser(9, "another")}
	s.Zone, s.Around, s.Now = 3, "/z", time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	if s.Dir == "" {
		s.Dir = "/z"
	}
	r := s.Rehearse(func(uid, _ uint32) Subject { return users[uid] })
	for i, e := range events {
		body, err := e.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		read, err := audit.Parse(audit.AppendSequence(body, uint64(i)))
		if err != nil {
			t.Fatal(err)
		}
		r.Add(read)
	}
	return r.Result()
}

// changes writes what differs in short.
func changes(p Past) (out []string) {
	for _, c := range p.Changes {
		out = append(out, fmt.Sprintf("%s %s %s %s %dx %s", c.Becomes, c.User, c.Action, c.Program, c.Count, c.Path))
	}
	return out
}

// TestRehearse: requests of the log are decided by both policies and grouped by user, action and program, with the last one of each as the example.
func TestRehearse(t *testing.T) {
	was := parsePolicy(t, "", "  - {effect: allow, groups: [staff], actions: ['*']}\n")
	next := parsePolicy(t, "metadata: strict\n", "  - {effect: allow, users: [alice], actions: [List, Read]}\n  - {effect: allow, users: [bob], actions: [Read, Write], programs: [/usr/bin/cat], paths: ['/open/*']}\n")
	deny := func(e *audit.Event) { e.Class, e.Decision, e.ErrorCode = audit.Denial, audit.Deny, "AccessDenied" }
	got := rehearsed(t, Swap{Was: was, Next: next},
		past(audit.Open, "alice", "/z/a", 1, nil),
		past(audit.Create, "alice", "/z/second", 5, nil),
		past(audit.Create, "alice", "/z/third", 4, nil), // blocks of the log come the newest first
		past(audit.Create, "alice", "/z/first", 3, func(e *audit.Event) { e.Program = "/bin/cp" }),
		past(audit.Open, "bob", "/z/open/b", 6, deny),
		past(audit.Open, "bob", "/z/open/c", 6, func(e *audit.Event) { deny(e); e.Program = "/bin/cp" }),
		past(audit.Open, "bob", "/z/b", 6, deny),
		past(audit.Open, "bob", "/z/open/b", 7, func(e *audit.Event) { deny(e); e.ReadOnly = false }),
		past(audit.Open, "carol", "/z/a", 8, nil), // somebody else has her number now
		past(audit.Close, "alice", "/z/a", 9, nil),
		past(audit.Open, "alice", "/y/a", 9, func(e *audit.Event) { e.Zone = 4 }),
		past(audit.Lookup, "alice", "/z/a", 9, nil),
		&audit.Event{Class: audit.Access, Source: audit.Files, Name: audit.Open, Decision: audit.Allow, Time: time.Now(), Sealed: "x"},
	)
	want := []string{"allowed bob Read /usr/bin/cat 1x /open/b", "allowed bob Write /usr/bin/cat 1x /open/b", "denied alice Create /usr/bin/cat 2x /second", "denied alice Create /bin/cp 1x /first"}
	if !slices.Equal(changes(got), want) {
		t.Errorf("%s\nwant %s", strings.Join(changes(got), "\n"), strings.Join(want, "\n"))
	}
	if got.Requests != 10 || got.NewlyDenied != 3 || got.NewlyAllowed != 2 || got.Undecided != 1 || got.Sealed != 1 || got.From.Minute() != 1 {
		t.Errorf("%+v", got)
	}
	if c := got.Changes[2]; c.Reason != "no statement allows it" || c.Last.Minute() != 5 {
		t.Errorf("%+v", c)
	}
}

// TestRehearseRenames: each event of a rename is about the name that it was decided for; a file that left or came is a removal or a creation, too.
func TestRehearseRenames(t *testing.T) {
	was := parsePolicy(t, "", "  - {effect: allow, users: [alice], actions: ['*']}\n")
	rename := func(detail string, from, to float64) *audit.Event {
		return past(audit.Rename, "alice", "/z/a", 1, func(e *audit.Event) {
			e.Zone, e.NewPath, e.Detail = uint64(from), "/z/keep/b", detail
			if from != to {
				e.Parameters = map[string]any{destinationZone: uint64(to)}
			}
		})
	}
	for _, c := range []struct {
		denied string
		event  *audit.Event
		want   []string
	}{
		{"actions: [Rename], paths: ['/keep/*']", rename(forOldName, 3, 3), nil},
		{"actions: [Rename], paths: ['/keep/*']", rename(forNewName+"; both names are exchanged", 3, 3), []string{"denied alice Rename /usr/bin/cat 1x /keep/b"}},
		{"actions: [Delete]", rename(forOldName, 3, 3), nil},
		{"actions: [Delete]", rename("", 3, 5), []string{"denied alice Delete /usr/bin/cat 1x /a"}},
		{"actions: [Create]", rename("", 5, 3), []string{"denied alice Create /usr/bin/cat 1x /keep/b"}},
		{"actions: [Create, Delete, Rename]", rename("", 5, 6), nil},
	} {
		next := parsePolicy(t, "", "  - {effect: allow, users: [alice], actions: ['*']}\n  - {effect: deny, users: [alice], "+c.denied+"}\n")
		if got := rehearsed(t, Swap{Was: was, Next: next}, c.event); !slices.Equal(changes(got), c.want) {
			t.Errorf("%s, %s: %v, want %v", c.denied, c.event.Detail, changes(got), c.want)
		}
	}
}

// TestRehearseUndecided: what depends on what the log does not have is not guessed, and times are those of the requests.
func TestRehearseUndecided(t *testing.T) {
	all := "  - {effect: allow, users: [alice], actions: ['*']}\n"
	admin := func(e *audit.Event) { e.Class = audit.Admin }
	for _, c := range []struct {
		what, statements  string
		event             *audit.Event
		denied, undecided int
	}{
		{"a digest that was not recorded", "  - {effect: allow, users: [alice], actions: ['*'], program_sha256: ['" + strings.Repeat("ab", 32) + "']}\n", past(audit.Open, "alice", "/z/a", 1, nil), 0, 1},
		{"one that was", "  - {effect: allow, users: [alice], actions: ['*'], program_sha256: ['" + strings.Repeat("ab", 32) + "']}\n",
			past(audit.Open, "alice", "/z/a", 1, func(e *audit.Event) { e.ProgramSHA256 = strings.Repeat("cd", 32) }), 1, 0},
		{"a path that was not recorded", "  - {effect: allow, users: [alice], actions: ['*'], paths: ['/a']}\n", past(audit.Open, "alice", "", 1, nil), 0, 1},
		{"a time that was over", all + "  - {effect: deny, users: [alice], actions: [Read], not_after: 2026-11-20T12:30:00Z}\n", past(audit.Open, "alice", "/z/a", 31, nil), 0, 0},
		{"a time that was not", all + "  - {effect: deny, users: [alice], actions: [Read], not_after: 2026-11-20T12:30:00Z}\n", past(audit.Open, "alice", "/z/a", 29, nil), 1, 0},
		{"administration that the key store decides", "  - {effect: allow, users: [bob], actions: [Admin]}\n", past("AdministerZone", "alice", "/z", 1, admin), 0, 1},
		{"administration denied", "  - {effect: deny, users: [alice], actions: [Admin]}\n", past("AdministerZone", "alice", "/z", 1, admin), 1, 0},
	} {
		got := rehearsed(t, Swap{Was: parsePolicy(t, "", all), Next: parsePolicy(t, "", c.statements)}, c.event)
		if got.Requests != 1 || got.NewlyDenied != c.denied || got.Undecided != c.undecided || got.NewlyAllowed != 0 {
			t.Errorf("%s: %+v", c.what, got)
		}
	}
}

// TestRehearseModes: learn mode counts as it does now, and lookups as far as each policy decides them.
func TestRehearseModes(t *testing.T) {
	all, none := "  - {effect: allow, users: [alice], actions: ['*']}\n", "  - {effect: allow, users: [bob], actions: ['*']}\n"
	read, lookup := past(audit.Open, "alice", "/z/a", 1, nil), past(audit.Lookup, "alice", "/z/a", 1, func(e *audit.Event) { e.ReadOnly = true })
	for _, c := range []struct {
		was, next string // members of the policies
		event     *audit.Event
		denied    int
	}{
		{"", "", read, 1},
		{"", "learn: 2026-11-27\n", read, 0},
		{"", "learn: 2026-11-25\n", read, 1}, // over now, not then
		{"metadata: strict\n", "metadata: strict\n", lookup, 1},
		{"metadata: strict\n", "", lookup, 0},
	} {
		got := rehearsed(t, Swap{Was: parsePolicy(t, c.was, all), Next: parsePolicy(t, c.next, none)}, c.event)
		if got.Requests != 1 || got.NewlyDenied != c.denied || got.NewlyAllowed != 0 || got.Undecided != 0 {
			t.Errorf("%q then %q, %s: %+v", c.was, c.next, c.event.Name, got)
		}
	}
}

// TestRehearseBelow: for a directory that is no zone yet, what lies in it counts, and its own name belongs to the zone around.
func TestRehearseBelow(t *testing.T) {
	next := parsePolicy(t, "", "  - {effect: allow, users: [bob], actions: ['*']}\n")
	got := rehearsed(t, Swap{Next: next, Dir: "/z/sub"},
		past(audit.Open, "alice", "/z/sub/a", 1, nil), past(audit.OpenDir, "alice", "/z/sub", 1, nil), past(audit.Create, "alice", "/z/sub", 1, nil),
		past(audit.Open, "alice", "/z/subway", 1, nil), past(audit.Open, "alice", "/z/a", 1, nil))
	if want := []string{"denied alice List /usr/bin/cat 1x /", "denied alice Read /usr/bin/cat 1x /a"}; !slices.Equal(changes(got), want) || got.Requests != 2 {
		t.Errorf("%v, want %v", changes(got), want)
	}
}

// TestRehearseBounded: programs, whose names anybody chooses, do not fill the memory; what is not told apart is counted.
func TestRehearseBounded(t *testing.T) {
	s := Swap{Next: parsePolicy(t, "", "  - {effect: allow, users: [bob], actions: ['*']}\n"), Zone: 3, Around: "/z", Dir: "/z"}
	r := s.Rehearse(func(uint32, uint32) Subject { return namedUser(7, "alice") })
	for i := range maxPastChanges + 10 {
		r.Add(past(audit.Open, "alice", "/z/a", 1, func(e *audit.Event) { e.Program = fmt.Sprint("/", i) }))
	}
	if got := r.Result(); len(got.Changes) != maxPastChanges || got.LeftOut != 10 || got.NewlyDenied != maxPastChanges+10 {
		t.Errorf("%d changes, %d left out, %d denied", len(got.Changes), got.LeftOut, got.NewlyDenied)
	}
}
