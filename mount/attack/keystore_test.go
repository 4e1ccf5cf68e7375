package attack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/audit/trail"
	"github.com/kmsfs/kmsfs/keymgr/keystore"
	"github.com/kmsfs/kmsfs/keymgr/policy"
)

// The key store lies outside of every volume, and whoever has the volume's directory cannot reach it. These cases go further: they change its tables,
// without its secret, while no key daemon runs.

// keyStoreCase is a key store before and after a change of what it allows.
type keyStoreCase struct {
	t             *testing.T
	p             *props
	before, after string // directories of the key store
	key           string // ARN of a key
}

// caller is who asks here: the owner of the key store.
var caller = keymgr.Caller{}

// newKeyStoreCase makes a key store; prepare and change are what happens before and after the copy that an attacker keeps.
func newKeyStoreCase(t *testing.T, p *props, prepare, change func(ctx context.Context, d *keyDaemon, key string) error) *keyStoreCase {
	t.Helper()
	base := p.fresh()
	c := &keyStoreCase{t: t, p: p, before: base + ".before", after: filepath.Join(base, "keys")}
	c.must(errors.Join(os.Mkdir(base, 0o700), makeKeyStore(p.ctx, base)))
	c.session(c.after, func(d *keyDaemon) error {
		key, err := d.CreateKey(p.ctx, caller, keymgr.CreateKeyInput{})
		if err != nil {
			return err
		}
		c.key = key.ARN
		return prepare(p.ctx, d, c.key)
	})
	c.must(copyTree(c.after, c.before))
	c.session(c.after, func(d *keyDaemon) error { return change(p.ctx, d, c.key) })
	return c
}

func (c *keyStoreCase) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *keyStoreCase) session(dir string, fn func(d *keyDaemon) error) {
	c.t.Helper()
	d, err := startKeys(dir)
	c.must(err)
	c.must(errors.Join(fn(d), d.stop()))
}

// copy returns a copy of the key store as it is after the change.
func (c *keyStoreCase) copy() string {
	c.t.Helper()
	dir := c.p.fresh()
	c.must(copyTree(c.after, dir))
	return dir
}

// oldRows returns what puts the rows that changed back to what they were, and removes those that are new; without the store's own.
func (c *keyStoreCase) oldRows() rows {
	c.t.Helper()
	before, after, out := readRows(c.t, filepath.Join(c.before, "db")), readRows(c.t, filepath.Join(c.after, "db")), rows{}
	for k, v := range after {
		if k[0] != 0 && !bytes.Equal(v, before[k]) {
			out[k] = before[k]
		}
	}
	for k, v := range before {
		if k[0] != 0 && after[k] == nil {
			out[k] = v
		}
	}
	if len(out) == 0 {
		c.t.Fatal("no row changed")
	}
	return out
}

// refused checks that a key store serves nobody.
func (c *keyStoreCase) refused(what, dir string) {
	c.t.Helper()
	began := time.Now().Truncate(time.Millisecond)
	d, err := startKeys(dir)
	if err == nil {
		if _, err := d.DescribeKey(c.p.ctx, caller, c.key); err == nil {
			c.t.Errorf("%s: the key store serves", what)
		}
		c.must(d.stop())
	}
	told := false
	q := trail.Query{Since: began, Name: audit.Damage, Internal: true}
	c.must(trail.Search(c.p.ctx, filepath.Dir(keystore.LogPath(dir)), q, func(f trail.Found) error {
		told = told || strings.Contains(f.Event.ErrorMessage, tampered)
		return nil
	}))
	if !told {
		c.t.Errorf("%s: no event says so", what)
	}
}

// rolledBack runs a function on the key store that was put back as a whole, which is not noticed with an embedded token.
func (c *keyStoreCase) rolledBack(fn func(d *keyDaemon) error) {
	c.t.Helper()
	dir := c.copy()
	c.must(errors.Join(os.RemoveAll(filepath.Join(dir, "db")), copyTree(filepath.Join(c.before, "db"), filepath.Join(dir, "db"))))
	c.session(dir, fn)
	inThreatModel(c.t, "With the embedded token there is nothing outside the key store that could notice its rollback:")
}

// attackA15 puts a key's policy back to one that allows more.
func attackA15(t *testing.T, p *props) {
	wide := string(policy.DefaultPolicy(keymgr.AccountID))
	c := newKeyStoreCase(t, p,
		func(ctx context.Context, d *keyDaemon, key string) error {
			return d.PutKeyPolicy(ctx, caller, key, "", wide, true)
		},
		func(ctx context.Context, d *keyDaemon, key string) error {
			return d.PutKeyPolicy(ctx, caller, key, "", denyDecrypt(wide), true)
		})
	dir := c.copy()
	c.session(dir, func(d *keyDaemon) error { return c.policyIs(d, denyDecrypt(wide)) })
	writeRows(t, filepath.Join(dir, "db"), c.oldRows())
	c.refused("an older policy", dir)
	dir = c.copy()
	gone := rows{}
	for k := range c.oldRows() {
		gone[k] = nil // a key without a policy has the default one
	}
	writeRows(t, filepath.Join(dir, "db"), gone)
	c.refused("no policy", dir)
	c.rolledBack(func(d *keyDaemon) error { return c.policyIs(d, wide) })
	for what, change := range map[string]func(m members){
		"a weaker parameter in kmsfs.json": func(m members) { m["suite"] = 0 },
		"a feature less":                   func(m members) { delete(m, "features") },
	} {
		s := p.scene(t, p.closed)
		s.editJSON(change)
		s.expect(what, expect{refused: "damaged", says: "kmsfs.json"})
	}
}

// denyDecrypt returns a policy that forbids what another allows.
func denyDecrypt(document string) string {
	deny := `"Statement":[{"Sid":"no","Effect":"Deny","Principal":"*","Action":"kms:Decrypt","Resource":"*"},`
	compact := strings.Join(strings.Fields(document), "")
	return strings.Replace(compact, `"Statement":[`, deny, 1)
}

func (c *keyStoreCase) policyIs(d *keyDaemon, want string) error {
	got, err := d.GetKeyPolicy(c.p.ctx, caller, c.key, "")
	if err == nil && strings.Join(strings.Fields(got), "") != strings.Join(strings.Fields(want), "") {
		c.t.Errorf("the policy is %s, want %s", got, want)
	}
	return err
}

// attackA16 puts back a grant that was revoked.
func attackA16(t *testing.T, p *props) {
	var made keymgr.NewGrant
	c := newKeyStoreCase(t, p,
		func(ctx context.Context, d *keyDaemon, key string) (err error) {
			made, err = d.CreateGrant(ctx, caller, keymgr.CreateGrantInput{KeyID: key, Grantee: policy.RootARN(keymgr.AccountID), Operations: []string{"Decrypt"}})
			return err
		},
		func(ctx context.Context, d *keyDaemon, key string) error {
			return d.RevokeGrant(ctx, caller, key, made.ID, false)
		})
	dir := c.copy()
	c.session(dir, func(d *keyDaemon) error { return c.grants(d, 0) })
	writeRows(t, filepath.Join(dir, "db"), c.oldRows())
	c.refused("a revoked grant", dir)
	c.rolledBack(func(d *keyDaemon) error { return c.grants(d, 1) })
}

func (c *keyStoreCase) grants(d *keyDaemon, want int) error {
	list, err := d.ListGrants(c.p.ctx, caller, c.key, keymgr.GrantFilter{}, keymgr.Page{})
	if err == nil && len(list.Grants) != want {
		c.t.Errorf("%d grants, want %d", len(list.Grants), want)
	}
	return err
}

// attackA17: a key store whose audit log was cut, reordered, changed or replaced by an older one stays closed, and says why.
func attackA17(t *testing.T, p *props) {
	inThreatModel(t, "refuses a log that does not contain its sealed head")
	first := func(log string) string { return filepath.Join(log, fmt.Sprintf("%016d.jsonl", 0)) }
	for what, do := range map[string]func(log string) error{
		"cut":       func(log string) error { return os.Truncate(first(log), 2000) },
		"gone":      os.RemoveAll,
		"reordered": func(log string) error { return reverseLines(first(log)) },
		"edited":    func(log string) error { return replaceIn(first(log), `"decision":"allow"`, `"decision":"deny"`) },
		"older":     nil,
	} {
		dir := p.fresh()
		if err := errors.Join(copyTree(p.keys.dir, dir), os.RemoveAll(filepath.Join(dir, "run"))); err != nil {
			t.Fatal(err)
		}
		log := keystore.LogPath(dir)
		oneSession(t, dir)
		old := p.fresh()
		if err := copyTree(log, old); err != nil {
			t.Fatal(err)
		}
		oneSession(t, dir)
		if do == nil {
			do = func(log string) error { return errors.Join(os.RemoveAll(log), copyTree(old, log)) }
		}
		if err := do(log); err != nil {
			t.Fatal(err)
		}
		d, err := startKeys(dir)
		if err != nil {
			if !strings.Contains(err.Error(), "audit") {
				t.Errorf("%s: refused for another reason: %v", what, err)
			}
			continue
		}
		st, err := d.Status(p.ctx)
		if err != nil || !st.Locked {
			t.Errorf("%s: the key store opens (%v)", what, err)
		}
		if err := d.stop(); err != nil {
			t.Error(err)
		}
	}
}

// oneSession starts and ends a key daemon cleanly.
func oneSession(t *testing.T, dir string) {
	d, err := startKeys(dir)
	if err == nil {
		err = d.stop()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func replaceIn(name, from, to string) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	return os.WriteFile(name, []byte(strings.Replace(string(b), from, to, 1)), 0o600)
}

func reverseLines(name string) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	for i, j := 0, len(lines)-1; i < j; i, j = i+1, j-1 {
		lines[i], lines[j] = lines[j], lines[i]
	}
	return os.WriteFile(name, []byte(strings.Join(lines, "\n")+"\n"), 0o600)
}
