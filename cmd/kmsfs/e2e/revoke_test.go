package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// within is what revocation promises; a loaded machine is waited for longer, and the time is printed.
const revokedWithin = 2 * time.Second

const principal = "arn:aws:iam::000000000000:unix/user/"

// revocation is a zone with a key of its own, and what uses it: alice, from whom rights are taken, and bob, who keeps his.
type revocation struct {
	*rig
	t          *testing.T
	dir, file  string
	alice, bob *actor
	times      []time.Duration
}

const revocationPolicy = "version: 1\nkeys: [alias/guarded]\nrevocation: %s\nstatements:\n  - {effect: allow, users: [root, bin%s], actions: ['*']}\n"

func newRevocation(t *testing.T, mode string, keyd ...string) *revocation {
	mounttest.NeedRoot(t)
	r := newMemoryRig(t)
	r.Init()
	if len(keyd) > 0 { // a key daemon with options
		r.Must(append(append([]string{"keyd", "--keystore", r.Store}, r.Secret...), keyd...)...)
	}
	r.Mount()
	v := &revocation{rig: r, t: t, dir: filepath.Join(r.Mnt, "a")}
	v.file = filepath.Join(v.dir, "f")
	if err := os.Mkdir(v.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(r.Dir, "key.json")
	write(t, key, []byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":["`+principal+`root","`+principal+`bin"]},"Action":"kms:*","Resource":"*"}}`))
	r.Must("key", "create", "--alias", "guarded", "--policy", key)
	v.policy(mode, true)
	if err := os.Chmod(v.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	program := actorProgram(t, r.Dir, "program")
	v.alice, v.bob = newActor(t, "daemon", program, 1), newActor(t, "bin", program, 2)
	v.bob.ok("Create", v.file)
	return v
}

// policy sets the zone's policy, with alice in it or not.
func (v *revocation) policy(mode string, alice bool) {
	v.t.Helper()
	also := ""
	if alice {
		also = ", daemon"
	}
	path := filepath.Join(v.Dir, "policy.yaml")
	write(v.t, path, []byte(fmt.Sprintf(revocationPolicy, mode, also)))
	v.Must("policy", "set", v.dir, path)
}

func (v *revocation) grant() string {
	v.t.Helper()
	return strings.Fields(v.Must("grant", "create", "alias/guarded", "--grantee", principal+"daemon", "--operations", "Decrypt,GenerateDataKey"))[1]
}

// until waits until a change that began at start is seen as cond says, and notes how long that took.
func (v *revocation) until(start time.Time, what string, cond func() bool) {
	v.t.Helper()
	mounttest.Eventually(v.t, time.Minute, what, cond)
	v.times = append(v.times, time.Since(start))
}

// report prints how long revocations took.
func (v *revocation) report() {
	slices.Sort(v.times)
	n := len(v.times)
	late := 0
	for _, d := range v.times {
		if d > revokedWithin {
			late++
		}
	}
	v.t.Logf("%d revocations, command included: median %v, p99 %v, maximum %v, %d after more than %v", n, v.times[n/2], v.times[n*99/100], v.times[n-1], late, revokedWithin)
}

// TestRevokeZone takes a zone out of use while two users have a file open and mapped, with dirty pages: by its key and by a lock. Everything fails, and nothing that was
// written before is lost.
func TestRevokeZone(t *testing.T) {
	v := newRevocation(t, "shared")
	v.grant()
	for i := range mounttest.Times(4, 200) {
		v.zoneTrial(fmt.Sprintf("disable %04d", i), []string{"key", "disable", "alias/guarded"}, []string{"key", "enable", "alias/guarded"})
		v.zoneTrial(fmt.Sprintf("lock    %04d", i), []string{"lock", v.dir}, []string{"unlock", v.dir})
	}
	v.report()
	v.Umount()
	v.Fsck()
}

// zoneTrial is one revocation and its end; mark tells it from others.
func (v *revocation) zoneTrial(mark string, revoke, restore []string) {
	t := v.t
	t.Helper()
	mounttest.Eventually(t, time.Minute, "the zone is in use", func() bool { return v.alice.do("open", "f", v.file) == "ok" })
	v.bob.ok("openro", "f", v.file)
	v.alice.ok("pwritefar", "f", "synced "+mark)
	v.alice.ok("fsync", "f")
	v.alice.ok("mmap", "f")
	v.alice.ok("pwrite", "f", "dirty "+mark) // stays in the page cache
	if got := v.bob.ok("pread", "f"); !strings.HasPrefix(got, "dirty "+mark) {
		t.Fatalf("bob reads %q", got)
	}
	v.alice.ok("touch", "f")
	start, answers := time.Now(), ""
	v.Must(revoke...)
	v.until(start, mark, func() bool {
		last := answers
		answers = strings.Join([]string{v.alice.do("pread", "f"), v.bob.do("pread", "f"), v.alice.do("touch", "f"), v.bob.do("Read", v.file), v.alice.do("Create", v.dir+"/g")}, " ")
		if answers != last && last != "" {
			t.Logf("%s: alice and bob read, alice touches, bob opens, alice creates: %s", mark, answers)
		}
		return answers == "EKEYREVOKED EKEYREVOKED SIGBUS EKEYREVOKED EKEYREVOKED"
	})
	v.Must(restore...)
	mounttest.Eventually(t, time.Minute, "the open file works again", func() bool { return strings.HasPrefix(v.bob.do("pread", "f"), "ok") })
	if got := v.bob.ok("pread", "f"); !strings.HasPrefix(got, "dirty "+mark) {
		t.Fatalf("%s: what was written before is %q", mark, got)
	}
	if got := string(read(t, v.file)[1<<20:]); got != "synced "+mark {
		t.Fatalf("%s: what was synced before is %q", mark, got)
	}
	v.alice.ok("close", "f")
	v.bob.ok("close", "f")
}

// TestRevokeUser takes alice's right away, while bob keeps his and reads on: by her grant and by the zone's policy. New opens are refused, and in a strict zone her open
// file.
func TestRevokeUser(t *testing.T) {
	for _, mode := range []string{"shared", "strict"} {
		t.Run(mode, func(t *testing.T) {
			v := newRevocation(t, mode)
			id := ""
			for i := range 2 * mounttest.Times(3, 200) {
				byGrant := i%2 == 0
				if id == "" {
					id = v.grant()
				}
				mounttest.Eventually(t, time.Minute, "alice may open", func() bool { return v.alice.do("open", "f", v.file) == "ok" })
				v.bob.ok("open", "f", v.file)
				mark := fmt.Sprintf("trial %04d", i)
				v.alice.ok("pwrite", "f", mark)
				start := time.Now()
				if byGrant {
					v.Must("grant", "revoke", "alias/guarded", id)
					id = ""
				} else {
					v.policy(mode, false)
				}
				v.until(start, "alice is refused", func() bool {
					if got := v.bob.ok("pread", "f"); !strings.HasPrefix(got, mark) { // and bob reads on
						t.Fatalf("bob reads %q, %q was written", got, mark)
					}
					return v.alice.do("Read", v.file) == "EACCES" && (mode == "shared" || v.alice.do("pread", "f") == "EACCES" && v.alice.do("pwrite", "f", "x") == "EACCES")
				})
				if mode == "shared" {
					v.alice.ok("pread", "f") // as documented
				}
				if !byGrant {
					v.policy(mode, true)
				}
				v.alice.ok("close", "f")
				v.bob.ok("close", "f")
			}
			v.report()
		})
	}
}
