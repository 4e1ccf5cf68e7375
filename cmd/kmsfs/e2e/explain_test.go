package e2e

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// lastDenial is what explain --last says.
type lastDenial struct {
	Time                  time.Time
	Action, Cause, Reason string
	Zone                  uint64
}

// TestExplainLastOfKeys: what keys refuse, on open files too, is told to who asked like what policies refuse, with a cause that programs can read, and to nobody else.
func TestExplainLastOfKeys(t *testing.T) {
	r := newMemoryRig(t)
	r.Init()
	r.Mount("--key-ttl", "1s")
	dir := filepath.Join(r.Mnt, "a")
	file := filepath.Join(dir, "f")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r.Must("key", "create", "--alias", "guarded")
	policy := filepath.Join(r.Dir, "policy.yaml")
	write(t, policy, []byte("version: 1\nkeys: [alias/guarded]\n"))
	r.Must("policy", "set", dir, policy)
	write(t, file, []byte("content"))
	if res := r.Run("explain", "--last", r.Mnt); res.Code == 0 {
		t.Errorf("before anything was refused: %s", res.Out)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	readable := func() error {
		_, err := f.ReadAt(make([]byte, 1), 0)
		return err
	}
	last := func() (d lastDenial) {
		t.Helper()
		if err := json.Unmarshal([]byte(r.Must("explain", "--last", "--json", file)), &d); err != nil {
			t.Fatal(err)
		}
		return d
	}
	for _, c := range []struct {
		revoke, restore []string
		cause           string
	}{
		{[]string{"key", "disable", "alias/guarded"}, []string{"key", "enable", "alias/guarded"}, "key-disabled"},
		{[]string{"lock", dir}, []string{"unlock", dir}, "zone-locked"},
	} {
		before := time.Now()
		r.Must(c.revoke...)
		mounttest.Eventually(t, time.Minute, "the open file is revoked", func() bool { return errors.Is(readable(), syscall.EKEYREVOKED) })
		if d := last(); d.Cause != c.cause || d.Action != "read" || d.Zone < 2 || d.Reason == "" || d.Time.Before(before.Add(-time.Second)) {
			t.Errorf("%s, an open file is read: %+v", c.revoke[0], d)
		}
		if _, err := os.Open(file); !errors.Is(err, syscall.EKEYREVOKED) {
			t.Errorf("%s, a file is opened: %v", c.revoke[0], err)
		}
		d := last()
		if d.Cause != c.cause || d.Action != "kmsfs:Read" {
			t.Errorf("%s, a file is opened: %+v", c.revoke[0], d)
		}
		if out := r.Must("audit", "query", "--keystore", r.Store, "--path", "/a/f", "--decision", "deny"); !strings.Contains(out, "by="+d.Reason) {
			t.Errorf("%s, the denial of the open is recorded as %q", c.revoke[0], out)
		}
		r.Must(c.restore...)
		mounttest.Eventually(t, time.Minute, "the open file works again", func() bool { return readable() == nil })
	}
	r.Kill(r.KeydPID())
	mounttest.Eventually(t, time.Minute, "a new file needs the key manager", func() bool {
		return errors.Is(os.WriteFile(filepath.Join(dir, "new"), nil, 0o600), syscall.ENOKEY)
	})
	if d := last(); d.Cause != "key-unavailable" || d.Reason == "" {
		t.Errorf("without the key manager: %+v", d)
	}
	r.Must(append([]string{"keyd", "--keystore", r.Store}, r.Secret...)...)
}
